"""CMA-ES with integers: discrete genes stay on their levels, dead genes at their default, and no search under -O."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from evomerge.optimizers.cma_es import CmaEs
from evomerge.optimizers.cma_int import CmaInt
from evomerge.problem import Problem, level_of
from evomerge.types import Result, Variable
from tests.optimizers.driving import genomes, go, plain, pollute, through_json

LEVELS = (0, 4, 0, 2, 9)
VARIABLES = tuple(
    Variable(f"x{i}", "weight", 0.0, 1.0, "choice" if n else "linear", 0.5, 0.2, levels=n) for i, n in enumerate(LEVELS)
)
PROBLEM = Problem(VARIABLES)
TARGET = np.array([0.3, 3.5 / 4, 0.7, 0.5 / 2, 2.5 / 9])


def near(candidate):
    return -float(((candidate.genome - TARGET) ** 2).sum())


def test_every_asked_genome_is_settled():
    asked, _ = go(CmaInt(PROBLEM, 1), 40, near)
    for candidate in (c for batch in asked for c in batch):
        assert (PROBLEM.settled(candidate.genome) == candidate.genome).all()


@pytest.mark.parametrize("seed", range(5))
def test_levels_and_values_are_found_together(seed):
    optimizer = CmaInt(PROBLEM, seed)
    _, told = go(optimizer, 70, near)
    assert max(r.fitness[0] for batch in told for r in batch) > -1e-5
    assert np.abs(optimizer.mean() - TARGET).max() < 0.01


@pytest.mark.parametrize("cut", [0, 3, 20])
def test_a_replay_is_the_same_to_the_last_bit(cut):
    asked, told = go(CmaInt(PROBLEM, 3), 40, near)
    again, _ = go(CmaInt(PROBLEM, 3), 40, near, known=[through_json(b) for b in told[:cut]], between=pollute)
    assert genomes(again) == genomes(asked)


def test_genes_that_mean_nothing_are_asked_at_their_default_and_learned_from_all_the_same():
    def active(genome):  # the continuous genes mean something only at one level of the fourth
        return np.array([level_of(genome[3], 2) == 0, True, level_of(genome[3], 2) == 0, True, True])

    problem = Problem(VARIABLES, active=active)
    optimizer = CmaInt(problem, 1)
    asked, _ = go(optimizer, 60, near)
    dead = [c.genome for batch in asked for c in batch if level_of(c.genome[3], 2) == 1]
    assert len(dead) > 10 and all((g[[0, 2]] == 0.5).all() for g in dead)
    assert np.abs(optimizer.mean() - TARGET).max() < 0.02


def test_without_discrete_genes_it_is_cma_es_bit_for_bit():
    asked, _ = go(CmaInt(plain(5), 2), 20)
    assert genomes(asked) == genomes(go(CmaEs(plain(5), 2), 20)[0])


def test_with_discrete_genes_alone_it_finds_the_best_levels():
    problem = Problem(tuple(v for v in VARIABLES if v.levels))
    optimizer, target = CmaInt(problem, 1), TARGET[[1, 3, 4]]
    for _ in range(30):
        batch = optimizer.ask(99)
        optimizer.tell([Result(c.id, (-float(((c.genome - target) ** 2).sum()),)) for c in batch])
    assert optimizer.mean() == pytest.approx(target)


def test_it_is_through_when_every_point_of_a_small_space_was_asked():
    optimizer = CmaInt(Problem(VARIABLES[3:4] * 2), 1)
    asked = set()
    for _ in range(40):
        batch = optimizer.ask(99)
        asked |= set(genomes([batch]))
        optimizer.tell([Result(c.id, (float(c.genome.sum()),)) for c in batch])
        assert optimizer.stopped == ("every point of the space was asked" if len(asked) == 4 else "")
        if optimizer.stopped:
            break
    assert optimizer.stopped


def test_a_search_under_python_o_is_refused():
    lines = (
        "from evomerge.optimizers.cma_int import CmaInt; from evomerge.problem import Problem",
        "from evomerge.types import Variable",
        "v = [Variable(str(i), 'k', 0.0, 1.0, 'choice', 0.5, 0.2, levels=3) for i in range(2)]",
        "CmaInt(Problem(tuple(v)), 1)",
    )
    found = subprocess.run([sys.executable, "-O", "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert found.returncode == 1 and "optimizer=cma_int cannot run under python -O" in found.stderr
