"""What a survey's numbers mean: strangers, copies, locks and blur, each told with its figures. Thresholds are ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from evomerge.survey import figures
from evomerge.survey.nouns import Finding, Lock, Survey

STRANGE = 0.5  # cosine of a parent's weights with the base's, below which it is no fine-tune of it
DRIFTED = 0.9  # the same, below which it is a distant one
OUTLIER = 10.0  # how many times longer than the others' median a task vector may be
COPY = 0.999  # cosine of task vectors (of weights without a base) of the same model
NEAR_COPY = 0.95
KIN = 0.8  # least cosine of task vectors that share most of their way from the base
LONG = 0.1  # relative norm of a task vector that is more than a light fine-tune
BLURRED = 0.15  # length of the rounding error as a share of the task vector's
UNEQUAL = 3.0  # ratio of the longest task vector to the shortest

LEVELS = ("alarm", "warning", "note")
KINDS = {
    "permuted": "rows or columns are the base's in another order",
    "rescaled": "rows or columns are the base's at another scale",
    "rotated": "inner products of rows or columns are the base's, the rows are not",
    "heads": "products of paired attention projections are the base's, the projections are not",
}


def findings(survey: Survey) -> list[Finding]:
    """Everything worth saying, alarms first; empty for ordinary fine-tunes of the base."""
    found = [*_without_base(survey), *_copies(survey)]
    if survey.base is not None:
        found += [*_locked(survey), *_strangers(survey), *_outliers(survey), *_kin(survey)]
        found += [*_unchanged(survey), *_blurred(survey), *_unequal(survey)]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def copies(survey: Survey) -> set[int]:
    """Parents that are copies of an earlier one."""
    return {j for i, j in figures.pairs(len(survey.parents)) if _is_copy(survey, i, j)}


# ---------------------------------------------------------------- parents and base


def _without_base(survey: Survey) -> Iterator[Finding]:
    if survey.base is None:
        yield Finding(
            "note",
            "no_base",
            (),
            "No base was given, so only the weights themselves are compared. With parents.base set, task vectors, sign "
            "conflict, shares of unchanged entries, locks and a wrong base can be seen, too.",
        )


def _locked(survey: Survey) -> Iterator[Finding]:
    for name in dict.fromkeys(lock.parent for lock in survey.locks):
        signs = [lock for lock in survey.locks if lock.parent == name]
        yield Finding(
            "alarm",
            "lock",
            (name,),
            f"{name} looks locked against merging: {'; '.join(map(_sign, signs))}. A merge with it destroys what both "
            "know; ask its maker for the weights before the lock. A few blocks were sampled, and a rewriting that "
            "mixes several such moves would not have been seen.",
        )


def _sign(lock: Lock) -> str:
    return f"{KINDS[lock.kind]} ({lock.found} of {lock.tried} tensors looked at, e.g. {lock.example})"


def _locked_names(survey: Survey) -> set[str]:
    return {lock.parent for lock in survey.locks}


def _strangers(survey: Survey) -> Iterator[Finding]:
    tally = survey.matrices
    cosines, relative = figures.weight_cosines(tally)[0, 1:], figures.relative_norms(tally)
    for name, cosine, length in zip(survey.names, cosines, relative, strict=True):
        told = f"cosine {cosine:.2f} between their matrices, difference {length:.2f} times the base's norm"
        if name in _locked_names(survey) or not cosine < DRIFTED:
            continue
        if cosine < STRANGE:
            yield Finding(
                "alarm",
                "wrong_base",
                (name,),
                f"{name} is no fine-tune of this base: {told}; two unrelated models have cosine 0 and difference 1.41. "
                "Check parents.base, or drop the parent.",
            )
        else:
            yield Finding(
                "warning",
                "distant",
                (name,),
                f"{name} lies far from this base: {told}. Long training does this, or a base that is only a relative.",
            )


def _outliers(survey: Survey) -> Iterator[Finding]:
    lengths = figures.relative_norms(survey.matrices)
    told = _locked_names(survey) | _named(_strangers(survey))
    for i, name in enumerate(survey.names):
        others = np.delete(lengths, i)
        median = float(np.median(others[others > 0])) if (others > 0).any() else 0.0
        if name not in told and median > 0 and lengths[i] > max(OUTLIER * median, LONG):
            yield Finding(
                "warning",
                "outlier",
                (name,),
                f"{name} lies {lengths[i] / median:.0f} times as far from the base as the others do "
                f"({lengths[i]:.3f} of its norm). Check that it descends from this base and not from a relative.",
            )


def _kin(survey: Survey) -> Iterator[Finding]:
    """Parents much closer to each other than to the base: their common ancestor is another checkpoint."""
    tally = survey.matrices
    lengths, cosines, gaps = figures.norms(tally), figures.cosines(tally), figures.distances(tally)
    some = [i for i in range(len(lengths)) if i not in copies(survey) and lengths[i] > 0]
    among = [(some[a], some[b]) for a, b in figures.pairs(len(some))]
    if not among or min(cosines[i, j] for i, j in among) < KIN:
        return
    long = float(np.mean(figures.relative_norms(tally)[some])) > LONG
    ratio = np.mean(lengths[some]) / max(np.mean([gaps[i, j] for i, j in among]), 1e-30)
    yield Finding(
        "alarm" if long else "warning",
        "other_ancestor",
        tuple(survey.names[i] for i in some),
        f"The parents share most of their way from the base (cosines of task vectors from "
        f"{min(cosines[i, j] for i, j in among):.2f}) and lie {ratio:.1f} times nearer to each other than to it: they "
        "descend from another checkpoint, or were trained alike. Set parents.base to that checkpoint if there is one.",
    )


# ---------------------------------------------------------------- parents among themselves


def _is_copy(survey: Survey, i: int, j: int) -> bool:
    one, two = survey.parents[i], survey.parents[j]
    tally = survey.total
    lengths = figures.norms(tally)
    alike = abs(lengths[i] - lengths[j]) <= 0.01 * max(lengths[i], lengths[j])
    near = figures.distances(tally)[i, j] <= 0.001 * max(lengths[i], lengths[j])  # what fine-tunes are without a base
    same = figures.cosines(tally)[i, j] > COPY if survey.base is not None else near
    return one.digest == two.digest or bool(alike and same)


def _copies(survey: Survey) -> Iterator[Finding]:
    cosines = figures.cosines(survey.total)
    for i, j in figures.pairs(len(survey.parents)):
        one, two, both = survey.parents[i], survey.parents[j], (survey.names[i], survey.names[j])
        if one.digest == two.digest:
            text = f"{both[0]} and {both[1]} are the same checkpoint (digest {one.digest}). Drop one: it votes twice."
            yield Finding("warning", "duplicate", both, text)
        elif _is_copy(survey, i, j):
            text = (
                f"{both[0]} and {both[1]} are all but the same (cosine {cosines[i, j]:.4f}). Drop one: it votes twice."
            )
            yield Finding("warning", "duplicate", both, text)
        elif survey.base is not None and cosines[i, j] > NEAR_COPY:
            yield Finding(
                "note",
                "near_duplicate",
                both,
                f"{both[0]} and {both[1]} change the base almost alike (cosine {cosines[i, j]:.3f}): one may do.",
            )


def _unchanged(survey: Survey) -> Iterator[Finding]:
    for name, length in zip(survey.names, figures.norms(survey.total), strict=True):
        if length == 0:
            text = f"{name} is the base itself, entry by entry. Drop it: it adds a variable and no knowledge."
            yield Finding("warning", "same_as_base", (name,), text)


def _blurred(survey: Survey) -> Iterator[Finding]:
    tally = survey.total
    shares, equal = figures.rounding(tally), figures.equal_shares(tally)
    for card, share, same in zip(survey.parents, shares, equal, strict=True):
        if share > BLURRED:
            yield Finding(
                "warning",
                "rounding",
                (card.name,),
                f"{card.name}'s task vector is blurred: rounding to {card.dtype} alone makes an error of up to "
                f"{share:.0%} of its length, and {same:.0%} of the entries equal the base. If it was trained as an "
                "adapter, give the adapter; else a float32 checkpoint, if there is one.",
            )


def _unequal(survey: Survey) -> Iterator[Finding]:
    told = _locked_names(survey) | _named(_strangers(survey)) | _named(_outliers(survey))
    pairs = zip(survey.names, figures.norms(survey.total), strict=True)
    lengths = {name: float(length) for name, length in pairs if length > 0 and name not in told}
    if not lengths:
        return
    longest, shortest = max(lengths, key=lambda n: lengths[n]), min(lengths, key=lambda n: lengths[n])
    ratio = lengths[longest] / lengths[shortest]
    if ratio > UNEQUAL:
        yield Finding(
            "note",
            "unequal_norms",
            (longest, shortest),
            f"{longest}'s task vector is {ratio:.1f} times as long as {shortest}'s: with equal weights, or when signs "
            f"are elected, {longest} decides.",
        )


def _named(found: Iterable[Finding]) -> set[str]:
    return {name for finding in found for name in finding.parents}
