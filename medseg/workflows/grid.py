"""A grid of trainings: every cell a job in a folder of its own, done once, whatever happens to the others.

What is known of a grid lies in its cells' folders and nowhere else: `asked.json` says what the cell is,
`result.json` (written last, atomically) what came of it. The same call goes on where an earlier one
was killed: finished cells are taken as they are, a cell that was under way goes on from its checkpoint, and
one that failed is tried again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medseg.core.case import Case
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message, Progress
from medseg.core.files import write_json
from medseg.core.task import Task
from medseg.executors import open_executor
from medseg.executors.contract import Began, Finished, Job, Limits, Lost, Returned
from medseg.workflows.cell import ASKED, Cell, CellResult, Effort, Setup, read_result, write_result

CELLS = "cells"


@dataclass(frozen=True, slots=True)
class Workers:
    """Who trains: an executor's name (see `medseg.executors`), how many workers, and a Ray cluster's address.

    device: auto, cpu or cuda.
    """

    executor: str = "serial"
    count: int | None = None
    address: str | None = None
    device: str = "auto"

    def limits(self) -> Limits:
        """One cell at a time in a worker: trainings that overlap would steal each other's time."""
        return Limits(workers=self.count, address=self.address, accelerator=self.device != "cpu", depth=1)


@dataclass(frozen=True, slots=True)
class Grid:
    """What all cells have in common. folder: the output; data: the cases' folder."""

    task: Task
    data: Path
    folder: Path
    effort: Effort
    skip_broken: bool = False


def run_grid(grid: Grid, cells: Sequence[Cell], workers: Workers, listener: Listener) -> dict[str, CellResult]:
    """Train all cells that are not finished yet; the results of all, by key, in the order of `cells`.

    Raises UsageError where the folder holds cells of these names that were asked for otherwise, ExecutorError
    where no worker can be had.
    """
    home = grid.folder / CELLS
    for cell in cells:
        _claim(grid, cell, home / cell.key)
    results = {cell.key: read_result(home / cell.key) for cell in cells}
    waiting = [cell for cell in cells if not _finished(results.get(cell.key))]
    done = len(cells) - len(waiting)
    if done:
        listener(Message(f"{done} of {len(cells)} trainings are finished already"))
    known = {cell.key: cell for cell in waiting}
    sharing = (workers.count or 1) if workers.executor == "processes" else 1
    setup = Setup(grid.task, grid.data, home, grid.effort, workers.device, grid.skip_broken, sharing)
    listener(Progress("trainings", done, len(cells)))
    if waiting:
        with open_executor(workers.executor, setup, workers.limits()) as executor:
            for event in executor.run([Job(cell.key, cell) for cell in waiting]):
                if isinstance(event, Finished | Lost):
                    result = _ended(event, home / event.key)
                    results[event.key] = result
                    done += 1
                    listener(_story(known[event.key], result))
                    listener(Progress("trainings", done, len(cells)))
                elif isinstance(event, Returned):
                    listener(Message(f"{event.key}: {event.reason}; it is tried once more", "warning"))
                elif isinstance(event, Began):
                    listener(Message(f"{event.key}: training ({grid.effort.words()})"))
    return {cell.key: results[cell.key] or CellResult("was not trained") for cell in cells}


def patients(cases: Mapping[str, Case], names: Sequence[str]) -> list[str]:
    """The patients of these cases, each once, in order."""
    return list(dict.fromkeys(cases[name].group for name in names))


def _claim(grid: Grid, cell: Cell, folder: Path) -> None:
    """Say in the cell's folder what it is, or see that what is there was asked for alike."""
    asked = json.loads(json.dumps({
        "task": grid.task.model_dump(mode="json"),
        "data": str(grid.data),
        "effort": asdict(grid.effort),
        "cell": asdict(replace(cell, plan=dict(cell.plan))),
    }))  # fmt: skip
    path = folder / ASKED
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != asked:
            raise UsageError(
                f"{folder}: was trained on something else (task, data, budget, split or plan); choose another --output"
            )
    else:
        write_json(path, asked)


def _finished(result: CellResult | None) -> bool:
    return result is not None and result.finished


def _ended(event: Finished | Lost, folder: Path) -> CellResult:
    if isinstance(event, Finished):
        result: CellResult = event.value
        return result
    lost = CellResult(event.reason)
    write_result(folder, lost)
    return lost


def _story(cell: Cell, result: CellResult) -> Message:
    if not result.finished:
        return Message(f"{cell.key}: {result.reason}", "warning")
    dice = [figures["dice"] for figures in result.cases.values() if figures.get("dice") is not None]
    mean = sum(value for value in dice if value is not None) / len(dice) if dice else None
    told = "no Dice is defined" if mean is None else f"mean Dice {mean:.3f} on {len(dice)} held-out cases"
    return Message(f"{cell.key}: {told}")
