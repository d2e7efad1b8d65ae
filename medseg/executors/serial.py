"""One job after the other, in this process and thread: for debugging."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from medseg.executors.contract import STAGES, Began, Event, Finished, Job, Limits, Lost, Make, Work, raised


class Executor:
    """Nothing overlaps and nothing is isolated: a crash is a crash of this process. No timeout."""

    def __init__(self, make: Make, limits: Limits) -> None:
        self._make = make
        self._work: Work | None = None

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._work = None

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """See `medseg.executors.contract.Executor.run`."""
        for job in jobs:
            if self._work is None:
                self._work = self._make()
            yield Began(job.key, 1)
            yield self._done(self._work, job)

    def _done(self, work: Work, job: Job) -> Event:
        item: Any = job.payload
        seconds: dict[str, float] = {}
        try:
            for stage in STAGES:
                started = time.monotonic()
                item = getattr(work, stage)(item)
                seconds[stage] = time.monotonic() - started
        except Exception as error:
            return Lost(job.key, raised(error), raised=True)
        return Finished(job.key, item, seconds)
