"""Workers on an existing Ray cluster: actors that each make their `Work` once, spread over the nodes.

The files that jobs name must lie under the same paths on every node.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Any

from medseg.core.errors import MedsegError, MissingDependencyError
from medseg.executors.contract import DEPTH, Began, Event, ExecutorError, Finished, Job, Limits, Lost, Make, raised
from medseg.executors.pipeline import Clock, Pipeline
from medseg.executors.queue import Queue

_POLL = 0.5  # seconds between looks at what is finished
_STARTS = 3  # workers in a row that may die before they are ready
_DOOR = 10.0  # seconds that a cluster has to answer at its address
_PATIENCE = 300.0  # seconds until one worker at least has found a place in the cluster


class Executor:
    """Ray actors; this process alone knows what is done, and hears of it from them.

    A worker whose node died costs its jobs nothing; one that died by itself costs them an attempt.
    Raises MissingDependencyError where ray is not installed, ExecutorError where no cluster answers.
    """

    def __init__(self, make: Make, limits: Limits) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError("the executor 'ray' needs Ray: pip install 'medseg[ray]'") from error
        self._ray: Any = ray
        self._make = make
        self._limits = limits
        self._workers: list[_Worker] = []
        self._stillborn = 0
        self._waiting_since = 0.0

    def __enter__(self) -> Executor:
        try:
            _check_door(self._limits.address)
            self._ray.init(address=self._limits.address, log_to_driver=False, logging_level="error")
        except (OSError, RuntimeError, ValueError) as error:
            place = self._limits.address or "this machine"
            raise ExecutorError(f"{place}: no Ray cluster answers ({' '.join(str(error).split())})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            self._kill(worker)
        self._workers.clear()
        self._ray.shutdown()

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """See `medseg.executors.contract.Executor.run`."""
        queue = Queue.of(jobs, self._limits.attempts)
        self._waiting_since = time.monotonic()
        while True:
            yield from self._hand_out(queue)
            if queue.empty and not any(worker.jobs for worker in self._workers):
                return
            yield from self._hear(queue)
            for worker in list(self._workers):
                yield from self._check_clock(worker, queue)

    # ---- giving ---------------------------------------------------------------------------------

    def _hand_out(self, queue: Queue) -> Iterator[Event]:
        """Start the workers that are missing; jobs go to those that have found a place."""
        while len(self._workers) < self._wanted():
            self._workers.append(self._start())
        for worker in self._workers:
            while worker.has_room:
                job = queue.take(len(worker.jobs))
                if job is None:
                    break
                worker.alone = queue.alone(job.key)
                worker.jobs[worker.actor.do.remote(job)] = job
                yield Began(job.key, queue.attempt(job.key))
        if not any(worker.node for worker in self._workers) and time.monotonic() - self._waiting_since > _PATIENCE:
            raise ExecutorError("the Ray cluster has no free CPU for a worker; ask for fewer --workers or wait")

    def _wanted(self) -> int:
        return self._limits.workers or sum(node["Alive"] for node in self._ray.nodes())

    def _start(self) -> _Worker:
        graphics = 1 if self._limits.accelerator and self._ray.cluster_resources().get("GPU") else 0
        kind = self._ray.remote(_Actor).options(
            num_cpus=1, num_gpus=graphics, max_restarts=0, max_concurrency=DEPTH + 2, scheduling_strategy="SPREAD"
        )
        actor = kind.remote(self._make)
        return _Worker(actor, actor.started.remote(), self._limits.depth)

    # ---- hearing --------------------------------------------------------------------------------

    def _hear(self, queue: Queue) -> Iterator[Event]:
        """What is finished, which workers are ready, and which are no more."""
        owners = {reference: worker for worker in self._workers for reference in worker.awaited()}
        if not owners:
            return
        done, _ = self._ray.wait(list(owners), num_returns=1, timeout=_POLL)
        for reference in done:
            worker = owners[reference]
            try:
                told = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                if worker in self._workers:
                    yield from self._mourn(worker, queue, error)
                continue
            except self._ray.exceptions.RayError as error:  # such as a result that cannot be sent
                yield Lost(worker.jobs.pop(reference).key, raised(error), raised=True)
                continue
            yield from self._told(worker, reference, told)

    def _told(self, worker: _Worker, reference: Any, told: tuple[str, Any]) -> Iterator[Event]:
        kind, what = told
        if kind == "unusable":
            raise ExecutorError(what)
        if kind == "ready":
            self._stillborn = 0
            worker.node = what
            return
        job = worker.jobs.pop(reference)
        yield Lost(job.key, what, raised=True) if kind == "raised" else Finished(job.key, *what)

    def _mourn(self, worker: _Worker, queue: Queue, error: Exception) -> Iterator[Event]:
        self._workers.remove(worker)
        jobs = list(worker.jobs.values())
        if not worker.node:
            self._stillborn += 1
            if self._stillborn >= _STARTS:
                raise ExecutorError(f"a Ray worker died before it was ready ({' '.join(str(error).split())})")
        if worker.node in self._living():
            yield from queue.lost(jobs, "its worker died on the Ray cluster")
        else:
            yield from queue.given_back(jobs, "its node left the Ray cluster")

    def _living(self) -> set[str]:
        return {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}

    def _check_clock(self, worker: _Worker, queue: Queue) -> Iterator[Event]:
        limit = self._limits.timeout
        if limit is None or not worker.jobs:
            return
        try:
            late = self._ray.get(worker.actor.late.remote(limit), timeout=_POLL)
        except self._ray.exceptions.RayError:
            return  # busy or dead, which is noticed elsewhere
        if late is None:
            return
        self._workers.remove(worker)
        self._kill(worker)
        yield from queue.lost(list(worker.jobs.values()), f"took longer than {limit:g} s", late)

    def _kill(self, worker: _Worker) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError):  # dead already
            self._ray.kill(worker.actor, no_restart=True)


def _check_door(address: str | None) -> None:
    """Raises OSError where nothing listens at HOST:PORT: Ray itself would go on asking for minutes."""
    host, sign, port = (address or "").removeprefix("ray://").rpartition(":")
    if sign and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_DOOR).close()


@dataclass(slots=True, eq=False)
class _Worker:
    """An actor, the node it lives on ('' while it waits for one), and the jobs that it was given."""

    actor: Any
    starting: Any
    depth: int
    node: str = ""
    alone: bool = False
    jobs: dict[Any, Job] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        return bool(self.node) and len(self.jobs) < (1 if self.alone else self.depth)

    def awaited(self) -> list[Any]:
        return list(self.jobs) if self.node else [self.starting]


class _Actor:
    """What lives on the cluster."""

    def __init__(self, make: Make) -> None:
        self._clock = Clock()
        self._lock = Lock()
        self._unusable = ""
        try:
            self._pipeline = Pipeline(make)
        except Exception as error:
            self._unusable = str(error) if isinstance(error, MedsegError) else raised(error)

    def started(self) -> tuple[str, str]:
        """The id of its node, or why it cannot work."""
        import ray

        if self._unusable:
            return "unusable", self._unusable
        return "ready", str(ray.get_runtime_context().get_node_id())

    def do(self, job: Job) -> tuple[str, Any]:
        def running(runs: bool) -> None:
            with self._lock:
                self._clock.running(job.key, runs)

        try:
            return "finished", self._pipeline.do(job.payload, running)
        except Exception as error:
            return "raised", raised(error)
        finally:
            with self._lock:
                self._clock.forget(job.key)

    def late(self, limit: float) -> str | None:
        with self._lock:
            return self._clock.late(limit)
