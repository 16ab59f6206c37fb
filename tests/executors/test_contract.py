"""What every executor of conf/executor/ keeps: each work comes back once, attempts are on file before they are made."""

from __future__ import annotations

from collections import Counter

import pytest
from omegaconf import OmegaConf

from evomerge.config import CONF, choices, make
from evomerge.errors import ConfigError, SearchFailed, TaskError
from tests.executing import evaluations
from tests.executors.scripted import ODD, Scripted, answer, lines, work, write_down

MEMBERS = choices("executor")


def member(name, **settings):
    node = OmegaConf.load(CONF / "executor" / f"{name}.yaml")
    return make("executor", OmegaConf.merge(node, {k: v for k, v in settings.items() if k in node}))


class Serving:
    """An executor of one worker that is started once for all tests, and what is written down meanwhile."""

    def __init__(self, name, log):
        self.executor, self.evaluator, self.log, self.told = member(name, workers=1), Scripted(log), log, []
        self.executor.check(self.evaluator)

    def record(self, kind, **facts):
        self.told.append((kind, facts))
        if "id" in facts:
            write_down(self.log, kind, facts["id"])

    def evaluate(self, *works):
        return list(evaluations(self.executor, self.evaluator, works, self.record))

    def facts(self, kind):
        return [facts for told, facts in self.told if told == kind]


@pytest.fixture(scope="module", params=MEMBERS)
def living(request, tmp_path_factory):
    one = Serving(request.param, tmp_path_factory.mktemp(request.param) / "log")
    yield one
    one.executor.close()


@pytest.fixture
def serving(living):
    living.told.clear()
    return living


def works(n=7):
    """Works that differ in everything: phases, kinds of id, items, rungs."""
    return [work(i if i % 2 else f"w{i}", ("search", "references", "test")[i % 3], chunks=1 + i % 3) for i in range(n)]


def test_every_rung_of_every_work_comes_back_once_as_it_was_sent(serving):
    sent = works()
    back = serving.evaluate(*sent)
    assert Counter(row.id for row in back) == Counter({w.id: len(w.rungs) for w in sent})
    for one in sent:
        own = [row for row in back if row.id == one.id]
        assert [row.rung for row in own] == list(range(one.rung, one.rung + len(own)))
        assert [row.items for row in own] == list(one.rungs)
        assert [row.last for row in own] == [False] * (len(own) - 1) + [True]
        assert {(row.phase, row.genome, row.recipe_digest) for row in own} == {
            (one.phase, one.genome, one.recipe.digest)
        }


def test_scores_are_those_of_the_works_own_recipe_and_items(serving):
    def told(rows):
        return {(r.id, r.rung): {s.task: (s.items, s.values.tobytes()) for s in r.scores} for r in rows}

    alone = [answer(w, place) for w in works() for place in range(len(w.rungs))]
    assert told(serving.evaluate(*works())) == told(alone)


def test_the_bench_is_opened_once_and_kept(serving):
    for i in range(3):
        serving.evaluate(work(i), work(i + 1))
    assert sum(line.startswith("open") for line in lines(serving.log)) == 1


def test_nothing_out_is_an_index_error(serving):
    serving.evaluate(work(1))
    with pytest.raises(IndexError):
        serving.executor.next()


def test_works_may_be_submitted_while_others_are_out(serving):
    executor = serving.executor
    executor.start(serving.evaluator, serving.record)
    executor.submit([work(1), work(2)])
    back = [executor.next().id]
    executor.submit([work(3)])
    assert sorted([*back, executor.next().id, executor.next().id]) == [1, 2, 3]


def test_an_attempt_is_told_before_its_evaluation_and_its_end_after(serving):
    before = len(lines(serving.log))
    serving.evaluate(*works())
    for one in (w for w in works() if len(w.rungs) == 1):
        own = [line.split()[0] for line in lines(serving.log)[before:] if line.split()[1] == str(one.id)]
        assert own[:2] == ["attempt", "evaluate"]
        assert "done" in own


def test_what_an_attempt_tells_names_the_work_the_host_and_the_worker(serving):
    serving.evaluate(work(1, "test"))
    (attempt,), (done,) = serving.facts("attempt"), serving.facts("done")
    assert {k: attempt[k] for k in ("phase", "id", "attempt", "worker")} == {
        "phase": "test",
        "id": 1,
        "attempt": 0,
        "worker": 0,
    }
    assert attempt["host"]
    assert done == attempt | {"rung": 1, "seconds": done["seconds"]}
    assert 0 <= done["seconds"] < 60


def test_what_the_bench_records_reaches_the_record(serving):
    serving.evaluate(work("tells"))
    (told,) = serving.facts("failed")
    assert (told["id"], told["error"]) == ("tells", "told by the bench")


def test_out_of_memory_is_tried_again_with_a_doubled_divisor_and_the_next_work_with_the_whole_batch(serving):
    back = serving.evaluate(work(1), work("full below 4"), work(2))
    assert {row.id: row.batch_size for row in back} == {1: 8, "full below 4": 2, 2: 8}
    assert [f["attempt"] for f in serving.facts("attempt") if f["id"] == "full below 4"] == [0, 1, 2]
    assert [(f["id"], f["attempt"], f["error"]) for f in serving.facts("retry")] == [
        ("full below 4", 0, "device full"),
        ("full below 4", 1, "device full"),
    ]


def test_a_failed_candidate_is_an_evaluation_like_others(serving):
    back = serving.evaluate(work(1), work("fails"), work(2))
    assert {row.id: row.error_code for row in back} == {1: None, "fails": "merge", 2: None}


def test_scores_come_back_bit_for_bit(serving):
    (row,) = serving.evaluate(work("odd"))
    assert row.scores[0].values.tobytes() == ODD.tobytes()


def test_what_was_answered_on_file_is_not_asked_again(serving):
    one = work(5, chunks=3)
    first = serving.evaluate(one)[0]
    rest = serving.evaluate(type(one)(**{**vars(one), "answered": (first.scores,)}))
    assert [row.rung for row in rest] == [4, 5]


def test_an_error_of_the_settings_is_raised_as_itself_and_after_close_nothing_is_out_and_a_start_serves_again(serving):
    back = []
    with pytest.raises(TaskError, match=r"^no chat template$"):
        for row in evaluations(serving.executor, serving.evaluator, [work(1), work("misset"), work(2)], serving.record):
            back.append(row.id)
    assert back == [1]
    assert len([f for f in serving.facts("attempt") if f["id"] == "misset"]) == 1
    serving.executor.close()
    serving.executor.close()
    assert [row.id for row in serving.evaluate(work(3))] == [3]


def test_memory_that_stays_full_stops_the_search_with_what_to_do(serving):
    with pytest.raises(SearchFailed, match=r"ran out of memory 3 times.*divided by 4\. Lower backend"):
        serving.evaluate(work("full below 1000"))
    assert [f["attempt"] for f in serving.facts("retry")] == [0, 1, 2]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_negative_number_of_retries_is_refused(name):
    with pytest.raises(ConfigError, match=r"executor.retries is -1; wanted 0 or more"):
        member(name, retries=-1)
