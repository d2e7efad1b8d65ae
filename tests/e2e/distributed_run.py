"""One process of a training by several: started by torchrun from test_several_processes.py."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from medseg.workflows.train import TrainOptions, train


def main(task: str, data: str, output: str, steps: int, dies_at: int) -> None:
    """Train; the second process kills itself before step `dies_at` (never where that is negative)."""
    options = TrainOptions(steps=steps, device="cpu", overrides=OVERRIDES)
    if dies_at >= 0 and os.environ.get("RANK") == "1":
        from medseg.training.batches import Batches

        draw = Batches.__call__

        def deadly(batches: Batches, step: int, part: int = 0) -> object:
            if step == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return draw(batches, step, part)

        Batches.__call__ = deadly  # type: ignore[method-assign, assignment]  # a process that dies in mid-step
    result = train(Path(task), Path(data), Path(output), options)
    print(f"rank {os.environ.get('RANK')} {result.leads} {result.bundle_hash} {result.report.summary['mean_dice']}")


OVERRIDES = {
    "schedule.precision": "float32",
    "schedule.accumulate": "2",
    "schedule.checkpoint_seconds": "0",
    "schedule.learning_rate": "0.001",  # rounding grows with the steps, and faster with larger ones
}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
