"""Lengths, angles and shares from the sums of a tally; NaN where nothing can be said."""

from __future__ import annotations

import numpy as np

from evomerge.survey.nouns import Tally


def has_base(tally: Tally) -> bool:
    return len(tally.gram) > len(tally.equal)


def vectors(tally: Tally) -> np.ndarray:
    """Gram matrix (P, P) of the task vectors, or of the parents themselves without a base."""
    gram: np.ndarray = tally.gram[1:, 1:] if has_base(tally) else tally.gram
    return gram


def norms(tally: Tally) -> np.ndarray:
    """(P,) length of each task vector (of each parent without a base)."""
    return np.asarray(np.sqrt(np.diagonal(vectors(tally)).clip(min=0)))


def base_norm(tally: Tally) -> float:
    return float(np.sqrt(tally.gram[0, 0])) if has_base(tally) else float("nan")


def relative_norms(tally: Tally) -> np.ndarray:
    """(P,) length of each task vector as a share of the base's."""
    length = base_norm(tally)
    return np.asarray(norms(tally) / length) if length > 0 else np.full(len(tally.equal), np.nan)


def cosines(tally: Tally) -> np.ndarray:
    """(P, P) of the task vectors (of the parents without a base); NaN where one has no length."""
    return _cosines(vectors(tally))


def weight_cosines(tally: Tally) -> np.ndarray:
    """(K, K) of the models themselves: the base first if there is one, then the parents."""
    return _cosines(_models(tally))


def distances(tally: Tally) -> np.ndarray:
    """(P, P) length of parent minus parent."""
    gram = vectors(tally)
    squares = np.diagonal(gram)
    return np.asarray(np.sqrt((squares[:, None] + squares[None, :] - 2 * gram).clip(min=0)))


def equal_shares(tally: Tally) -> np.ndarray:
    """(P,) share of entries that a parent has exactly as the base."""
    return np.asarray(tally.equal / max(tally.entries, 1))


def ulps(tally: Tally) -> np.ndarray:
    """(P,) length of the task vector over that of the spacing of its dtype: a typical change in units of it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(tally.ulps > 0, norms(tally) / np.sqrt(tally.ulps), np.nan)


def rounding(tally: Tally) -> np.ndarray:
    """(P,) length of the rounding error, as a share of the task vector's: a twelfth of a squared ulp per entry."""
    with np.errstate(divide="ignore"):
        return np.minimum(1.0, 1 / (12**0.5 * ulps(tally)))


def conflict(tally: Tally) -> float:
    """Share of the entries that two or more parents changed whose signs differ."""
    return tally.clashing / tally.shared if tally.shared else float("nan")


def weighted_conflict(tally: Tally) -> float:
    """The same, every entry counting as much as the parents change it."""
    return tally.clashing_mass / tally.shared_mass if tally.shared_mass > 0 else float("nan")


def conflict_by_chance(n: int) -> float:
    """The conflict of n parents that all change an entry, their signs drawn by coin."""
    return 1 - 2.0 ** (1 - n)


def pairs(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def _models(tally: Tally) -> np.ndarray:
    """Gram matrix (K, K) of base and parents: theta_k = theta_0 + tau_k."""
    if not has_base(tally):
        return tally.gram
    mix = np.eye(len(tally.gram))
    mix[1:, 0] = 1.0
    return np.asarray(mix @ tally.gram @ mix.T)


def _cosines(gram: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.diagonal(gram).clip(min=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (gram / np.outer(length, length)).clip(-1, 1)
    return np.where(np.outer(length, length) > 0, found, np.nan)
