"""What every executor offers, and the words it tells its story in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from medseg.core.errors import MedsegError, UsageError

STAGES = ("read", "compute", "write")
DEPTH = len(STAGES)  # jobs under way in one worker, at most


class ExecutorError(MedsegError):
    """Workers cannot be started, or are lost faster than they can be replaced."""


class Work(Protocol):
    """What a worker does with a job, in three stages; the stages of neighbouring jobs may overlap.

    Each stage takes what the one before gave, and two calls of one stage never overlap. What they
    raise ends the job, never the worker.
    """

    def read(self, job: Any) -> Any: ...

    def compute(self, item: Any) -> Any: ...

    def write(self, item: Any) -> Any: ...


Make = Callable[[], Work]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an executor may use.

    workers: processes, each with its own `Work` (None: one, or one a node of a cluster); timeout: seconds
    that the stages of one job may take together (None: any), waiting for other jobs not counted;
    attempts: how often a job is begun at most when its worker dies or its time is up; address: of a
    cluster; accelerator: a worker may take a GPU of the cluster for itself; depth: jobs under way in one
    worker at most (1: nothing overlaps, which takes the least memory).
    Raises UsageError for impossible ones.
    """

    workers: int | None = None
    timeout: float | None = None
    attempts: int = 2
    address: str | None = None
    accelerator: bool = True
    depth: int = DEPTH

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers: must be 1 or more, not {self.workers}")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"timeout: must be longer than zero, not {self.timeout}")
        if not 1 <= self.depth <= DEPTH:
            raise UsageError(f"depth: must be 1 to {DEPTH}, not {self.depth}")
        if self.attempts < 1:
            raise UsageError(f"attempts: must be 1 or more, not {self.attempts}")


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done. key: names it in all that is told of it; payload: what `Work.read` is given."""

    key: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has taken the job; `attempt` counts from 1."""

    key: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished:
    """What `Work.write` gave, and the seconds each stage took."""

    key: str
    value: Any
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Returned:
    """The job's worker was lost, or its time was up; it will be begun again."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The job will not be begun again. raised: it raised an exception; else its worker died or its time was up."""

    key: str
    reason: str
    raised: bool = False


Event = Began | Finished | Returned | Lost


class Executor(Protocol):
    """Workers that live till the end of the `with` block; the first may be made before there is a job."""

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers at once; jobs that are under way are given up."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """Do all jobs, told as it happens: every job ends in exactly one Finished or Lost.

        May be called again when it is exhausted. Raises ExecutorError where no worker can be had.
        """
        ...


def raised(error: BaseException) -> str:
    """An exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
