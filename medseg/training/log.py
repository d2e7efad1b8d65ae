"""What a run writes down as it goes: every step for `--replay`, every epoch for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from medseg.core.errors import UsageError
from medseg.core.files import write_text

STEPS = "steps.csv"
EPOCHS = "training.csv"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step: its number (from 0), the progress it ran at and its loss."""

    step: int
    progress: float
    learning_rate: float
    loss: float


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch: steps done by its end, its mean loss, and validation Dice where it was measured."""

    step: int
    epoch: int
    seconds: float
    progress: float
    learning_rate: float
    loss: float
    validation_dice: float | None = None


def append_steps(folder: Path, records: Sequence[StepRecord]) -> None:
    """Add steps to RUN/steps.csv; a kill in mid-write costs the last line only."""
    path = folder / STEPS
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow([f.name for f in fields(StepRecord)])
        for record in records:
            writer.writerow([record.step, repr(record.progress), repr(record.learning_rate), repr(record.loss)])


def read_steps(folder: Path) -> list[StepRecord]:
    """The whole lines of RUN/steps.csv, in order. Raises UsageError where there is none."""
    path = folder / STEPS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read, so this run can neither be replayed nor resumed") from error
    records: list[StepRecord] = []
    for line in csv.reader(lines[1:]):
        try:
            step, progress, rate, loss = line
            record = StepRecord(int(step), float(progress), float(rate), float(loss))
        except ValueError:
            break  # a torn last line
        if record.step != len(records):
            break
        records.append(record)
    return records


def keep_steps(folder: Path, count: int) -> list[StepRecord]:
    """Cut RUN/steps.csv back to its first `count` steps and return them."""
    records = read_steps(folder)[:count]
    (folder / STEPS).unlink()
    append_steps(folder, records)
    return records


def write_epochs(folder: Path, records: Sequence[EpochRecord]) -> None:
    """Write RUN/training.csv whole, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(EpochRecord)])
    for r in records:
        dice = "" if r.validation_dice is None else f"{r.validation_dice:.4f}"
        writer.writerow([r.step, r.epoch, f"{r.seconds:.1f}", f"{r.progress:.5f}", f"{r.learning_rate:.3e}",
                         f"{r.loss:.5f}", dice])  # fmt: skip
    write_text(folder / EPOCHS, text.getvalue())


def read_epochs(folder: Path) -> list[EpochRecord]:
    """RUN/training.csv as records; empty where it does not exist."""
    path = folder / EPOCHS
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        EpochRecord(
            int(row["step"]), int(row["epoch"]), float(row["seconds"]), float(row["progress"]),
            float(row["learning_rate"]), float(row["loss"]),
            float(row["validation_dice"]) if row["validation_dice"] else None,
        )
        for row in rows
    ]  # fmt: skip
