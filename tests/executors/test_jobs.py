"""Who goes together, and what is left of a job."""

from __future__ import annotations

import pytest

from evomerge.executors.jobs import Job, Queue
from tests.executors.stage import rows, work


def taken(queue):
    jobs = []
    while len(queue):
        jobs.append([w.id for w in queue.take().works])
    return jobs


def filled(together, works):
    queue = Queue(together)
    queue.add(works)
    return queue


def test_works_come_in_the_order_they_were_added():
    queue = filled(1, [work(3), work("a")])
    queue.add([work(1)])
    assert taken(queue) == [[3], ["a"], [1]]
    with pytest.raises(IndexError):
        queue.take()


def test_who_shares_a_job_has_a_slot_of_its_own_whoever_else_is_there():
    queue = filled(4, [work(i) for i in (2, 5, 3, 0, 9, 4)])
    jobs = taken(queue)
    assert jobs == [[2, 3, 0], [5, 4], [9]]
    assert all(len({i % 4 for i in job}) == len(job) for job in jobs)


def test_names_races_and_other_phases_and_rungs_go_alone():
    others = [work("base"), work(0, chunks=2), work(1, phase="control"), work(2), work(3)]
    assert taken(filled(4, others)) == [["base"], [0], [1], [2, 3]]


def test_what_was_answered_is_left_out_of_a_job():
    job = Job((work(0, chunks=3), work(1)), shrink=2)
    for kind, (row, _) in list(rows(job))[:2]:
        assert kind == "row"
        job = job.after(row)
    assert [(w.id, len(w.answered)) for w in job.works] == [(0, 2), (1, 0)]
    for _, (row, _) in list(rows(job)):
        job = job.after(row)
    assert job == Job((), 2)
