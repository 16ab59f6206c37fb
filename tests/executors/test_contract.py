"""What every executor of conf/executor/ keeps: each work comes back once, attempts are on file before they are made."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from omegaconf import OmegaConf

from evomerge.config import CONF, choices, make
from evomerge.errors import ConfigError, SearchFailed
from evomerge.types import Evaluation, ItemScores, Work
from tests.sphere import SphereEvaluator, items, recipe

MEMBERS = choices("executor")

pytestmark = pytest.mark.parametrize("name", MEMBERS)


def member(name, **settings):
    return make("executor", OmegaConf.merge(OmegaConf.load(CONF / "executor" / f"{name}.yaml"), settings))


def works(n=7):
    """Works that differ in everything: phases, kinds of id, items, rungs."""
    found = []
    for i in range(n):
        x = (0.1 * i, 0.2, 0.3, 0.4)
        phase = ("search", "references", "test")[i % 3]
        found.append(
            Work(i if i % 2 else f"w{i}", phase, recipe(x), items(phase), genome=x if i % 2 else None, rung=i % 3)
        )
    return found


class Scripted:
    """An evaluator whose bench does what `script(work, shrink)` says, and writes down its calls."""

    def __init__(self, script, log):
        self._script, self.log, self.opened = script, log, 0

    def open(self):
        self.opened += 1
        return self

    def evaluate(self, work, *, shrink, record):
        self.log.append(("evaluate", work.id, shrink))
        self._script(work, shrink)
        yield Evaluation(work.id, work.phase, work.recipe.digest, work.items, (), work.genome, batch_size=8 // shrink)


def run(name, script=lambda work, shrink: None, given=None, **settings):
    log = []
    evaluator = Scripted(script, log)

    def record(kind, **facts):
        log.append((kind, facts.get("id"), facts.get("attempt")))

    back = list(member(name, **settings).map(evaluator, works() if given is None else given, record))
    return back, log, evaluator


def test_every_work_comes_back_exactly_once_as_it_was_sent(name):
    sent = works()
    back = list(member(name).map(SphereEvaluator(), sent, lambda kind, **facts: None))
    assert Counter((e.phase, e.id) for e in back) == Counter((w.phase, w.id) for w in sent)
    for e in back:
        (work,) = [w for w in sent if (w.phase, w.id) == (e.phase, e.id)]
        assert (e.genome, e.items, e.recipe_digest) == (work.genome, work.items, work.recipe.digest)


def test_scores_are_those_of_the_works_own_recipe_and_items(name):
    def scored(sent):
        back = member(name).map(SphereEvaluator(), sent, lambda kind, **facts: None)
        return {e.id: {s.task: (s.items, s.values.tolist()) for s in e.scores} for e in back}

    together = scored(works())
    for work in works():
        assert scored([work])[work.id] == together[work.id]
    assert len({repr(v) for v in together.values()}) == len(works())


def test_no_work_is_no_evaluation_and_opens_nothing(name):
    back, log, evaluator = run(name, given=[])
    assert (back, log, evaluator.opened) == ([], [], 0)


def test_work_may_come_from_a_generator(name):
    back, _, _ = run(name, given=(w for w in works()))
    assert len(back) == len(works())


def test_the_bench_is_kept_from_one_call_to_the_next(name):
    executor, evaluator = member(name), Scripted(lambda work, shrink: None, [])
    for _ in range(3):
        list(executor.map(evaluator, works(2), lambda kind, **facts: None))
    assert evaluator.opened == 1


def test_an_attempt_is_told_before_its_evaluation_and_its_end_after(name):
    _, log, _ = run(name)
    for work in works():
        own = [kind for kind, ident, _ in log if ident == work.id]
        assert own == ["attempt", "evaluate", "done"]


def test_what_an_attempt_tells_names_the_work_and_the_host(name):
    facts = []
    given = works(1)
    list(member(name).map(SphereEvaluator(), given, lambda kind, **f: facts.append((kind, f))))
    (attempt,) = [f for kind, f in facts if kind == "attempt"]
    assert (attempt["phase"], attempt["id"], attempt["attempt"]) == (given[0].phase, given[0].id, 0)
    assert attempt["host"]


def test_out_of_memory_is_tried_again_with_a_doubled_divisor(name):
    def full_until(work, shrink):
        if work.id == 3 and shrink < 8:
            raise MemoryError("device full")

    back, log, _ = run(name, full_until, retries=3)
    assert [shrink for kind, ident, shrink in log if (kind, ident) == ("evaluate", 3)] == [1, 2, 4, 8]
    assert [n for kind, ident, n in log if (kind, ident) == ("attempt", 3)] == [0, 1, 2, 3]
    assert len(back) == len(works())
    assert {e.id: e.batch_size for e in back}[3] == 1


def test_the_work_after_a_retry_starts_with_the_whole_batch_again(name):
    def full_once(work, shrink):
        if work.id == 3 and shrink == 1:
            raise MemoryError

    back, _, _ = run(name, full_once)
    assert {e.id: e.batch_size for e in back} == {w.id: 4 if w.id == 3 else 8 for w in works()}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_memory_that_stays_full_stops_the_search_with_what_to_do(name, retries):
    def full(work, shrink):
        raise MemoryError("device full")

    tries = retries + 1
    with pytest.raises(
        SearchFailed, match=rf"ran out of memory {tries} times.*divided by {2**retries}\. Lower backend"
    ):
        run(name, full, retries=retries)


def test_every_attempt_that_ran_out_of_memory_is_on_file_with_its_reason(name):
    told = []

    def full(work, shrink):
        raise MemoryError("device full")

    with pytest.raises(SearchFailed):
        list(member(name, retries=2).map(Scripted(full, []), works(1), lambda kind, **f: told.append((kind, f))))
    assert [kind for kind, _ in told] == ["attempt", "retry"] * 3
    assert {f["error"] for kind, f in told if kind == "retry"} == {"device full"}


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("y"), KeyboardInterrupt()])
def test_other_errors_pass_through_without_a_retry(name, error):
    log = []

    def broken(work, shrink):
        raise error

    with pytest.raises(type(error)):
        list(member(name).map(Scripted(broken, log), works(3), lambda kind, **facts: None))
    assert all(shrink == 1 for _, _, shrink in log)
    assert Counter(ident for _, ident, _ in log).most_common(1)[0][1] == 1


def test_evaluations_before_an_error_were_handed_over(name):
    def broken(work, shrink):
        if work.id == 3:
            raise RuntimeError("bench broken")

    back = []
    with pytest.raises(RuntimeError):
        for evaluation in member(name).map(Scripted(broken, []), works(), lambda kind, **facts: None):
            back.append(evaluation.id)
    assert back and 3 not in back


def test_a_failed_candidate_is_an_evaluation_like_others(name):
    evaluator = SphereEvaluator(lambda work: "merge" if work.id == 3 else None)
    back = list(member(name).map(evaluator, works(), lambda kind, **facts: None))
    assert {e.id: e.error_code for e in back} == {w.id: "merge" if w.id == 3 else None for w in works()}


def test_scores_come_back_bit_for_bit(name):
    odd = np.array([0.1 + 0.2, 5e-324, -0.0, 1e308])

    class Exact(Scripted):
        def evaluate(self, work, *, shrink, record):
            scores = (ItemScores("t", tuple("abcd"), odd.copy()),)
            yield Evaluation(work.id, work.phase, work.recipe.digest, {"t": tuple("abcd")}, scores)

    (back,) = member(name).map(Exact(None, []), works(1), lambda kind, **facts: None)
    assert back.scores[0].values.tobytes() == odd.tobytes()


def test_a_negative_number_of_retries_is_refused(name):
    with pytest.raises(ConfigError, match=r"executor.retries is -1; wanted 0 or more"):
        member(name, retries=-1)
