"""One run of CMA-ES: equal to the bare library, its distributions, its integers, and when it says that it has ended."""

from __future__ import annotations

import random
from dataclasses import replace

import cma
import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.cma_strategy import CRITERIA, Strategy, _apart
from evomerge.types import Result
from tests.optimizers.driving import go, plain, pollute

STEPS = np.array([0.02, 0.05, 0.1, 0.15])
CENTRE = np.array([0.3, 0.62, 0.45, 0.7])


def told(genomes, score):
    return [Result(i, (float(score(g)),)) for i, g in enumerate(genomes)]


def sphere(genome):
    return -((genome - CENTRE) ** 2).sum()


def run(strategy, batches, score=sphere, between=lambda number: None):
    asked = []
    for number in range(batches):
        between(number)
        asked.append(strategy.ask())
        between(number + 1)
        strategy.tell(told(asked[-1], score))
    return np.array(asked)


def samples(make, n=150):
    return np.concatenate([make(seed).ask() for seed in range(n)])


# ---------------------------------------------------------------- the library's own run


@pytest.mark.parametrize("diagonal", [False, True])
def test_it_asks_what_the_bare_library_asks_whatever_others_draw(diagonal):
    np.random.seed(5)
    random.seed(5)
    options = {"bounds": [0, 1], "randn": np.random.RandomState(5).randn, "seed": np.nan, "verbose": -9}
    options |= {"CMA_stds": STEPS / STEPS.max(), "CMA_diagonal": diagonal}
    bare = cma.CMAEvolutionStrategy(np.full(4, 0.5), STEPS.max(), options)
    wanted = []
    for _ in range(30):
        wanted.append(bare.ask())
        bare.tell(wanted[-1], [-sphere(x) for x in wanted[-1]])
    found = run(Strategy(np.full(4, 0.5), STEPS, 5, diagonal=diagonal), 30, between=pollute)
    assert found.tobytes() == np.array(wanted).tobytes()


# ---------------------------------------------------------------- distributions


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_fresh_covariance_is_that_of_the_steps(diagonal):
    found = Strategy(np.full(4, 0.5), STEPS, 1, diagonal=diagonal).covariance()
    assert np.abs(found / np.outer(STEPS, STEPS) - np.eye(4)).max() < 1e-3


def test_a_covariance_is_that_of_the_samples_after_learning():
    strategy = Strategy(np.full(4, 0.5), np.full(4, 0.02), 3)
    run(strategy, 12, lambda g: -50 * (g[0] - g[1]) ** 2 - ((g - 0.5) ** 2).sum())
    with_others = np.concatenate([strategy.ask() for _ in range(4000 // strategy.population)])
    found, wanted = np.cov(with_others.T), strategy.covariance()
    spread = np.sqrt(np.diag(wanted))
    assert np.abs(found - wanted).max() < 0.1 * spread.max() ** 2
    assert np.sqrt(np.diag(found)) / spread == pytest.approx(1.0, abs=0.05)
    assert wanted[0, 1] / (spread[0] * spread[1]) > 0.2


def test_a_covariance_handed_on_gives_samples_of_its_correlations_and_the_steps_asked_for():
    spread = np.array([0.3, 0.03, 0.1, 0.2])
    correlations = np.array([[1, 0.95, 0, 0], [0.95, 1, 0, 0], [0, 0, 1, -0.8], [0, 0, -0.8, 1]])
    steps = STEPS / 3  # far from the bounds, which would fold samples
    handed = correlations * np.outer(spread, spread)
    found = samples(lambda seed: Strategy(np.full(4, 0.5), steps, seed, covariance=handed))
    assert np.abs(np.corrcoef(found.T) - correlations).max() < 0.1
    assert found.std(axis=0) / steps == pytest.approx(1.0, abs=0.08)


def test_a_covariance_handed_on_with_the_roots_of_its_diagonal_is_kept_whole():
    learned = Strategy(np.full(4, 0.5), STEPS, 1)
    run(learned, 25)
    handed = learned.covariance()
    fresh = Strategy(learned.mean(), np.sqrt(np.diag(handed)), 2, covariance=handed)
    assert fresh.covariance() == pytest.approx(handed, rel=1e-3, abs=1e-5 * handed.max())


def test_genes_that_were_one_may_be_handed_on_as_wholly_correlated():
    handed = np.full((4, 4), 0.01)
    strategy = Strategy(np.full(4, 0.5), np.full(4, 0.1), 1, covariance=handed)
    first = strategy.ask()
    assert np.ptp(first, axis=1).max() < 0.01 < np.ptp(first, axis=0).min()
    strategy.tell(told(first, sphere))
    assert np.isfinite(run(strategy, 40)).all() and not strategy.stopped.startswith("tolcond")


def test_a_diagonal_strategy_learns_steps_and_no_correlations():
    strategy = Strategy(np.full(4, 0.5), np.full(4, 0.1), 1, diagonal=True)
    run(strategy, 60, lambda g: -(np.array([1, 1, 30, 30]) * (g - CENTRE) ** 2).sum() - (g[0] - g[1]) ** 2)
    found = strategy.covariance()
    assert np.abs(found - np.diag(np.diag(found))).max() == 0
    assert np.sqrt(found[0, 0]) > 2 * np.sqrt(found[2, 2])


# ---------------------------------------------------------------- integers

LEVELS = (0, 3, 0, 7)


def test_discrete_genes_lie_in_the_middle_of_their_levels_and_all_levels_are_reached():
    asked = run(Strategy(np.full(4, 0.5), np.full(4, 0.2), 1, levels=LEVELS), 15).reshape(-1, 4)
    for at, n in ((1, 3), (3, 7)):
        assert set(asked[:, at]) == {(i + 0.5) / n for i in range(n)}
    assert len(np.unique(asked[:, 0])) == len(asked)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_levels_and_continuous_values_are_found_together(seed):
    target = np.array([0.3, 2.5 / 3, 0.7, 1.5 / 7])
    strategy = Strategy(np.full(4, 0.5), np.full(4, 0.2), seed, levels=LEVELS)
    last = run(strategy, 60, lambda g: -((g - target) ** 2).sum(), between=pollute)[-1]
    best = min(last, key=lambda g: ((g - target) ** 2).sum())
    assert np.abs(best - target).max() < 1e-3


def test_a_covariance_of_discrete_genes_is_in_gene_units():
    strategy = Strategy(np.full(4, 0.5), np.full(4, 0.3), 1, levels=LEVELS)
    assert np.sqrt(np.diag(strategy.covariance())) == pytest.approx(0.3, rel=1e-3)


def test_the_population_grows_with_the_number_of_discrete_genes():
    sizes = [
        Strategy(np.full(6, 0.5), np.full(6, 0.1), 1, levels=[4] * n + [0] * (6 - n)).population for n in (0, 1, 2, 6)
    ]
    assert sizes == [9, 11, 13, 16]


# ---------------------------------------------------------------- ends


def test_it_ends_once_it_has_converged_and_not_before():
    strategy = Strategy(np.full(4, 0.5), STEPS, 1)
    while not strategy.stopped:
        run(strategy, 1)
    name, _, why = strategy.stopped.partition(": ")
    assert CRITERIA[name] == why
    assert np.abs(strategy.mean() - CENTRE).max() < 1e-4


@pytest.mark.parametrize("score", [lambda g: 0.25, lambda g: float(g[0] > 0.99), lambda g: round(-abs(g[0] - 0.5))])
def test_a_plateau_does_not_end_it(score):
    strategy = Strategy(np.full(4, 0.5), STEPS, 1)
    for _ in range(60):
        run(strategy, 1, score)
        assert strategy.stopped == ""


def ranks_like_machines_without_wide_vectors(monkeypatch):
    sort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda a, *args, **kw: sort(a, *args, **{"kind": "stable", **kw}))


@pytest.mark.parametrize("ranks", ["hard", "expected"])
@pytest.mark.parametrize("population", [9, 40])
def test_ties_are_ranked_in_the_order_of_asking_on_every_machine(population, ranks, monkeypatch):
    """numpy's default sort orders ties as the vector instructions of the processor have it."""

    def search():
        strategy = Strategy(np.full(4, 0.5), np.full(4, 0.2), 1, population=population, ranks=ranks)
        asked = []
        for _ in range(12):
            asked.append(strategy.ask())
            values = [round(float(sphere(g)), 1) for g in asked[-1]]
            strategy.tell([Result(i, (v,), stderrs=(0.1,)) for i, v in enumerate(values)])
            assert strategy._es.fit.idx.tolist() == sorted(range(population), key=lambda i: -values[i])
        return np.array(asked).tobytes()

    here = search()
    ranks_like_machines_without_wide_vectors(monkeypatch)
    assert search() == here


def test_values_are_told_apart_by_the_least_that_a_number_can_be():
    values = np.array([0.0, -1.0, 0.0, -1.0, 5e-324, -1.0, 2.0])
    order = np.argsort(values, kind="stable")
    found = np.array(_apart(values, order))
    assert (np.diff(found[order]) > 0).all()
    assert found == pytest.approx(values, abs=1e-15) and found[[0, 1, 6]].tolist() == [0.0, -1.0, 2.0]


def test_a_file_in_the_working_directory_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "cma_signals.in").write_text("{'tolx': 1e3}")
    monkeypatch.chdir(tmp_path)
    strategy = Strategy(np.full(4, 0.5), STEPS, 1)
    run(strategy, 3)
    assert strategy.stopped == ""


def test_optimizers_of_one_run_tell_that_it_has_ended():
    optimizer = CmaEs(plain(3), 1)
    go(optimizer, 30)
    assert optimizer.stopped == ""
    go(optimizer, 300)
    assert optimizer.stopped.partition(":")[0] in CRITERIA


# ---------------------------------------------------------------- settings


def test_ranks_of_no_known_kind_are_refused():
    with pytest.raises(ConfigError, match=r"optimizer.ranks: unknown rule 'expcted'. Did you mean 'expected'"):
        CmaEs(plain(3), 1, ranks="expcted")


def test_steps_of_any_scale_are_taken_per_gene():
    problem = plain(4)
    variables = tuple(replace(v, step=float(s)) for v, s in zip(problem.variables, STEPS, strict=True))
    spread = np.sqrt(np.diag(CmaEs(replace(problem, variables=variables), 1, sigma=0.5)._strategy.covariance()))
    assert spread == pytest.approx(STEPS / 2, rel=1e-3)
