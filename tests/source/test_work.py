"""The crew: every result arrives, in whatever order workers and the caller come to it."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from lf_dagster.errors import ConfigError
from lf_dagster.http import Cancelled
from lf_dagster.source import load, work
from lf_dagster.source.load import Load, cpu_needed
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


class Together(Job):
    """Its walk ends once as many as the gate wants walk side by side."""

    gate = threading.Barrier(3)

    def walk(self, segment: Segment) -> None:
        self.gate.wait(10)


def test_workers_join_in_while_the_others_wait():
    with Crew([Together(number) for number in range(3)], workers=3) as crew:
        assert sorted(crew.results()) == [0, 1, 2]


class Ticks:
    """A clock and the CPU time of a thread, both moved by hand."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def load(self) -> Load:
        return Load(clock=lambda: self.now, cpu=lambda: self.used)

    def pass_(self, seconds: float, *, busy: float) -> None:
        self.now += seconds
        self.used += seconds * busy


class Paged(Job):
    """Walks in pages: time passes, then it asks whether others could help."""

    def __init__(self, number: int, ticks: Ticks, *, busy: float, pages: int = 15) -> None:
        super().__init__(number)
        self.ticks, self.busy, self.pages = ticks, busy, pages
        self.helpers = 0

    def begin(self, crew: Crew[int]) -> Segment:
        self.crew = crew
        return SEGMENT

    def walk(self, segment: Segment) -> None:
        for _ in range(self.pages):
            self.ticks.pass_(0.02, busy=self.busy)
            # Others get the chance to take the interpreter, and with it the next job.
            threading.Event().wait(0.005)
            self.crew.pace()
            self.helpers = max(self.helpers, self.crew.idle_workers())


def test_a_worker_that_is_always_busy_gets_no_help():
    ticks = Ticks()
    jobs = [Paged(number, ticks, busy=0.9) for number in range(3)]
    with Crew(jobs, workers=3, load=ticks.load()) as crew:
        assert list(crew.results()) == [0, 1, 2]
    assert [job.helpers for job in jobs] == [0, 0, 0]


def test_a_worker_that_mostly_waits_shares_what_it_has():
    ticks = Ticks()
    job = Paged(0, ticks, busy=0.1)
    with Crew([job], workers=3, load=ticks.load()) as crew:
        assert list(crew.results()) == [0]
    assert job.helpers == 2


class Growing(Job):
    """Waits for the server until a second worker has joined in, then works on each of its pages."""

    both = threading.Barrier(2)

    def __init__(self, number: int, ticks: Ticks, log: list[int]) -> None:
        super().__init__(number)
        self.ticks, self.log = ticks, log

    def begin(self, crew: Crew[int]) -> Segment:
        self.crew = crew
        self.ticks.pass_(1, busy=0.0)
        return SEGMENT

    def walk(self, segment: Segment) -> None:
        self.both.wait(10)
        for _ in range(40):
            if self.crew.cancelled():
                raise Cancelled
            self.page()
            self.log.append(self.number)
            self.crew.pace()

    def page(self) -> None:
        self.ticks.pass_(0.02, busy=0.9)
        threading.Event().wait(0.002)


def test_one_of_two_workers_pauses_once_both_are_busy():
    ticks, log = Ticks(), []
    with Crew([Growing(number, ticks, log) for number in range(2)], workers=2, load=ticks.load()) as crew:
        first, second = crew.results()
    assert {first, second} == {0, 1}
    assert len(log) == 80
    assert set(log[-25:]) == {second}


def test_what_a_paused_worker_has_begun_is_finished_before_anything_new_begins():
    ticks, log = Ticks(), []
    jobs: list[Job] = [Growing(number, ticks, log) for number in range(2)]
    with Crew([*jobs, *(Paged(2 + n, ticks, busy=0.9) for n in range(3))], workers=2, load=ticks.load()) as crew:
        found = list(crew.results())
    assert sorted(found[:2]) == [0, 1]
    assert found[2:] == [2, 3, 4]


class Failing(Growing):
    """Fails once the other one pauses: when its own pages are the last in a row."""

    def page(self) -> None:
        super().page()
        if self.log[-10:] == [self.number] * 10:
            raise OSError("gone")


def test_a_worker_that_pauses_ends_with_the_others():
    ticks, log = Ticks(), []
    crew = Crew([Failing(number, ticks, log) for number in range(2)], workers=2, load=ticks.load())
    with pytest.raises(OSError, match="gone"), crew:
        list(crew.results())
    assert not any(thread.is_alive() for thread in crew._threads)
    assert len(log) < 40


def test_load_is_judged_by_the_last_moments_and_never_by_too_few():
    ticks = Ticks()
    watched = ticks.load()
    watched.report()
    ticks.pass_(0.04, busy=0.0)
    assert not watched.leaves_room()
    ticks.pass_(0.04, busy=0.0)
    assert watched.leaves_room()
    for _ in range(20):
        ticks.pass_(0.02, busy=1.0)
        watched.report()
    assert not watched.leaves_room()
    for _ in range(20):
        ticks.pass_(0.02, busy=0.0)
        watched.report()
    assert watched.leaves_room()
    watched.restart()
    assert not watched.leaves_room()


def test_a_worker_that_does_not_report_counts_as_waiting():
    ticks = Ticks()
    watched = ticks.load()
    watched.report()
    ticks.pass_(10, busy=1.0)
    assert watched.leaves_room()
    watched.report()
    assert not watched.leaves_room()


def test_time_in_line_for_a_core_counts_where_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "_SCHEDULED", tmp_path / "schedstat")
    for text, in_line in ((None, 0), ("5 2500000000 7\n", 2.5), ("", 0)):
        if text is not None:
            (tmp_path / "schedstat").write_text(text)
        assert cpu_needed() == pytest.approx(time.thread_time() + in_line, abs=0.05)


class Lingers(Job):
    """Is still in the middle of things when the crew stops; `entered` says that it has come there."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.entered, self.released = threading.Event(), threading.Event()
        self.thread = threading.current_thread()

    def wait(self) -> None:
        self.thread = threading.current_thread()
        self.entered.set()
        self.released.wait(10)


class Hangs(Lingers):
    """Hangs in a request; its end takes as long as `other` takes to finish."""

    other: Lingers

    def walk(self, segment: Segment) -> None:
        self.wait()

    def abandon(self) -> None:
        super().abandon()
        self.other.released.set()
        self.other.thread.join(10)


class Writes(Lingers):
    """Takes long to write what it has."""

    def finish(self) -> int:
        self.wait()
        return super().finish()


class Fails(Job):
    """Fails once the others are where they should be."""

    others: tuple[Lingers, ...]

    def walk(self, segment: Segment) -> None:
        assert all(other.entered.wait(10) for other in self.others)
        raise ConfigError("the first error")


def test_an_hour_that_is_finished_while_others_are_abandoned_hides_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work, "PATIENCE_SECONDS", 0.05)
    hangs, writes, fails = Hangs(0), Writes(1), Fails(2)
    hangs.other, fails.others = writes, (hangs, writes)
    with pytest.raises(ConfigError, match="the first error"), Crew([hangs, writes, fails], workers=3) as crew:
        list(crew.results())
    hangs.released.set()
    assert hangs.abandoned
    assert writes.finished.is_set()
