"""Worker processes on this machine: each makes its `Work` once, and can die without harm to the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from threading import Lock
from types import TracebackType
from typing import Any

from medseg.core.errors import MedsegError
from medseg.executors.contract import DEPTH, Began, Event, ExecutorError, Finished, Job, Limits, Lost, Make, raised
from medseg.executors.pipeline import Clock, Pipeline
from medseg.executors.queue import Queue

_POLL = 0.5  # seconds between looks at the clocks of jobs
_STARTS = 2  # workers in a row that may die before they are ready
_GRACE = 5.0  # seconds that a worker has to end, once it closed its pipe


class Executor:
    """Spawned processes, on every system: nothing of this process's state leaks into them.

    Jobs and results travel through one pipe a worker, so that a killed worker harms no queue of others.
    """

    def __init__(self, make: Make, limits: Limits) -> None:
        self._make = make
        self._limits = limits
        self._workers: list[_Worker] = []
        self._stillborn = 0

    def __enter__(self) -> Executor:
        """Start the first worker, so that it is ready when the first job is; others follow where there are jobs."""
        self._workers.append(_Worker.start(self._make, self._limits.depth))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is idle holds nothing, and would take a second to take its libraries down.
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.bury()
        self._workers.clear()

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """See `medseg.executors.contract.Executor.run`."""
        queue = Queue.of(jobs, self._limits.attempts)
        while True:
            self._hand_out(queue)
            if queue.empty and not any(worker.jobs for worker in self._workers):
                return
            for worker in self._with_news():
                yield from self._hear(worker, queue)
            for worker in list(self._workers):
                yield from self._check_clock(worker, queue)

    def _hand_out(self, queue: Queue) -> None:
        """Jobs for every worker that has room; workers are started when there is a job for them."""
        for worker in self._workers:
            self._fill(worker, queue)
        while len(self._workers) < (self._limits.workers or 1):
            job = queue.take(0)
            if job is None:
                return
            worker = _Worker.start(self._make, self._limits.depth)
            self._workers.append(worker)
            worker.give(job, queue.alone(job.key))
            self._fill(worker, queue)

    def _fill(self, worker: _Worker, queue: Queue) -> None:
        while worker.has_room:
            job = queue.take(len(worker.jobs))
            if job is None:
                return
            worker.give(job, queue.alone(job.key))

    def _with_news(self) -> list[_Worker]:
        by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in self._workers}
        return [by_connection[connection] for connection in wait(list(by_connection), _POLL)]

    def _hear(self, worker: _Worker, queue: Queue) -> Iterator[Event]:
        """One message of a worker, or that it is no more."""
        try:
            kind, key, told = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._mourn(worker, queue)
            return
        if kind == "running":
            if worker.clock.running(key, told):
                yield Began(key, queue.attempt(key))
        elif kind == "ready":
            self._stillborn = 0
            worker.ready = True
        elif kind == "unusable":
            raise ExecutorError(str(told))
        else:
            worker.jobs.pop(key)
            worker.clock.forget(key)
            yield Lost(key, told, raised=True) if kind == "raised" else Finished(key, *told)

    def _mourn(self, worker: _Worker, queue: Queue) -> Iterator[Event]:
        self._workers.remove(worker)
        code = worker.bury()
        jobs = list(worker.jobs.values())
        if worker.ready:
            yield from queue.lost(jobs, f"its worker {_ending(code)}")
            return
        queue.back.extend(jobs)  # whatever ended it, no job had begun
        self._stillborn += 1
        if self._stillborn >= _STARTS:
            raise ExecutorError(f"a worker process {_ending(code)} before it was ready; is there enough memory?")

    def _check_clock(self, worker: _Worker, queue: Queue) -> Iterator[Event]:
        limit = self._limits.timeout
        late = None if limit is None else worker.clock.late(limit)
        if late is None:
            return
        self._workers.remove(worker)
        worker.process.kill()
        worker.bury()
        yield from queue.lost(list(worker.jobs.values()), f"took longer than {limit:g} s", late)


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, the pipe to it, and the jobs that it was given."""

    process: Any
    connection: Connection
    depth: int
    ready: bool = False
    alone: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    @classmethod
    def start(cls, make: Make, depth: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_main, args=(theirs, make), daemon=True, name="medseg-worker")
        process.start()
        theirs.close()
        return cls(process, ours, depth)

    @property
    def has_room(self) -> bool:
        return len(self.jobs) < (1 if self.alone else self.depth)

    def give(self, job: Job, alone: bool) -> None:
        self.alone = alone
        self.jobs[job.key] = job
        with suppress(OSError):  # it is dead, which is noticed where it is listened to
            self.connection.send(job)

    def bury(self) -> int | None:
        """Wait for its end, which is near, and close what is left of it; its exit code."""
        self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        code: int | None = self.process.exitcode
        self.process.close()
        return code


def _ending(code: int | None) -> str:
    """'was killed (SIGKILL)' or 'ended with exit code 3'."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    known = {int(one): one.name for one in signal.Signals}
    return f"was killed ({known.get(-code, f'signal {-code}')})"


# ---- in the worker --------------------------------------------------------------------------


def _main(connection: Connection, make: Make) -> None:
    """Take jobs from the pipe until it closes; tell what becomes of them."""
    # Ctrl-C reaches the whole group of processes; what becomes of the workers is the driver's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = Lock()

    def tell(kind: str, key: str = "", told: object = None) -> None:
        with lock:
            connection.send((kind, key, told))

    def do(job: Job) -> None:
        try:
            tell("finished", job.key, pipeline.do(job.payload, lambda runs: tell("running", job.key, runs)))
        except Exception as error:  # also of a result that cannot be sent
            tell("raised", job.key, raised(error))

    try:
        pipeline = Pipeline(make)
    except Exception as error:
        tell("unusable", "", str(error) if isinstance(error, MedsegError) else raised(error))
        return
    tell("ready")
    with ThreadPoolExecutor(DEPTH, thread_name_prefix="medseg-job") as threads:
        while True:
            try:
                job = connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the driver is gone: nobody would note down what is still being made
            threads.submit(do, job)
