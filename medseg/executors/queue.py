"""Which job goes next, and what a lost worker costs: the rules that isolating executors share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from medseg.executors.contract import Event, Job, Lost, Returned


@dataclass(slots=True)
class Queue:
    """Jobs that wait, those that came back first.

    When a worker dies it is not known which of its jobs killed it, so all of them have used one
    attempt; whatever is begun again is alone in its worker, and pays for nobody but itself. When the
    time of a job is up, the others in its worker are begun again at no cost.
    """

    jobs: Iterator[Job]
    attempts: int
    back: deque[Job] = field(default_factory=deque)
    used: dict[str, int] = field(default_factory=dict)
    exhausted: bool = False

    @classmethod
    def of(cls, jobs: Iterable[Job], attempts: int) -> Queue:
        return cls(iter(jobs), attempts)

    def take(self, busy: int) -> Job | None:
        """The next job for a worker that has `busy` jobs under way; None where there is none for it now."""
        if self.back:
            return self.back.popleft() if busy == 0 else None
        if self.exhausted:
            return None
        job = next(self.jobs, None)
        self.exhausted = job is None
        return job

    @property
    def empty(self) -> bool:
        """Whether nothing waits (known only when the jobs have run out)."""
        return self.exhausted and not self.back

    def attempt(self, key: str) -> int:
        """The number of the attempt that begins now."""
        return self.used.get(key, 0) + 1

    def alone(self, key: str) -> bool:
        """Whether a job must not share its worker."""
        return self.used.get(key, 0) > 0

    def given_back(self, jobs: Iterable[Job], reason: str) -> Iterator[Event]:
        """Jobs that will be begun again at no cost: it is certain that none of them is to blame."""
        for job in jobs:
            self.back.append(job)
            yield Returned(job.key, reason)

    def lost(self, jobs: Iterable[Job], reason: str, culprit: str | None = None) -> Iterator[Event]:
        """The jobs of a worker that is no more; only `culprit` pays, where it is known."""
        for job in jobs:
            if culprit not in (None, job.key):
                yield from self.given_back([job], "another job of its worker took too long")
                continue
            self.used[job.key] = self.used.get(job.key, 0) + 1
            if self.used[job.key] >= self.attempts:
                yield Lost(job.key, reason)
            else:
                self.back.append(job)
                yield Returned(job.key, reason)
