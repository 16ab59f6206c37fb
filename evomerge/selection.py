"""What to believe of finalists that answered the same fresh items: an empirical-Bayes posterior, not raw scores.

The true scores have a normal prior with fitted mean and spread; the noise is that of paired items, so what makes an
item hard for all moves the mean and not the order (Efron & Morris 1973; Gelman 2006, Bayesian Analysis 1(3)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evomerge.constraints import violation
from evomerge.estimators.mean import task_mean
from evomerge.plan import Plan, Scale
from evomerge.types import Estimate, Evaluation, ItemScores, Metric

_SPREADS = 200  # prior spreads that are tried


@dataclass(frozen=True)
class Belief:
    """A finalist's posterior, mean and standard error per goal, its raw goals, and by how much it breaks constraints.

    raw: what was measured, with its standard error.
    """

    goals: tuple[Estimate, ...]
    raw: tuple[Estimate, ...]
    violation: float

    @property
    def rank(self) -> tuple[float, float, float]:
        """Orders finalists by their first goal: feasible ones above others."""
        return -self.violation, self.goals[0].value, self.raw[0].value


def posterior(evaluations: Sequence[Evaluation], plan: Plan, scale: Scale) -> list[Belief]:
    """Beliefs about finalists that all answered the same items; each goal has a prior of its own."""
    tasks = [task_means(e, plan) for e in evaluations]
    raw = [plan.goals.combine(t, scale) for t in tasks]
    by_goal = zip(zip(*raw, strict=True), goal_noise(evaluations, plan, scale), strict=True)
    believed = [_believed(measured, noise) for measured, noise in by_goal]  # goals, each of all finalists
    broken = [violation(t, scale, plan.goals.constraints) for t in tasks]
    return [Belief(*one) for one in zip(zip(*believed, strict=True), raw, broken, strict=True)]


def _believed(measured: Sequence[Estimate], noise: np.ndarray) -> list[Estimate]:
    """One goal of all finalists, shrunk."""
    values = np.array([e.value for e in measured])
    shrunken = zip(*shrunk(values, apart(noise, measured[0].n_items)), measured, strict=True)
    return [Estimate(float(mean), float(stderr), e.n_items) for mean, stderr, e in shrunken]


def paired_gains(evaluations: Sequence[Evaluation], best: int, plan: Plan, scale: Scale) -> list[tuple[Estimate, ...]]:
    """Per finalist and goal, by how much the one at place `best` is better, with the error of paired items."""
    tasks = [task_means(e, plan) for e in evaluations]
    raw = [plan.goals.combine(t, scale) for t in tasks]
    noise = goal_noise(evaluations, plan, scale)
    variance = noise[:, best, best, None] + np.diagonal(noise, axis1=1, axis2=2) - 2 * noise[:, best]  # (m, F)
    stderrs = np.sqrt(np.clip(variance, 0, None)).T
    return [
        tuple(
            Estimate(w.value - e.value, float(s), e.n_items) for w, e, s in zip(raw[best], goals, errors, strict=True)
        )
        for goals, errors in zip(raw, stderrs, strict=True)
    ]


def task_means(evaluation: Evaluation, plan: Plan) -> tuple[Estimate, ...]:
    """Plain means of items that are all of their split, one a task."""
    scores = {s.task: s for s in evaluation.scores}
    return tuple(task_mean(scores[task], metric) for task, metric in plan.metrics.items())


def goal_noise(evaluations: Sequence[Evaluation], plan: Plan, scale: Scale) -> np.ndarray:
    """float64 (m, F, F): covariance of each goal between finalists, through the items that they all answered."""
    tasks = [task_means(e, plan) for e in evaluations]
    return np.asarray(sum(_noise(i, evaluations, tasks, plan, scale) for i in range(len(plan.metrics))))


def _noise(
    task: int, evaluations: Sequence[Evaluation], tasks: Sequence[tuple[Estimate, ...]], plan: Plan, scale: Scale
) -> np.ndarray:
    """float64 (m, F, F): the part of one task's items."""
    name, metric = list(plan.metrics.items())[task]
    scores = [next(s for s in e.scores if s.task == name) for e in evaluations]
    slopes = np.array([_slopes(task, t, plan, scale) for t in tasks]).T  # (m, F)
    return np.asarray(slopes[:, :, None] * slopes[:, None, :] * mean_covariance(scores, metric))


def _slopes(task: int, tasks: tuple[Estimate, ...], plan: Plan, scale: Scale, step: float = 1e-4) -> tuple[float, ...]:
    """(m,): d goal / d mean of a task."""
    moved = [
        tuple(replace(e, value=e.value + side * step) if i == task else e for i, e in enumerate(tasks))
        for side in (1, -1)
    ]
    ups, downs = (plan.goals.combine(m, scale) for m in moved)
    return tuple((up.value - down.value) / (2 * step) for up, down in zip(ups, downs, strict=True))


def mean_covariance(scores: Sequence[ItemScores], metric: Metric) -> np.ndarray:
    """float64 (F, F): of the means of F finalists over the same items; its diagonal is task_mean's stderr squared."""
    stderrs = np.array([task_mean(s, metric).stderr for s in scores])
    order = [np.argsort(s.items) for s in scores]
    influence = np.stack([_influence(s.values, metric)[o] for s, o in zip(scores, order, strict=True)])  # (F, n)
    centred = influence - influence.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1))
    unit = centred / np.where(length > 0, length, 1)[:, None]
    correlation = unit @ unit.T
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(np.outer(stderrs, stderrs) * correlation)


def _influence(values: np.ndarray, metric: Metric) -> np.ndarray:
    """What each item does to the mean, up to a factor."""
    return values[:, 0] - values[:, 0].sum() / values[:, 1].sum() * values[:, 1] if metric.kind == "pairs" else values


def apart(noise: np.ndarray, n_items: int) -> np.ndarray:
    """The covariance as if one item more had been answered by each on its own: float64 (F, F).

    Finalists that answered all items alike are not proven equal; without it, one such pair is infinite evidence that
    nobody differs.
    """
    kept = noise * n_items / (n_items + 1)
    np.fill_diagonal(kept, np.diag(noise))
    return kept


def shrunk(raw: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and standard errors of F true values under a common normal prior.

    raw: float64 (F,). noise: float64 (F, F), its covariance. The prior's mean is unknown (flat), and so is its standard
    deviation (flat up to twice what was seen, Gelman 2006): averaged over both, so that intervals hold.
    """
    if len(raw) < 2:
        return raw, np.sqrt(np.diag(noise))
    top = 2 * max(float(np.ptp(raw)), float(np.sqrt(np.diag(noise).max())), 1e-9)
    found = [_given(raw, noise, float(spread) ** 2) for spread in np.linspace(0.0, top, _SPREADS)]
    evidence, means, variances = (np.array(part) for part in zip(*found, strict=True))
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    mean = weight @ means
    return mean, np.sqrt(weight @ (variances + (means - mean) ** 2))


def _given(raw: np.ndarray, noise: np.ndarray, spread: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Log-likelihood of `raw`, the prior's mean integrated out; posterior means and variances. spread: a variance."""
    floor = 1e-9 * max(float(np.diag(noise).max()), 1e-12)  # equal finalists make the noise singular
    total = noise + (spread + floor) * np.eye(len(raw))
    inverse, ones = np.linalg.inv(total), np.ones(len(raw))
    precision = float(ones @ inverse @ ones)
    mean = float(ones @ inverse @ raw) / precision
    gain = spread * inverse
    off, kept = raw - mean, ones - gain @ ones  # kept: how far each posterior mean follows the prior's
    evidence = -0.5 * (float(off @ inverse @ off) + float(np.linalg.slogdet(total)[1]) + float(np.log(precision)))
    variances = spread - spread * np.diag(gain) + kept**2 / precision
    return evidence, mean + gain @ off, np.clip(variances, 0, None)
