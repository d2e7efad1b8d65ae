"""What every executor keeps: each job ends once, in its own way, and takes no other with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from medseg.core.errors import UsageError
from medseg.executors import EXECUTORS, open_executor
from medseg.executors.contract import Began, Event, Executor, ExecutorError, Finished, Job, Limits, Lost, Returned


@dataclass(frozen=True)
class Make:
    """Makes a work that does what its jobs say; every making is noted in a file."""

    notes: Path
    fail: str = ""

    def __call__(self) -> Doing:
        if self.fail == "raise":
            raise UsageError("the model is not there")
        if self.fail == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        with self.notes.open("a") as file:
            file.write("made\n")
        return Doing(self.notes)


class Doing:
    """read, compute and write take a little while; a job is (what to do, in which stage)."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def read(self, job: tuple[str, str]) -> Any:
        return self._do("read", job)

    def compute(self, job: tuple[str, str]) -> Any:
        return self._do("compute", job)

    def write(self, job: tuple[str, str]) -> Any:
        self._do("write", job)
        return job[0].upper()

    def _do(self, stage: str, job: tuple[str, str]) -> tuple[str, str]:
        what, where = job
        if stage == where:
            if what == "raise":
                raise ValueError("not  this\none")
            if what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "hang":
                time.sleep(60)
            if what == "die once" and not (mark := self._notes.with_suffix(".mark")).exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.05 if what == "slow" else 0)
        return job


def ended(events: list[Event]) -> dict[str, Finished | Lost]:
    """The end of every job; each has one."""
    ends = [event for event in events if isinstance(event, Finished | Lost)]
    assert len(ends) == len({event.key for event in ends})
    return {event.key: event for event in ends}


def jobs(*whats: str, stage: str = "compute") -> list[Job]:
    return [Job(f"{number} {what}", (what, stage)) for number, what in enumerate(whats)]


class Contract:
    name: ClassVar[str]

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits()

    @pytest.fixture
    def executor(self, tmp_path: Path, limits: Limits) -> Iterator[Executor]:
        with open_executor(self.name, Make(tmp_path / "notes"), limits) as executor:
            yield executor

    def test_every_job_is_begun_and_finished_once(self, executor: Executor, tmp_path: Path) -> None:
        events = list(executor.run(iter(jobs(*"abcdef"))))
        assert sorted(event.key[2:] for event in events if isinstance(event, Began)) == list("abcdef")
        ends = ended(events)
        assert {key: end.value for key, end in ends.items() if isinstance(end, Finished)} == {
            job.key: job.payload[0].upper() for job in jobs(*"abcdef")
        }
        assert all(set(end.seconds) == {"read", "compute", "write"} for end in ends.values())
        list(executor.run(jobs("again")))  # the same workers
        assert list(executor.run([])) == []
        assert (tmp_path / "notes").read_text() == "made\n"

    def test_an_exception_ends_its_job_only(self, executor: Executor) -> None:
        for stage in ("read", "compute", "write"):
            ends = ended(list(executor.run(jobs("a", "raise", "b", stage=stage))))
            assert [type(end) for _, end in sorted(ends.items())] == [Finished, Lost, Finished]
            assert ends["1 raise"] == Lost("1 raise", "ValueError: not this one", raised=True)


class Isolating(Contract):
    """Executors whose workers may die."""

    def test_a_job_that_kills_its_worker_is_given_up_after_two_attempts(self, executor: Executor) -> None:
        events = list(executor.run(jobs("a", "b", "die", "c", "d")))
        ends = ended(events)
        assert [key for key, end in sorted(ends.items()) if isinstance(end, Finished)] == ["0 a", "1 b", "3 c", "4 d"]
        lost = ends["2 die"]
        assert isinstance(lost, Lost) and not lost.raised and "worker" in lost.reason
        assert [event.attempt for event in events if isinstance(event, Began) and event.key == "2 die"] == [1, 2]

    def test_a_worker_that_dies_once_costs_nothing_but_an_attempt(self, executor: Executor) -> None:
        events = list(executor.run(jobs("a", "die once", "b", stage="write")))
        assert all(isinstance(end, Finished) for end in ended(events).values())
        assert any(isinstance(event, Returned) for event in events)

    def test_what_cannot_be_made_is_told_at_once(self, tmp_path: Path) -> None:
        with (
            open_executor(self.name, Make(tmp_path / "notes", "raise"), Limits()) as executor,
            pytest.raises(ExecutorError, match="the model is not there"),
        ):
            list(executor.run(jobs("a")))

    def test_workers_that_die_at_their_start_end_the_run(self, tmp_path: Path) -> None:
        with (
            open_executor(self.name, Make(tmp_path / "notes", "die"), Limits()) as executor,
            pytest.raises(ExecutorError, match="before it was ready"),
        ):
            list(executor.run(jobs("a")))


class Timed(Contract):
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(timeout=1.0, attempts=1)

    def test_a_job_that_takes_too_long_is_given_up_and_costs_no_other(self, executor: Executor) -> None:
        ends = ended(list(executor.run(jobs("a", "hang", "b", "c"))))
        assert ends["1 hang"] == Lost("1 hang", "took longer than 1 s")
        assert sorted(key for key, end in ends.items() if isinstance(end, Finished)) == ["0 a", "2 b", "3 c"]


class TestSerial(Contract):
    name = "serial"


class TestProcesses(Isolating):
    name = "processes"

    def test_stages_of_neighbours_overlap(self, executor: Executor) -> None:
        list(executor.run(jobs("a")))  # started
        slow = [Job(str(n), ("slow", stage)) for n, stage in enumerate(("read", "compute", "write") * 6)]
        started = time.monotonic()
        list(executor.run(slow))
        assert time.monotonic() - started < 0.9 * 18 * 0.05

    def test_leaving_the_block_ends_what_is_under_way(self, tmp_path: Path) -> None:
        started = time.monotonic()
        with (
            pytest.raises(KeyboardInterrupt),
            open_executor(self.name, Make(tmp_path / "notes"), Limits()) as executor,
        ):
            for _ in executor.run(jobs("hang")):
                raise KeyboardInterrupt
        assert time.monotonic() - started < 30


class TestProcessesInTime(Timed):
    name = "processes"


class TestProcessesWithoutOverlap(Contract):
    name = "processes"

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(depth=1)

    def test_one_job_ends_before_the_next_begins(self, executor: Executor) -> None:
        kinds = [type(event) for event in executor.run(jobs(*["slow"] * 5))]
        assert kinds == [Began, Finished] * 5


class TestSeveralProcesses(Isolating):
    name = "processes"

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(workers=2)

    def test_every_job_is_begun_and_finished_once(self, executor: Executor, tmp_path: Path) -> None:
        ends = ended(list(executor.run(jobs(*["slow"] * 12))))
        assert len(ends) == 12 and all(isinstance(end, Finished) for end in ends.values())
        assert (tmp_path / "notes").read_text() == "made\n" * 2


def test_names_that_are_not_in_the_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'threads'; there are processes, serial, ray"):
        open_executor("threads", Make(tmp_path), Limits())
    tested = {kind.name for kind in (TestSerial, TestProcesses, TestRay)}
    assert tested == set(EXECUTORS)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"timeout": 0.0}, {"attempts": 0}, {"depth": 4}])
def test_impossible_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Limits(**wrong)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
class TestRay(Isolating):
    """On a local cluster of two nodes, in processes of their own."""

    name = "ray"

    @pytest.fixture
    def limits(self, cluster: Any) -> Limits:
        return Limits(workers=1, address=cluster.address)

    def test_what_cannot_be_made_is_told_at_once(self, tmp_path: Path, limits: Limits) -> None:
        with (
            open_executor(self.name, Make(tmp_path / "notes", "raise"), limits) as executor,
            pytest.raises(ExecutorError, match="the model is not there"),
        ):
            list(executor.run(jobs("a")))

    def test_workers_that_die_at_their_start_end_the_run(self, tmp_path: Path, limits: Limits) -> None:
        with (
            open_executor(self.name, Make(tmp_path / "notes", "die"), limits) as executor,
            pytest.raises(ExecutorError, match="before it was ready"),
        ):
            list(executor.run(jobs("a")))

    def test_a_job_that_takes_too_long_is_given_up_and_costs_no_other(self, tmp_path: Path, limits: Limits) -> None:
        timed = replace(limits, timeout=1.0, attempts=1)
        with open_executor(self.name, Make(tmp_path / "notes"), timed) as executor:
            ends = ended(list(executor.run(jobs("a", "hang", "b", "c"))))
        assert ends["1 hang"] == Lost("1 hang", "took longer than 1 s")
        assert sorted(key for key, end in ends.items() if isinstance(end, Finished)) == ["0 a", "2 b", "3 c"]

    def test_a_node_that_dies_gives_its_jobs_back(self, cluster: Any, tmp_path: Path, limits: Limits) -> None:
        node = cluster.add_node(num_cpus=1)
        many = [Job(str(n), ("slow", "compute")) for n in range(60)]
        with open_executor(self.name, Make(tmp_path / "notes"), replace(limits, workers=3)) as executor:
            events = []
            for event in executor.run(many):
                events.append(event)
                if node is not None and sum(isinstance(event, Finished) for event in events) == 20:
                    cluster.remove_node(node, allow_graceful=False)
                    node = None
        ends = ended(events)
        assert len(ends) == 60 and all(isinstance(end, Finished) for end in ends.values())


def test_no_cluster_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(ExecutorError, match="no Ray cluster answers"),
        open_executor("ray", Make(tmp_path), Limits(address="127.0.0.1:1")),
    ):
        raise AssertionError("there is no such cluster")
