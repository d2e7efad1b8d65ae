"""One training of a grid, in a worker: a run folder of its own, its scores, and what it cost."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import MedsegError, UsageError
from medseg.core.files import write_json
from medseg.core.task import Task

if TYPE_CHECKING:
    from medseg.bundle import Bundle
    from medseg.training.range_test import Limit

ASKED, RESULT, RANGE_TEST, RUN_FOLDER = "asked.json", "result.json", "range_test.json", "run"
METRICS = ("dice", "iou", "hd95")  # per case, the mean over its labels
_RANGE_SHARE = 0.1  # of the budget goes into finding the learning rate
_LEAST_SHARE = 0.3  # of the budget must be left for the training itself
_TIMED = 5  # scans whose prediction is timed, after a first one that is not
_TIMED_SECONDS, _TIMED_SHARE = 10.0, 0.05  # at most, in all and of a training's time


@dataclass(frozen=True, slots=True)
class Effort:
    """What one training may take: seconds or optimiser steps, its range test included.

    range_test: whether the learning rate is looked for, or the plan's own is taken.
    Raises UsageError where not exactly one of seconds and steps is given.
    """

    seconds: float | None = None
    steps: int | None = None
    range_test: bool = True

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise UsageError("a training takes a time budget or a number of steps: give one of the two")
        if (self.seconds if self.steps is None else self.steps) <= 0:  # type: ignore[operator]  # one is given
            raise UsageError("a training needs more than nothing: give a longer budget or more steps")

    def words(self) -> str:
        """'60 s' or '200 steps'."""
        return f"{self.steps} steps" if self.seconds is None else f"{self.seconds:.3g} s"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of a grid.

    key: its name and its folder's; model: as the user calls it; plan: overrides that make it that model;
    train, held_out: case ids; seed: of everything that is drawn; fold, subset: which of each it is;
    count: how many cases were asked for (patients are kept whole, so that `train` may hold more).
    """

    key: str
    model: str
    plan: Mapping[str, str]
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    seed: int = 0
    fold: int = 0
    subset: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a training and its model took.

    parameters: of the network that predicts; multiply_adds: of it for one window (`patch`); steps, seconds:
    of the training, report included; learning_rate: it was trained with; inference_ms: median of
    predicting one scan from memory to its label map; peak_bytes: of the process's memory (a GPU's, where it
    computed) while training and predicting. None: could not be measured.
    """

    parameters: int
    multiply_adds: int
    patch: tuple[int, ...]
    steps: int
    seconds: float
    learning_rate: float
    inference_ms: float | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class CellResult:
    """What became of a cell: `reason` why it failed, else '' and scores.

    cases: case id -> metric -> mean over its labels, None where undefined; dataset_miou: over all held-out cases.
    """

    reason: str = ""
    cases: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    dataset_miou: float | None = None
    cost: Cost | None = None

    @property
    def finished(self) -> bool:
        return not self.reason


def read_result(folder: Path) -> CellResult | None:
    """The result that lies in a cell's folder; None where there is none that can be read."""
    try:
        raw = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        cost = raw["cost"]
        known = None if cost is None else Cost(**{**cost, "patch": tuple(cost["patch"])})
        return CellResult(raw["reason"], raw["cases"], raw["dataset_miou"], known)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_result(folder: Path, result: CellResult) -> None:
    """Keep a result in the cell's folder, whole or not at all."""
    write_json(folder / RESULT, asdict(result))


@dataclass(frozen=True, slots=True)
class Setup:
    """Makes the trainer of one worker; picklable. sharing: workers that share this machine's cores."""

    task: Task
    data: Path
    folder: Path
    effort: Effort
    device: str = "auto"
    skip_broken: bool = False
    sharing: int = 1

    def __call__(self) -> Trainer:
        if self.sharing > 1:
            import torch

            torch.set_num_threads(max(1, torch.get_num_threads() // self.sharing))
        return Trainer(self)


class Trainer:
    """A worker's `Work` (see `medseg.executors.contract`): a cell in, its result out and in its folder."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def read(self, job: Any) -> Any:
        """Nothing: what a training reads, it reads itself."""
        return job

    def compute(self, item: Cell) -> CellResult:
        """Train, or go on where the cell was stopped; what the user can mend becomes the result's reason."""
        folder = self.setup.folder / item.key
        try:
            result = self._result(item, folder)
        except MedsegError as error:
            result = CellResult(" ".join(str(error).split()))
        write_result(folder, result)
        return result

    def write(self, item: CellResult) -> CellResult:
        """What was written already."""
        return item

    def _result(self, cell: Cell, folder: Path) -> CellResult:
        from medseg.bundle import Bundle
        from medseg.nets.cost import cost as network_cost
        from medseg.training.fit import CHECKPOINT
        from medseg.workflows.train import TRAINING

        run, device = folder / RUN_FOLDER, self.setup.device
        forget_peak(device)
        if not (run / TRAINING).exists():
            self._train(cell, folder, run)
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
        trained = json.loads((run / TRAINING).read_text(encoding="utf-8"))
        tested = json.loads((folder / RANGE_TEST).read_text(encoding="utf-8"))
        bundle = Bundle.load(run)
        milliseconds = self._inference_ms(cell, bundle)
        size = network_cost(bundle.plan.network, bundle.plan.patch[: bundle.plan.ndim])
        cost = Cost(
            parameters=size.parameters,
            multiply_adds=size.multiply_adds,
            patch=bundle.plan.patch,
            steps=trained["steps"],
            seconds=round(trained["seconds"] + tested["seconds"], 1),
            learning_rate=bundle.plan.schedule.learning_rate,
            inference_ms=milliseconds,
            peak_bytes=peak(device),
        )
        cases = {case["id"]: _means(case) for case in report["cases"]}
        (run / CHECKPOINT).unlink(missing_ok=True)  # nothing is left to be resumed, and a grid has many cells
        return CellResult("", cases, report["summary"].get("dataset_miou"), cost)

    # ---- training -------------------------------------------------------------------------------

    def _train(self, cell: Cell, folder: Path, run: Path) -> None:
        from medseg.training.fit import CHECKPOINT
        from medseg.workflows.train import TrainOptions, train

        setup, effort = self.setup, self.setup.effort
        if (run / CHECKPOINT).exists():
            train(output=run, options=TrainOptions(resume=True, device=setup.device, checked=True))
            return
        shutil.rmtree(run, ignore_errors=True)
        started = time.monotonic()
        split = folder / "split.json"
        write_json(split, {"train": cell.train, "validation": cell.held_out})
        # Held-out cases are looked at once, at the end: nothing could be chosen by them.
        overrides = {**cell.plan, "schedule.validations": "0", "schedule.seed": str(cell.seed)}
        steps = self._find_rate(run, split, overrides, started)
        left = None if effort.seconds is None else effort.seconds - (time.monotonic() - started)
        if left is not None and left < _LEAST_SHARE * (effort.seconds or 0.0):
            raise UsageError(
                f"of {effort.words()} only {max(left, 0):.0f} s are left after preparing the cases and the range test"
            )
        train(
            setup.task,
            setup.data,
            run,
            TrainOptions(
                split=split,
                seed=cell.seed,
                device=setup.device,
                overrides=overrides,
                skip_broken=setup.skip_broken,
                checked=True,
                time_budget=left,
                steps=None if effort.steps is None else max(1, effort.steps - steps),
            ),
        )

    def _find_rate(self, run: Path, split: Path, overrides: dict[str, str], started: float) -> int:
        """Prepare the run and, if asked, put the rate that a range test finds into its overrides; the test's steps."""
        from medseg.inference import resolve_device
        from medseg.training.range_test import FEWEST, range_test
        from medseg.workflows.prepare import PrepareOptions, prepare
        from medseg.workflows.train import what_learns

        setup, effort = self.setup, self.setup.effort
        # The budget as a whole: networks are planned by it, and the training is told what is left of it.
        key, value = ("steps", effort.steps) if effort.seconds is None else ("time_budget", effort.seconds)
        options = PrepareOptions(
            split=split,
            device=setup.device,
            overrides={**overrides, f"schedule.{key}": str(value)},
            skip_broken=setup.skip_broken,
            checked=True,
        )
        preparation = prepare(setup.task, setup.data, run, options)
        kept, limit = preparation.plan.schedule.learning_rate, _limit(effort)
        told: dict[str, Any] = {"chosen": kept, "reason": "the plan's own", "rates": [], "losses": []}
        if limit.steps is not None and limit.steps < FEWEST:
            told["reason"] = f"the plan's own: {limit.steps} steps would be too few for a range test"
        elif effort.range_test and "schedule.learning_rate" not in overrides:
            test = range_test(what_learns(preparation, resolve_device(setup.device)), limit)
            told = asdict(test)
            overrides["schedule.learning_rate"] = str(test.chosen)
        told["seconds"] = round(time.monotonic() - started, 2)
        write_json(run.parent / RANGE_TEST, told)
        return len(told["rates"])

    # ---- measuring ------------------------------------------------------------------------------

    def _inference_ms(self, cell: Cell, bundle: Bundle) -> float | None:
        """Median time of predicting a held-out scan that has been read."""
        from statistics import median

        from medseg.data.labels import read_case
        from medseg.data.layouts import find_cases
        from medseg.inference import Predictor

        wanted = set(sorted(cell.held_out)[: _TIMED + 1])
        cases = [case for case in find_cases(self.setup.task, self.setup.data).cases if case.id in wanted]
        predictor = Predictor(bundle, self.setup.device)
        seconds = self.setup.effort.seconds
        patience = _TIMED_SECONDS if seconds is None else min(_TIMED_SECONDS, _TIMED_SHARE * seconds)
        begun = time.monotonic()
        taken: list[float] = []
        for case in cases:
            scan, _ = read_case(case, self.setup.task)
            started = time.monotonic()
            predictor.predict(scan)
            taken.append(1000 * (time.monotonic() - started))
            if time.monotonic() - begun > patience:
                break
        counted = taken[1:] or taken  # the first one warms up
        return round(median(counted), 1) if counted else None


def forget_peak(device: str) -> None:
    """Begin to measure the peak of memory anew, where the system lets a process do so."""
    if _on_gpu(device):
        import torch

        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM
    except OSError:
        return


def peak(device: str) -> int | None:
    """The most bytes in use since `forget_peak`: of the GPU, or resident in memory (Linux); None elsewhere."""
    if _on_gpu(device):
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _on_gpu(device: str) -> bool:
    from medseg.inference import resolve_device

    return resolve_device(device).type == "cuda"


def _limit(effort: Effort) -> Limit:
    from medseg.training.range_test import Limit

    return Limit(
        steps=None if effort.steps is None else int(_RANGE_SHARE * effort.steps),
        seconds=None if effort.seconds is None else _RANGE_SHARE * effort.seconds,
    )


def _means(case: Mapping[str, Any]) -> dict[str, float | None]:
    """Every metric of `METRICS` that the report knows, as the mean over the case's labels."""
    known = {}
    for name in METRICS:
        values = [figures[name] for figures in case["labels"].values() if figures.get(name) is not None]
        if any(name in figures for figures in case["labels"].values()):
            known[name] = sum(values) / len(values) if values else None
    return known
