"""`medseg train --folds K`: K models, each without one fold of the cases, that answer as one.

Every case is predicted by the model that never saw it, so the report covers all cases and is honest;
users get the mean of all models. RUN/fold-0 … are runs like any other; a stopped ensemble goes on
where it was.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.bundle import Bundle
from medseg.core.case import Case
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message
from medseg.core.files import write_json
from medseg.core.plan import to_plain
from medseg.core.task import Task
from medseg.core.version import VERSION
from medseg.data.shipped import data_root
from medseg.data.splits import Split, make_split, read_split
from medseg.workflows.prepare import (
    FINGERPRINT,
    PLAN,
    SPLIT,
    free_folder,
    read_run,
    resolve_task,
    usable_cases,
    write_run,
)

if TYPE_CHECKING:
    from medseg.core.report import Report
    from medseg.workflows.scoring import Scored
    from medseg.workflows.train import TrainOptions, TrainResult

_ENDING = 0.05  # of the time budget, for the report on all cases


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What the whole ensemble is about: where it lies, for which task, as what was asked for it."""

    folder: Path
    task: Task
    root: Path
    options: TrainOptions
    listener: Listener


def train_folds(
    task: str | Path | Task | None,
    data: Path | str | None,
    output: Path | str | None,
    options: TrainOptions,
    listener: Listener,
) -> TrainResult:
    """Train one model per fold and leave them as one bundle, scored on cases that the answering model never saw.

    The time budget is for all of them. With a split file the folds are made of its training and
    validation cases, and its test cases are scored by all models together.
    Raises MedsegError (one sentence) for anything the user can mend.
    """
    from medseg.workflows.scoring import calibration_of
    from medseg.workflows.train import TRAINING, TrainResult

    started = time.monotonic()
    work = _claimed(task, data, output, options, listener)
    cases = usable_cases(work.task, work.root, options, listener)
    splits, tested = _splits(cases, work.task, options)
    runs = []
    for fold, split in enumerate(splits):
        listener(Message(f"fold {fold + 1} of {len(splits)}: {len(split.train)} cases train"))
        runs.append(_member(work, fold, split, _share(options, started, len(splits) - fold)))
    scored = _held_out(runs, splits, cases, work)
    bundle = replace(_combined([Bundle.load(run) for run in runs]), calibration=calibration_of(scored))
    bundle = bundle.save(work.folder / "bundle")
    write_json(work.folder / PLAN, to_plain(bundle.plan))
    report = _report(scored, [cases[name] for name in tested], bundle, work)
    seconds = time.monotonic() - started
    write_json(work.folder / TRAINING, {"folds": len(runs), "seconds": round(seconds, 1),
                                        "bundle_hash": bundle.hash, "medseg": VERSION})  # fmt: skip
    return TrainResult(work.folder, report, bundle.hash, seconds, bundle)


def _claimed(
    task: str | Path | Task | None,
    data: Path | str | None,
    output: Path | str | None,
    options: TrainOptions,
    listener: Listener,
) -> _Work:
    """The run folder, which knows from here on what it was asked for, its task and its data."""
    from medseg.training.team import called
    from medseg.workflows.train import own_time

    if options.fold is not None or options.replay is not None:
        raise UsageError("--folds trains every fold: leave --fold and --replay out")
    if called():
        raise UsageError("--folds trains one model after the other: start it without torchrun")
    if options.resume:
        folder = Path(output or "")
        return _Work(folder, *read_run(folder), options, listener)
    if task is None:
        raise UsageError("say which task to train: a name that `medseg tasks` lists, or a task file")
    wanted = resolve_task(task, options)
    options = replace(options, time_budget=options.time_budget or own_time(wanted, data, options))
    root = data_root(wanted, data).resolve()
    folder = Path(output) if output is not None else free_folder(Path("runs") / wanted.name)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: is not empty; choose another --output, or --resume the run in it")
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder, wanted, root, options)
    return _Work(folder, wanted, root, options, listener)


def _splits(cases: Mapping[str, Case], task: Task, options: TrainOptions) -> tuple[list[Split], tuple[str, ...]]:
    """Who trains and validates in each fold, and who is tested in the end."""
    test: tuple[str, ...] = ()
    pool = list(cases.values())
    if options.split is not None:
        given = read_split(options.split, pool)
        test = given.test
        pool = [cases[name] for name in (*given.train, *given.validation)]
    seed = task.split.seed if options.seed is None else options.seed
    count = options.folds or task.split.folds
    groups = len({case.group for case in pool})
    if count < 2 or count > groups:
        raise UsageError(f"--folds {count}: there can be 2 to {groups} folds, as there are {groups} patients")
    return [make_split(pool, count, fold, seed) for fold in range(count)], test


def _share(options: TrainOptions, started: float, left: int) -> TrainOptions:
    """The options of one of `left` models that are still to be trained."""
    alone = replace(options, folds=None, split=None, resume=False, checked=True)
    if options.time_budget is None:
        return alone
    rest = (1 - _ENDING) * options.time_budget - (time.monotonic() - started)
    return replace(alone, time_budget=max(rest, 1.0) / left)


def _member(work: _Work, fold: int, split: Split, options: TrainOptions) -> Path:
    """The finished run of one fold: as it was left, gone on with, or new, with the first fold's plan."""
    from medseg.workflows.train import train

    run = work.folder / f"fold-{fold}"
    if (run / "training.json").exists():
        return run
    if (run / "checkpoint.safetensors").exists():
        train(output=run, options=replace(options, resume=True), listener=work.listener)
        return run
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    write_run(run, work.task, work.root, options)
    write_json(run / SPLIT, {"train": split.train, "validation": split.validation, "test": []})
    if fold:
        # One plan for all, or their probabilities could not be averaged.
        for name in (FINGERPRINT, PLAN):
            shutil.copy(work.folder / "fold-0" / name, run / name)
    train(output=run, options=options, listener=work.listener)
    return run


def _combined(bundles: Sequence[Bundle]) -> Bundle:
    first = bundles[0]
    state = {f"members.{n}.{name}": value for n, one in enumerate(bundles) for name, value in one.state.items()}
    network = replace(first.plan.network, members=len(bundles))
    provenance = {"medseg": VERSION, "members": [dict(one.provenance) for one in bundles]}
    return Bundle(first.task, replace(first.plan, network=network), first.fingerprint, state, provenance)


def _held_out(runs: Sequence[Path], splits: Sequence[Split], cases: Mapping[str, Case], work: _Work) -> list[Scored]:
    """Every case of every fold, predicted by the model that never saw it."""
    from medseg.inference import Predictor
    from medseg.workflows.scoring import score_cases

    scored: list[Scored] = []
    for run, split in zip(runs, splits, strict=True):
        predictor = Predictor(Bundle.load(run), work.options.device)
        scored += score_cases(
            predictor, [cases[name] for name in split.validation], work.task, work.folder, work.listener
        )
    return scored


def _report(scored: list[Scored], tested: Sequence[Case], bundle: Bundle, work: _Work) -> Report:
    """The report on the held-out cases of all folds, or on the split's test cases by all models together."""
    from medseg.inference import Predictor
    from medseg.workflows.scoring import score_cases, write_run_report

    context = {"task": work.task.name, "models": len(list(work.folder.glob("fold-*"))), "held-out cases": len(scored)}
    scored_on = "validation"
    if tested:
        predictor = Predictor(bundle, work.options.device)
        scored, scored_on = score_cases(predictor, tested, work.task, work.folder, work.listener), "test"
        context["test cases"] = len(tested)
    shutil.copy(work.folder / "fold-0" / "training.csv", work.folder / "training.csv")  # the curves that are drawn
    return write_run_report(scored, bundle, work.folder, scored_on, context)
