"""Many replayed searches: every setting on the same splits of items, at several budgets; items to a given regret."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks import members
from benchmarks.matrices import Merges
from benchmarks.measure import Row, summary
from benchmarks.replay import Course, Setting, World, run
from benchmarks.verdicts import verdict

#: (estimator, subset, a fresh draw per generation, raced); the first is the one that others are held against.
WAYS = (
    ("mean", "random", False, False),
    ("mean", "random", True, False),
    ("mean", "random", False, True),
    ("mean", "neyman", True, False),
    ("post_strat", "random", False, False),
    ("p_irt", "random", False, False),
    ("gmp_irt", "random", False, False),
    ("merit", "random", False, False),
    ("merit", "random", True, False),
    ("merit", "neyman", False, False),
    ("merit", "neyman", True, False),
    ("merit", "neyman", True, True),
    (members.MARGINS, "neyman", True, False),
    (members.MARGINS, "neyman", True, True),
)
TARGETS = (0.03, 0.02, 0.015, 0.01)
_STEP, _RESAMPLES = 300, 500


@dataclass(frozen=True, eq=False)
class Replays:
    """All searches of one setting. regrets: float64 (R, budget / 300), of the best told, as items are spent."""

    setting: Setting
    verdicts: dict[int, list[dict[str, float]]]
    regrets: np.ndarray


def campaign(merges: Merges, sizes: Sequence[int], budgets: Sequence[int], searches: int) -> list[Replays]:
    """`searches` of every setting, of the same `searches` splits."""
    found: dict[Setting, list[tuple[dict[int, dict[str, float]], np.ndarray]]] = defaultdict(list)
    for seed in range(searches):
        world = World.of(merges, seed)
        fitted = {name: members.fit(name, world.bank) for name in dict.fromkeys(way[0] for way in WAYS)}
        for (name, subset, fresh, race), n in itertools.product(WAYS, sizes):
            setting = Setting(name, subset, n, fresh, race)
            course = run(world, setting, fitted[name], max(budgets))
            verdicts = {b: verdict(world, setting, part) for b, part in _cuts(course, budgets)}
            found[setting].append((verdicts, _trace(world, course, max(budgets))))
    return [
        Replays(s, {b: [v[b] for v, _ in many if b in v] for b in budgets}, np.stack([t for _, t in many]))
        for s, many in found.items()
    ]


def _cuts(course: Course, budgets: Sequence[int]) -> Iterator[tuple[int, Course]]:
    """The search as it stood at each budget, if it had by then spent most of it: the set may be exhausted before."""
    for budget in budgets:
        part = course.until(budget)
        if sum(part.spent) >= 0.75 * budget:
            yield budget, part


def _trace(world: World, course: Course, budget: int) -> np.ndarray:
    """float64 (budget / 300,): regret of the candidate of the best estimate so far; inf before the first generation."""
    whole, best = world.whole(np.array(course.rows)), world.whole(world.pool).max()
    told = np.array([e.value for e in course.told])
    trace = np.full(budget // _STEP, np.inf)
    for place in range(len(trace)):
        if n := len(course.until((place + 1) * _STEP).rows):
            trace[place] = best - whole[int(np.argmax(told[:n]))]
    return trace


def search_rows(data: str, replays: Sequence[Replays]) -> list[Row]:
    """One row per setting and budget that at least half of its searches could spend."""
    return [
        {"data": data, "items": budget, "draws": len(group)} | asdict(one.setting) | _summed(group)
        for one in replays
        for budget, group in one.verdicts.items()
        if len(group) >= max(1, len(one.regrets) / 2)
    ]


def _summed(group: Sequence[dict[str, float]]) -> Row:
    columns = {name: np.array([v[name] for v in group]) for name in group[0]}
    columns["items_total"] = np.sum([v for k, v in columns.items() if k.startswith("items_")], axis=0)
    return summary(columns) | {"curse_sd": float(columns["curse"].std())}


# ---------------------------------------------------------------- items to a regret


def items_to_regret(data: str, replays: Sequence[Replays]) -> list[Row]:
    """Per way of judging and target: search items at which the mean regret first falls to it, with its best n.

    saving: share of items saved against the first way with its own best n, where a way that never gets there counts
    as having used the whole budget; low and high bound 95% of the bootstrap over searches, in which each way chooses
    its n anew. items is null where the target is never met.
    """
    ways: dict[tuple[object, ...], list[Replays]] = defaultdict(list)
    for one in replays:
        s = one.setting
        ways[s.estimator, s.subset, s.fresh, s.race].append(one)
    return [_reached(data, ways[way], ways[WAYS[0]], target) for target in TARGETS for way in ways]


def _reached(data: str, own: Sequence[Replays], rival: Sequence[Replays], target: float) -> Row:
    draws, most = len(own[0].regrets), float(_STEP * own[0].regrets.shape[1])
    everyone, picks = np.arange(draws), np.random.default_rng(0).integers(0, draws, (_RESAMPLES, draws))

    def saving(searches: np.ndarray) -> float:
        used, against = (min(_first(way, searches, target)[0], most) for way in (own, rival))
        return 1 - used / against

    items, n = _first(own, everyone, target)
    low, high = np.quantile([saving(p) for p in picks], (0.025, 0.975))
    row: Row = asdict(own[0].setting) | {"data": data, "target": target, "regret": target, "draws": draws, "n": n}
    row |= {"saving": saving(everyone), "saving_low": float(low), "saving_high": float(high)}
    return row | {"items": items if np.isfinite(items) else None, "mae": None, "spearman": None}


def _first(way: Sequence[Replays], searches: np.ndarray, target: float) -> tuple[float, int]:
    """Items and n of the way's best n; inf if none gets there."""
    found = []
    for one in way:
        met = np.flatnonzero(one.regrets[searches].mean(0) <= target)
        found.append((float((met[0] + 1) * _STEP) if len(met) else np.inf, one.setting.n))
    return min(found)
