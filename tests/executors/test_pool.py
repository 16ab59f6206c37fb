"""The policy of a pool: who gets what, what a death costs, and what ends a search."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError, MachineFailed, SearchFailed, TaskError
from evomerge.executors.crew import Fault, Message
from evomerge.executors.limits import Limits
from evomerge.executors.pool import Pool
from tests.executors.stage import HANGS, SECONDS, Stage, facts, finish, pool, rows, served, work


def dies_over(ids, why="ended by SIGSEGV", times=99, first=0):
    """Whoever is given one of these works dies, after `first` rows, so many times."""
    left = Counter(dict.fromkeys(ids, times))

    def act(worker, job):
        for one in job.works:
            if left[one.id] > 0:
                left[one.id] -= 1
                return [*list(rows(job))[:first], ("died", why)]
        return served(job)

    return act


def test_all_who_are_idle_are_given_work_as_it_is_submitted():
    stage = Stage(3)
    made = pool(stage)
    finish(made, [work(i) for i in range(30)])  # by then all are ready
    stage.log.clear()
    made.submit([work(i) for i in range(30, 35)])
    sent = [entry[1:3] for entry in stage.log if entry[0] == "send"]
    assert sorted(worker for worker, _ in sent) == [0, 1, 2]
    assert [ids for _, ids in sent] == [(30,), (31,), (32,)]


def test_nothing_out_is_an_index_error_and_waits_for_nobody():
    stage = Stage(2, opens=[HANGS, HANGS])
    with pytest.raises(IndexError):
        pool(stage).next()
    assert stage.now == 0


def test_a_start_for_the_same_evaluator_opens_nothing_and_another_opens_anew():
    stage, one = Stage(), object()
    made = pool(stage, one)
    made.start(one, lambda kind, **facts: None)
    assert (stage.started, stage.closed) == (1, 0)
    made.start(object(), lambda kind, **facts: None)
    assert (stage.started, stage.closed) == (2, 1)


def test_what_was_checked_is_not_closed_before_it_is_started():
    stage = Stage()
    made = Pool(stage, Limits())
    made.check("this")
    made.start("this", lambda kind, **facts: None)
    assert (stage.started, stage.closed) == (1, 0)
    made.close()
    assert stage.closed == 1


def test_after_close_nothing_is_out_and_a_start_opens_anew():
    stage, one = Stage(), object()
    made = pool(stage, one)
    made.submit([work(0)])
    made.close()
    made.close()
    made.start(one, lambda kind, **facts: None)
    with pytest.raises(IndexError):
        made.next()
    assert [row.id for row in finish(made, [work(1)])] == [1]
    assert stage.started == 2


def test_notes_of_the_crew_and_of_the_first_bench_are_told_once():
    stage = Stage(3)
    stage.notes = ("few cores",)
    finish(pool(stage), [work(i) for i in range(5)])
    assert facts(stage, "note") == [{"text": "few cores"}, {"text": "a note"}]


def test_what_an_attempt_tells_is_where_it_was_made_and_its_rungs_how_long_they_took():
    stage = Stage(1)
    finish(pool(stage), [work(0, chunks=2)])
    place = {"phase": "search", "id": 0, "attempt": 0, "host": "host0", "worker": 0}
    assert facts(stage, "attempt") == [place]
    assert facts(stage, "done") == [place | {"rung": 2, "seconds": SECONDS}, place | {"rung": 3, "seconds": SECONDS}]


def test_what_a_bench_records_reaches_the_record():
    told = ("failed", {"id": 0, "error": "odd"})
    stage = Stage(1, lambda worker, job: [("event", told), *served(job)])
    finish(pool(stage), [work(0)])
    assert facts(stage, "failed") == [told[1]]


# ---------------------------------------------------------------- out of memory


def full_below(divisor, first=0):
    def act(worker, job):
        return served(job) if job.shrink >= divisor else [*list(rows(job))[:first], ("full", "device full")]

    return act


def test_a_full_worker_is_asked_again_with_half_the_batch_and_only_what_it_has_not_answered():
    stage = Stage(1, full_below(4, first=1))
    back = finish(pool(stage), [work(0, chunks=5)])
    assert [row.rung for row in back] == [5, 6, 7, 8, 9]
    assert [entry[3] for entry in stage.log if entry[0] == "send"] == [1, 2, 4]
    assert [(f["attempt"], f["error"]) for f in facts(stage, "retry")] == [(0, "device full"), (1, "device full")]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_worker_that_stays_full_stops_the_search_with_what_to_do(retries):
    stage = Stage(1, full_below(10**9))
    with pytest.raises(SearchFailed, match=rf"search 0 ran out of memory {retries + 1} times.*by {2**retries}\. Lower"):
        finish(pool(stage, retries=retries), [work(0), work(1)])
    assert len(facts(stage, "retry")) == retries + 1


# ---------------------------------------------------------------- deaths


def test_a_work_whose_worker_died_is_tried_again_without_what_it_answered():
    stage = Stage(2, dies_over([0], times=2, first=1))
    back = finish(pool(stage), [work(0, chunks=4), work(1)])
    assert [row.rung for row in back if row.id == 0] == [4, 5, 6, 7]
    assert all(row.error_code is None for row in back)
    died = facts(stage, "died")
    assert [(f["id"], f["attempt"], f["strikes"], f["reason"]) for f in died] == [
        (0, 0, 1, "ended by SIGSEGV"),
        (0, 1, 2, "ended by SIGSEGV"),
    ]


@pytest.mark.parametrize("strikes", [1, 3])
def test_a_work_that_keeps_killing_its_worker_ends_as_a_failed_candidate(strikes):
    stage = Stage(2, dies_over([1], first=1))
    evaluator = SimpleNamespace(backend=SimpleNamespace(batch_size=8))
    back = finish(pool(stage, evaluator, strikes=strikes), [work(0), work(1, chunks=9), work(2)])
    assert {row.id: row.error_code for row in back} == {0: None, 1: "worker_died", 2: None}
    (last,) = [row for row in back if row.error_code]
    sent = work(1, chunks=9)
    assert (last.rung, last.items, last.genome) == (9 + strikes, sent.rungs[strikes], sent.genome)
    assert (last.recipe_digest, last.scores, last.last, last.batch_size) == (sent.recipe.digest, (), True, 8)


def test_a_failed_candidates_batch_size_is_that_of_its_last_attempt():
    def act(worker, job):
        return [("full", "")] if job.shrink == 1 else [("died", None)]

    evaluator = SimpleNamespace(backend=SimpleNamespace(batch_size=8))
    (row,) = finish(pool(Stage(1, act), evaluator), [work(0)])
    assert (row.error_code, row.batch_size) == ("worker_died", 4)


def test_the_death_of_an_idle_worker_is_no_strike():
    stage = Stage(2)
    made = pool(stage)
    finish(made, [work(i) for i in range(9)])
    stage.kill(0)
    assert [row.id for row in finish(made, [work(9)])] == [9]
    assert facts(stage, "died") == []
    assert facts(stage, "lost") == [{"worker": 0, "host": "host0", "reason": "ended by SIGKILL"}]


def test_a_job_is_not_given_to_the_dead_nor_does_it_wait_for_the_successor_on_the_clock():
    stage = Stage(1, opens=[("ready", ()), HANGS])
    made = pool(stage, timeout=3.0, start_timeout=100.0, strikes=1)
    finish(made, [work(0)])
    stage.dead.add(0)
    assert [(row.id, row.error_code) for row in finish(made, [work(1)])] == [(1, None)]
    assert stage.now >= 100.0
    assert [f["attempt"] for f in facts(stage, "attempt") if f["id"] == 1] == [0]
    assert facts(stage, "lost")[0]["reason"] == "died while idle"
    assert facts(stage, "died") == []


@pytest.mark.parametrize("kind", ["died", "retry"])
def test_what_befalls_a_job_is_one_event_with_the_ids_of_all_its_works(kind):
    def act(worker, job):
        ends = {"died": ("died", "why"), "retry": ("full", "why")}
        return [ends[kind]] if len(job.works) > 1 and job.shrink == 1 else served(job)

    stage = Stage(1, act)
    finish(pool(stage, SimpleNamespace(together=4)), [work(i) for i in range(4, 8)])
    (told,) = facts(stage, kind)
    assert (told["id"], told["ids"], told["attempt"]) == (4, [4, 5, 6, 7], 0)


def test_who_shared_a_job_with_a_death_goes_alone_and_only_the_guilty_ends():
    stage = Stage(2, dies_over([5]))
    evaluator = SimpleNamespace(together=4)
    back = finish(pool(stage, evaluator, strikes=1), [work(i) for i in range(4, 8)])
    sent = [entry[2] for entry in stage.log if entry[0] == "send"]
    assert sent[0] == (4, 5, 6, 7)
    assert sorted(sent[1:]) == [(4,), (5,), (6,), (7,)]
    assert {row.id: row.error_code for row in back} == {4: None, 5: "worker_died", 6: None, 7: None}


# ---------------------------------------------------------------- failing machines


def sick_over(ids, times=99, first=0):
    """Whoever is given one of these works finds its disk broken, after `first` rows, so many times."""
    left = Counter(dict.fromkeys(ids, times))

    def act(worker, job):
        for one in job.works:
            if left[one.id] > 0:
                left[one.id] -= 1
                return [*list(rows(job))[:first], ("sick", "OSError: disk"), HANGS]
        return served(job)

    return act


def test_a_worker_that_a_machine_failed_is_replaced_and_its_work_done_again_without_what_it_answered():
    stage = Stage(1, sick_over([0], times=2, first=1))
    back = finish(pool(stage), [work(0, chunks=4), work(1)])
    assert [row.rung for row in back if row.id == 0] == [4, 5, 6, 7]
    assert all(row.error_code is None for row in back)
    assert [(f["id"], f["strikes"], f["reason"]) for f in facts(stage, "died")] == [
        (0, 1, "OSError: disk"),
        (0, 2, "OSError: disk"),
    ]
    assert len([entry for entry in stage.log if entry[0] == "open"]) == 3


@pytest.mark.parametrize("strikes", [1, 3])
def test_a_machine_that_keeps_failing_ends_the_search_and_is_no_candidates_fault(strikes):
    stage = Stage(2, sick_over([1]))
    made, back = pool(stage, strikes=strikes), []
    made.submit([work(0), work(1), work(2)])
    with pytest.raises(MachineFailed, match=rf"{strikes} workers gave up over search 1, .*: OSError: disk"):
        while True:
            back.append(made.next())
    assert {row.id: row.error_code for row in back} == {0: None, 2: None}
    assert len(facts(stage, "died")) == strikes


def test_deaths_and_failures_of_the_machine_are_counted_apart():
    fates = iter([("died", "why"), ("sick", "disk")] * 2)
    stage = Stage(1, lambda worker, job: [*([fate] if (fate := next(fates, None)) else served(job))])
    back = finish(pool(stage), [work(0)])
    assert [row.error_code for row in back] == [None]
    assert [f["strikes"] for f in facts(stage, "died")] == [1, 1, 2, 2]


# ---------------------------------------------------------------- timeouts


def hangs_over(ids, first=0):
    return lambda worker, job: [*list(rows(job))[:first], HANGS] if job.works[0].id in ids else served(job)


def test_a_rung_that_takes_too_long_kills_its_worker_and_ends_as_a_timeout():
    stage = Stage(2, hangs_over([1]))
    back = finish(pool(stage, timeout=7.5, strikes=2), [work(0), work(1), work(2)])
    assert {row.id: row.error_code for row in back} == {0: None, 1: "timeout", 2: None}
    assert {f["reason"] for f in facts(stage, "died")} == {"no answer within 7.5 s"}
    assert len([entry for entry in stage.log if entry[0] == "kill"]) == 2
    assert stage.now == 15.0  # woken at the limit itself


def test_the_limit_counts_anew_for_each_rung():
    class Slow(Stage):
        def wait(self, seconds):
            self.now += 5.0
            return super().wait(seconds)

    stage = Slow(1)
    back = finish(pool(stage, timeout=8.0), [work(0, chunks=6)])
    assert [row.error_code for row in back] == [None] * 6
    assert facts(stage, "died") == []


def test_without_a_limit_nobody_is_killed():
    stage = Stage(1, hangs_over([0]))
    with pytest.raises(AssertionError, match="nobody will ever speak"):
        finish(pool(stage), [work(0)])


def test_a_worker_that_was_late_and_answered_after_all_is_given_no_work_before_it_is_back():
    class Narrow(Stage):
        def kill(self, worker):  # the answer was on its way
            self.log.append(("kill", worker))
            self._said[worker].extend([*served(self.job), ("died", None)])
            self._said[worker].remove(HANGS)

        def send(self, worker, job):
            self.job = job
            super().send(worker, job)

    stage = Narrow(1, hangs_over([0]))
    back = finish(pool(stage, timeout=3.0), [work(0), work(1)])
    assert [(row.id, row.error_code) for row in back] == [(0, None), (1, None)]
    assert facts(stage, "died") == []
    assert [f["reason"] for f in facts(stage, "lost")] == ["no answer within 3 s: for no known reason"]


# ---------------------------------------------------------------- errors


def test_an_error_of_ours_is_raised_as_itself_after_what_was_answered():
    def act(worker, job):
        return [("error", Fault.of(TaskError("no chat template")))] if job.works[0].id == 2 else served(job)

    made, back = pool(Stage(1, act)), []
    made.submit([work(i) for i in range(4)])
    with pytest.raises(TaskError, match=r"^no chat template$"):
        while True:
            back.append(made.next().id)
    assert back == [0, 1]
    with pytest.raises(TaskError):
        made.next()


def misset(worker, job):
    """One work cannot be done by anybody; another hangs."""
    if job.works[0].id == "misset":
        return [("error", Fault.of(TaskError("no chat template")))]
    return [HANGS] if job.works[0].id == "hangs" else served(job)


def test_what_others_have_under_way_is_heard_out_before_an_error_is_raised_and_nothing_new_is_begun():
    class Slow(Stage):
        def wait(self, seconds):
            self.now += 1.0
            late = [w for w, lines in self._said.items() if lines and lines[0][0] == "error"]
            return super().wait(seconds) if not late else [self._spoken(late[0])]

        def _spoken(self, worker):  # errors first
            message = Message(worker, *self._said[worker].popleft())
            self._after(worker, message.kind)
            return message

    stage, back = Slow(2, misset), []
    made = pool(stage)
    finish(made, [work("a"), work("b")])
    made.submit([work("misset"), work(1, chunks=9), work(2)])
    with pytest.raises(TaskError):
        while True:
            back.append(made.next())
    assert [row.id for row in back] == [1] * 9


@pytest.mark.parametrize("timeout, seconds", [(None, 60.0), (1000.0, 1000.0)])
def test_what_hangs_meanwhile_delays_the_error_by_the_timeout_or_a_minute(timeout, seconds):
    stage = Stage(2, misset)
    with pytest.raises(TaskError):
        finish(pool(stage, timeout=timeout), [work("hangs"), work("misset")])
    assert seconds <= stage.now <= seconds + 1.0


def test_any_other_error_is_named_and_its_traceback_is_on_file():
    def act(worker, job):
        try:
            raise ZeroDivisionError("by nought")
        except ZeroDivisionError as e:
            return [("error", Fault.of(e))]

    stage = Stage(1, act)
    with pytest.raises(SearchFailed, match="a worker raised ZeroDivisionError: by nought"):
        finish(pool(stage), [work(0)])
    (told,) = facts(stage, "failed")
    assert (told["id"], told["error"]) == (0, "by nought")
    assert "in act" in told["traceback"]


def test_an_error_while_opening_is_raised_at_once():
    stage = Stage(2, opens=[("error", Fault.of(ConfigError("no such task")))])
    with pytest.raises(ConfigError, match="no such task"):
        finish(pool(stage), [work(0)])
    assert facts(stage, "failed") == []


# ---------------------------------------------------------------- opening


def test_a_worker_that_cannot_be_opened_three_times_stops_the_search_with_its_last_words():
    stage = Stage(1, opens=[("died", f"why {i}") for i in range(9)])
    with pytest.raises(SearchFailed, match=r"no worker could be opened.* failed 3 times in a row, at last: why 2"):
        finish(pool(stage), [work(0)])
    assert [f["reason"] for f in facts(stage, "lost")] == ["why 0", "why 1", "why 2"]
    assert stage.now == 1.5  # after half a second, then after one


class Uneven(Stage):
    """Worker 0 is slow to open, and no other can be."""

    def open(self, worker):
        self._opens = iter([("died", "broken device") if worker else HANGS])
        super().open(worker)

    def wait(self, seconds):
        if self.now >= 400 and self._said[0] and self._said[0][0] == HANGS:
            self._said[0][0] = ("ready", ())
        return super().wait(seconds)


def test_a_worker_that_is_still_being_opened_is_hope():
    stage = Uneven(3)
    assert [row.error_code for row in finish(pool(stage), [work(0)])] == [None]
    assert 400 <= stage.now < 402
    assert len([f for f in facts(stage, "lost") if f["worker"] == 1]) > 5


def test_only_when_all_have_failed_often_is_there_no_hope():
    stage = Uneven(3)
    with pytest.raises(SearchFailed, match="no worker could be opened"):
        finish(pool(stage, start_timeout=20.0), [work(0)])
    told = [f["reason"] for f in facts(stage, "lost") if f["worker"] == 0]
    assert told == ["not ready within 20 s (executor.start_timeout): ended by SIGKILL"] * 3
    assert [entry[2] for entry in stage.log if entry[:2] == ("open", 0)] == [0.0, 20.5, 41.5]
    assert stage.now == 61.5  # woken at the limits themselves


def test_waiting_for_the_first_worker_is_told_once_after_five_minutes():
    stage = Uneven(1)
    finish(pool(stage), [work(0)])
    assert [f["text"] for f in facts(stage, "note")] == ["no worker is ready after 300 s; worker 0: on its way"]


def test_a_worker_that_is_ready_in_time_is_left_alone():
    stage = Uneven(1)
    finish(pool(stage, start_timeout=402.0), [work(0)])
    assert facts(stage, "lost") == [] and not [entry for entry in stage.log if entry[0] == "kill"]


def test_failures_to_open_count_anew_after_a_success():
    opens = [*[("died", "early")] * 2, ("ready", ())] * 3
    stage = Stage(1, dies_over([0], times=2), opens=opens)
    assert [row.error_code for row in finish(pool(stage), [work(0)])] == [None]


def test_a_worker_that_cannot_be_opened_stops_nothing_while_another_serves():
    class HalfBroken(Stage):
        def open(self, worker):
            self._opens = iter([("died", "broken device") if worker else ("ready", ())])
            super().open(worker)

        def wait(self, seconds):
            self.now += 1.0
            return super().wait(seconds)

    stage = HalfBroken(2, seed=3)
    made = pool(stage)
    finish(made, [work("first")])
    back = finish(made, [work(i) for i in range(40)])
    assert [row.id for row in back] == list(range(40))
    (note,) = facts(stage, "note")
    assert note["text"] == "worker 1 on host1 cannot be opened: broken device. The others go on."


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"retries": -1}, "executor.retries is -1; wanted 0 or more"),
        ({"strikes": 0}, "executor.strikes is 0; wanted 1 or more"),
        ({"timeout": 0.0}, "executor.timeout is 0.0; wanted seconds above 0"),
        ({"start_timeout": -1.0}, "executor.start_timeout is -1.0; wanted seconds above 0"),
    ],
)
def test_settings_out_of_range_are_refused(bad, words):
    with pytest.raises(ConfigError, match=words):
        Limits(**bad)


def test_it_offers_what_its_crew_has():
    stage = Stage(5)
    made = Pool(stage)
    made.check("this")
    assert (made.workers, stage.log) == (5, [("check", "this")])


# ---------------------------------------------------------------- anything may happen


def misfortunes(seed, strikes, retries):
    """Serves, dies, is full, sick or hangs at any point of a job; never full or sick more often than may be."""
    rng, sick = random.Random(seed), {}

    def act(worker, job):
        lines = list(rows(job))
        cut = lines[: rng.randrange(len(lines) + 1)]
        fate = rng.choice(["served"] * 3 + ["died", "full", "hangs", "sick"])
        if fate == "full" and job.shrink < 2**retries and len(cut) < len(lines):
            return [*cut, ("full", "")]
        if fate == "died":
            return [*cut, ("died", "by chance")]
        if fate == "sick" and sick.setdefault(job.works[0].id, 0) < strikes - 1:
            sick.update({one.id: sick.get(one.id, 0) + 1 for one in job.works})
            return [*cut, ("sick", "by chance sick")]
        return [*cut, HANGS] if fate == "hangs" else served(job)

    return act


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 4),
    together=st.sampled_from([1, 3]),
    chunks=st.lists(st.integers(1, 4), max_size=9),
    strikes=st.integers(1, 3),
)
def test_whatever_happens_every_work_comes_back_once_and_its_rungs_in_order(seed, size, together, chunks, strikes):
    stage = Stage(size, misfortunes(seed, strikes, 2), seed=seed)
    sent = {i: work(i, chunks=n) for i, n in enumerate(chunks)}
    back = finish(pool(stage, SimpleNamespace(together=together), strikes=strikes, timeout=9.0), sent.values())
    for i, one in sent.items():
        own = [row for row in back if row.id == i]
        assert [row.last for row in own] == [False] * (len(own) - 1) + [True]
        assert [row.rung for row in own] == list(range(one.rung, one.rung + len(own)))
        assert [row.items for row in own] == list(one.rungs[: len(own)])
        assert (len(own) == len(one.rungs)) or own[-1].error_code in ("worker_died", "timeout")
    assert len({row.id for row in back}) == len(sent)
    check_attempts(stage, strikes)


def check_attempts(stage, strikes):
    """Before a job is sent, an attempt of each of its works is on file; nobody has more strikes than may be."""
    attempts, before = Counter(), Counter()
    for entry in stage.log:
        if entry[0] == "attempt":
            assert entry[1]["attempt"] == attempts[entry[1]["id"]]
            attempts[entry[1]["id"]] += 1
        if entry[0] == "send":
            before.update(entry[2])
            assert all(attempts[i] == before[i] for i in entry[2])
    ended = Counter(i for f in facts(stage, "died") if f["reason"] != "by chance sick" for i in f["ids"])
    assert max(ended.values(), default=0) <= strikes + 1  # one of them shared
