"""How far a run is, and how fast it learns there.

Progress is one number from 0 to 1: the larger of steps done and time used. Everything that changes
during training (learning rate, when to validate, when to stop) follows from it alone, so that a run
whose progress was written down can be repeated exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from medseg.core.plan import Schedule


def learning_rate(schedule: Schedule, progress: float) -> float:
    """Linear warm-up, then poly decay lr * (1 - progress)^power (DeepLab, Chen 2017) or half a cosine (SGDR, 2017)."""
    if progress < schedule.warmup:
        return schedule.learning_rate * max(progress / schedule.warmup, 1e-2)
    rest = (1 - min(progress, 1.0)) / (1 - schedule.warmup)
    if schedule.decay == "cosine":
        return schedule.learning_rate * (1 - math.cos(math.pi * rest)) / 2
    return float(schedule.learning_rate * rest**schedule.power)


@dataclass(slots=True)
class Clock:
    """Progress of a run.

    steps: optimiser steps of the whole run, or None where time alone decides; seconds: wall-clock
    of the whole run from `started` (time.monotonic), or None; used: seconds that earlier attempts
    of the same run took; floor: progress never runs backwards, not across a resume either;
    recorded: progress per step as an earlier run wrote it down, which then is all that counts.
    """

    steps: int | None
    seconds: float | None
    started: float = field(default_factory=time.monotonic)
    used: float = 0.0
    floor: float = 0.0
    recorded: Sequence[float] | None = None

    def elapsed(self) -> float:
        """Seconds this run has taken so far, over all its attempts."""
        return self.used + time.monotonic() - self.started

    def progress(self, step: int) -> float:
        """Progress before step number `step` (from 0); 1.0 means that the run is over."""
        if self.recorded is not None:
            return self.recorded[step] if step < len(self.recorded) else 1.0
        by_steps = step / self.steps if self.steps else 0.0
        by_time = self.elapsed() / self.seconds if self.seconds else 0.0
        self.floor = min(1.0, max(self.floor, by_steps, by_time))
        return self.floor

    def reserve(self, seconds: float) -> None:
        """Keep `seconds` of the time budget for what follows the training; a tenth of it always stays."""
        if self.seconds is not None:
            self.seconds = max(self.seconds - seconds, 0.1 * self.seconds)

    def seconds_left(self, progress: float) -> float | None:
        """An estimate of the time to the end of training; None before anything is known."""
        if progress <= 0:
            return None
        return self.elapsed() * (1 - progress) / progress
