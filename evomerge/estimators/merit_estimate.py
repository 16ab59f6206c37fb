"""From what was learned of all candidates to one candidate's scores: its own answers, and predictions of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evomerge.estimators.covariates import CovariateBank
from evomerge.estimators.greg import Regression, greg
from evomerge.estimators.mean import prior_mean, weighted_mean
from evomerge.estimators.merit_fit import FEW, Answers, Population, blocks_of, posterior
from evomerge.estimators.misfit import Levels, collapsed
from evomerge.items import Observed
from evomerge.types import Estimate

#: Bounds of the dispersion: fractions spread less than bits, never more.
_LEAST, _MOST = 0.05, 1.0


@dataclass(frozen=True, eq=False)
class LearnedMerit:
    """MERIT with all that is common to candidates held fixed: an estimate depends on a candidate's own answers alone.

    dispersion: float64 (T,), variance of an answer over that of a bit. regressions: of the tasks that are not logistic.
    """

    known: CovariateBank
    population: Population
    levels: Levels
    dispersion: np.ndarray
    regressions: tuple[Regression, ...]

    def estimate(self, observed: Sequence[Observed], earlier: Sequence[Observed] = ()) -> list[tuple[Estimate, ...]]:
        """Per candidate one Estimate a task; `earlier` teaches nothing any more."""
        return [self._of(one) for one in observed]

    def frozen(self, earlier: Sequence[Observed]) -> LearnedMerit:
        return self

    def _of(self, observed: Observed) -> tuple[Estimate, ...]:
        found = {r.task: greg(observed, self.known.bank, r) for r in self.regressions}
        if len(found) < len(self.known.bank.tasks):
            found |= self._modelled(observed)
        return tuple(found[task] for task in range(len(self.known.bank.tasks)))

    def _modelled(self, observed: Observed) -> dict[int, Estimate]:
        """The estimates of all logistic tasks."""
        bank, logistic = self.known.bank, self.known.logistic
        answers = self.known.answers(observed)
        if len(answers.index) == 0 and self.population.n < FEW:
            return {task: prior_mean(bank, task) for task in logistic}
        if collapsed(self.population.chances(self.known.x)[answers.index], answers.right, self.levels):
            return {task: replace(weighted_mean(observed, bank, task), fallback="misfit") for task in logistic}
        values, errors = self._predicted(answers)
        n = np.bincount(bank.task[answers.index], minlength=len(bank.tasks))
        return {t: self._told(observed, Estimate(float(values[t]), float(errors[t]), int(n[t])), t) for t in logistic}

    def _predicted(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        """Scores between 0 and 1 and their standard errors, float64 (T,): equations 6 and 7."""
        known, population = self.known, self.population
        beta, covariance = (found[0] for found in posterior(blocks_of([answers], known.x)[0], population))
        chance = population.chances(known.x, beta, covariance)
        seen = np.zeros(known.bank.size, dtype=bool)
        seen[answers.index] = True
        slope = np.where(seen, 0.0, chance * (1 - chance))
        chance[answers.index] = answers.unclipped
        weights = known.bank.weights
        spread = np.sqrt(self.dispersion)
        gradient = spread[:, None] * known.per_task((weights * slope)[:, None] * known.x)  # (T, p)
        noise = self.dispersion * known.per_task(weights**2 * (slope + slope**2 * population.u_variance))
        return known.per_task(weights * chance), _errors(gradient, covariance, noise, known.spans)

    def _told(self, observed: Observed, found: Estimate, task: int) -> Estimate:
        """In the task's units; the exact score if all items were answered."""
        if found.n_items == len(self.known.bank.places(task)):
            return weighted_mean(observed, self.known.bank, task)
        return replace(self.known.units.back(found, task), fallback=None if found.n_items else "no-items")


def _errors(gradient: np.ndarray, covariance: np.ndarray, noise: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Standard errors per task, scaled so that their mean over tasks has the right one as if they were independent.

    Errors in a candidate's coefficients move all its tasks; who combines tasks takes them for independent.
    """
    variance = np.einsum("tp,pq,tq->t", gradient, covariance, gradient) + noise
    common = spans @ gradient
    joint, apart = common @ covariance @ common + spans**2 @ noise, spans**2 @ variance
    return np.asarray(np.sqrt(variance * (joint / apart if apart > 0 else 1.0)))


def dispersion(answers: Sequence[Answers], known: CovariateBank, population: Population) -> np.ndarray:
    """float64 (T,): mean of (y - p)^2 / (p (1 - p)) at the modes, within bounds; 1 where all answers are bits."""
    found = np.full(len(known.bank.tasks), _MOST)
    blocks = blocks_of([a for a in answers if not np.isin(a.right, (0.0, 1.0)).all()], known.x)
    ratios, tasks, right = [], [], []
    for block in blocks:
        p = np.clip(block.chances(posterior(block, population)[0], population), 1e-6, 1 - 1e-6)
        asked = block.asked > 0
        ratios.append(((block.right - p) ** 2 / (p * (1 - p)))[asked])
        tasks.append(known.bank.task[block.index[asked]])
        right.append(block.right[asked])
    for task in known.logistic if blocks else ():
        here = np.concatenate(tasks) == task
        if not np.isin(np.concatenate(right)[here], (0.0, 1.0)).all():
            found[task] = np.clip(np.concatenate(ratios)[here].mean(), _LEAST, _MOST)
    return found
