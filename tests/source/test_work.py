"""The crew: every result arrives, in whatever order workers and the caller come to it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from lf_dagster.source.work import Crew, Segment
from tests.source.conftest import HOUR

SEGMENT = Segment(HOUR.start, HOUR.end, 10)


class Job:
    """Finishes once all of its segments were walked; offers `parts` more while it walks the first."""

    def __init__(self, number: int, parts: int = 0) -> None:
        self.number = number
        self.parts = parts
        self.walked = 0
        self.finished = threading.Event()
        self.abandoned = False

    def begin(self, crew: Crew[int]) -> Segment:
        for part in range(self.parts):
            crew.offer(self, Segment(HOUR.start, HOUR.start + timedelta(seconds=part + 1), 10))
        return SEGMENT

    def walk(self, segment: Segment) -> None:
        self.walked += 1

    def finish(self) -> int:
        self.finished.set()
        return self.number

    def abandon(self) -> None:
        self.abandoned = True


@pytest.mark.parametrize("workers", [1, 3])
def test_results_that_came_before_anybody_asked_are_not_lost(workers: int):
    jobs = [Job(number, parts=number) for number in range(5)]
    with Crew(jobs, workers=workers) as crew:
        assert all(job.finished.wait(10) for job in jobs)
        for thread in crew._threads:
            thread.join(10)
        assert sorted(crew.results()) == [0, 1, 2, 3, 4]
    assert [job.walked for job in jobs] == [1, 2, 3, 4, 5]
    assert not any(job.abandoned for job in jobs)


def test_one_worker_takes_jobs_in_their_order_and_parts_before_the_next_job():
    jobs = [Job(number, parts=2) for number in range(4)]
    with Crew(jobs, workers=1) as crew:
        assert list(crew.results()) == [0, 1, 2, 3]
