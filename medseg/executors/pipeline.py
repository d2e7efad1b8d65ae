"""Inside a worker: reading of the next, computing, and writing of the previous job overlap."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from medseg.executors.contract import STAGES, Make, Work


class Pipeline:
    """A `Work` with one thread a stage. Each thread keeps to its stage: libraries keep state by thread.

    Whoever calls `do` from at most DEPTH threads bounds what is in memory: one job being read, one
    computed and one written. The process has to be a worker's own: its BLAS keeps to one thread from here on.
    """

    def __init__(self, make: Make) -> None:
        from threadpoolctl import threadpool_limits

        self._threads = {stage: ThreadPoolExecutor(1, thread_name_prefix=f"medseg-{stage}") for stage in STAGES}
        self._work: Work = self._threads["compute"].submit(make).result()
        # NumPy's threads keep spinning for a while after each product of matrices, on cores that the other stages
        # could use: a batch of 50 small CTs takes a tenth longer with them (benchmarks/README.md).
        threadpool_limits(1, "blas")

    def do(self, payload: Any, running: Callable[[bool], None]) -> tuple[Any, dict[str, float]]:
        """Take a job through all stages; what the last one gave, and the seconds of each.

        running: told True when a stage begins and False when it ends. Raises what a stage raises.
        """
        item = payload
        seconds: dict[str, float] = {}
        for stage in STAGES:
            item, seconds[stage] = self._threads[stage].submit(self._stage, stage, item, running).result()
        return item, seconds

    def _stage(self, stage: str, item: Any, running: Callable[[bool], None]) -> tuple[Any, float]:
        running(True)
        started = time.monotonic()
        try:
            return getattr(self._work, stage)(item), time.monotonic() - started
        finally:
            running(False)


class Clock:
    """How long the stages of each job have taken so far, from what a pipeline tells."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._since: dict[str, float] = {}

    def running(self, key: str, runs: bool) -> bool:
        """Note that a stage of the job begins or ends; whether it is the job's first."""
        first = key not in self._spent
        now = time.monotonic()
        if runs:
            self._spent.setdefault(key, 0.0)
            self._since[key] = now
        elif key in self._since:
            self._spent[key] += now - self._since.pop(key)
        return first

    def forget(self, key: str) -> None:
        self._spent.pop(key, None)
        self._since.pop(key, None)

    def late(self, limit: float) -> str | None:
        """The job that has taken longer than `limit` seconds and still does."""
        now = time.monotonic()
        return next((key for key, since in self._since.items() if self._spent[key] + now - since > limit), None)
