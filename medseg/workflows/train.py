"""From labelled cases to a model and an honest report: `medseg train`, readable top to bottom."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.bundle import Bundle
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message, silent
from medseg.core.files import write_json
from medseg.core.labels import mirrored_values
from medseg.core.plan import Plan, Schedule
from medseg.core.report import Report, Row
from medseg.core.task import Task
from medseg.core.version import VERSION
from medseg.data.shipped import data_root
from medseg.workflows.prepare import (
    CACHE,
    PLAN,
    RUN,
    Preparation,
    PrepareOptions,
    free_folder,
    prepare_run,
    read_run,
    resolve_task,
    write_run,
)
from medseg.workflows.prepare import prepare as prepare_cases
from medseg.workflows.refining import fit_crf
from medseg.workflows.separating import SECONDS, fit_instances
from medseg.workflows.starting import checked, provenance, repeated, start_from, take_over

if TYPE_CHECKING:
    import torch

    from medseg.training.fit import Fitted
    from medseg.training.range_test import Trial
    from medseg.training.schedule import Clock
    from medseg.training.team import Team

TRAINING = "training.json"
_WATCH_SHARE = 0.01  # of the time budget for one look at the validation cases
_REPORT_SECONDS = 8.0  # pictures, plots and pages, measured on two cores


@dataclass(frozen=True, slots=True)
class TrainOptions(PrepareOptions):
    """What may be asked of a training beyond task and data (and beyond `PrepareOptions`).

    time_budget: seconds for everything, report included; steps: optimiser steps (with a time budget
    the one that ends first decides); epochs: steps, counted in the plan's epochs; folds: so many
    models, each without one fold, that answer as one; resume: go on with the run folder; replay: a run
    whose progress is repeated step by step; elastic_engine: torch or elasticdeform; weights: a file of
    weights to start from, as far as they fit (`medseg.nets.weights`); finetune: a bundle or run whose
    weights and network are the start.
    """

    time_budget: float | None = None
    steps: int | None = None
    epochs: int | None = None
    folds: int | None = None
    resume: bool = False
    replay: Path | None = None
    elastic_engine: str | None = None
    weights: Path | None = None
    finetune: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainResult:
    """What a training left: its run folder, the report, the bundle's hash and the seconds it took.

    leads: False in the processes of a torchrun that only helped; their result is the leader's.
    """

    run: Path
    report: Report
    bundle_hash: str
    seconds: float
    bundle: Bundle = field(repr=False)
    leads: bool = True


def train(
    task: str | Path | Task | None = None,
    data: Path | str | None = None,
    output: Path | str | None = None,
    options: TrainOptions | None = None,
    listener: Listener = silent,
) -> TrainResult:
    """Train a model for a task, score it on held-out cases, and leave both in a run folder.

    task: name, task file or Task (None with resume or replay: the run knows); data: folder of the
    cases, by default the task's own; output: the run folder, by default runs/NAME.
    Raises MedsegError (one sentence) for anything the user can mend.
    """
    from medseg.inference import resolve_device
    from medseg.inference.crf import check as check_crf
    from medseg.training.team import assembled

    started = time.monotonic()
    options = options or TrainOptions()
    if options.resume:
        if output is None:
            raise UsageError("resume needs the run folder it goes on with")
        options = _kept_options(Path(output), options)
    if options.folds is not None:
        from medseg.workflows.ensemble import train_folds

        return train_folds(task, data, output, options, listener)
    with assembled(resolve_device(options.device)) as team:
        if not team.leads:
            return _help(team, options, started)
        preparation, options = _prepare(task, data, output, _for_team(options, team), listener)
        check_crf(preparation.plan)
        team.share(str(preparation.folder))
        clock = _clock(preparation.plan, options, started)
        fitted = _fit(preparation, options, clock, listener, team)
        bundle = _save_bundle(preparation, fitted, options.device, listener)
        report, bundle = _score(preparation, bundle, options.device, listener)
        shutil.rmtree(preparation.folder / CACHE, ignore_errors=True)
        seconds = clock.elapsed()
        write_json(preparation.folder / TRAINING, {"steps": fitted.steps, "epochs": fitted.epochs,
                                                   "seconds": round(seconds, 1), "bundle_hash": bundle.hash,
                                                   "medseg": VERSION})  # fmt: skip
        team.share(json.dumps(asdict(report)))
    return TrainResult(preparation.folder, report, bundle.hash, seconds, bundle)


# ---- several processes ----------------------------------------------------------------------


def _for_team(options: TrainOptions, team: Team) -> TrainOptions:
    """Options with one batch a process and step, where nothing else is asked for."""
    key = "schedule.accumulate"
    if team.size == 1 or options.resume or key in options.overrides:
        return options
    return replace(options, overrides={**options.overrides, key: str(team.size)})


def _help(team: Team, options: TrainOptions, started: float) -> TrainResult:
    """The part of a process that does not lead: compute gradients, then take over the leader's result."""
    folder = Path(team.share())
    preparation = prepare_run(folder, replace(options, overrides={}))
    clock = _clock(preparation.plan, options, started)
    _fit(preparation, options, clock, silent, team)
    raw = json.loads(team.share())
    rows = tuple(Row(**row) for row in raw.pop("rows"))
    report = Report(rows=rows, labels=tuple(raw.pop("labels")), **raw)
    bundle = Bundle.load(folder)
    return TrainResult(folder, report, bundle.hash, clock.elapsed(), bundle, leads=False)


# ---- the run folder -------------------------------------------------------------------------


def _prepare(
    task: str | Path | Task | None,
    data: Path | str | None,
    output: Path | str | None,
    options: TrainOptions,
    listener: Listener,
) -> tuple[Preparation, TrainOptions]:
    """A prepared run folder: a new one, one to go on with, or one that repeats another run."""
    if options.resume and output is not None:
        return take_over(prepare_run(Path(output), options, listener), options, listener), options
    if options.replay is not None:
        options = repeated(options.replay, options)
        return _prepare_replay(output, options, listener), options
    if task is None:
        if output is None or not (Path(output) / RUN).exists():
            raise UsageError("say which task to train: a name that `medseg tasks` lists, or a task file")
        task, data = read_run(Path(output))
    if output is not None and (Path(output) / "bundle").exists():
        raise UsageError(f"{output}: holds a finished run; choose another --output")
    if output is not None and (Path(output) / "checkpoint.safetensors").exists():
        raise UsageError(f"{output}: holds a run that was stopped; go on with --resume or choose another --output")
    wanted = resolve_task(task, options)
    options = checked(_with_plan_keys(_in_steps(wanted, options)))
    defaults = _default_budget(wanted, data, options)
    preparation = prepare_cases(wanted, data_root(wanted, data), output, defaults, listener)
    return take_over(preparation, defaults, listener), defaults


def _prepare_replay(output: Path | str | None, options: TrainOptions, listener: Listener) -> Preparation:
    """A run folder with the task, data, split and plan of the run that is repeated."""
    source = Path(options.replay or "")
    task, root = read_run(source)
    folder = Path(output) if output is not None else free_folder(source.with_name(f"{source.name}-replay"))
    if folder.exists():
        raise UsageError(f"{folder}: exists already; a replay needs a folder of its own")
    folder.mkdir(parents=True)
    for name in ("split.json", "fingerprint.json", PLAN):
        shutil.copy(source / name, folder / name)
    write_run(folder, task, root, options)
    if not root.exists():
        raise UsageError(f"{root}: the data of {source} is not there any more")
    listener(Message(f"repeating {source} on {root} (task {task.name})"))
    return prepare_run(folder, options, listener)


def _with_plan_keys(options: TrainOptions) -> TrainOptions:
    """Options that are plan keys too become overrides, so that plan.json tells the whole truth."""
    named = {
        "schedule.time_budget": options.time_budget,
        "schedule.steps": options.steps,
        "schedule.seed": options.seed,
        "augment.elastic_engine": options.elastic_engine,
    }
    given = {key: str(value) for key, value in named.items() if value is not None}
    return replace(options, overrides={**given, **options.overrides})


def _in_steps(task: Task, options: TrainOptions) -> TrainOptions:
    """Options with epochs as the steps they are made of."""
    if options.epochs is None:
        return options
    if options.steps is not None:
        raise UsageError("--epochs and --steps say the same thing: give one")
    key = "schedule.epoch_steps"
    length = options.overrides.get(key, task.plan.get(key, Schedule().epoch_steps))
    try:
        return replace(options, epochs=None, steps=options.epochs * int(length))
    except ValueError as error:
        raise UsageError(f"{key} must be a whole number, not {length!r}") from error


def _default_budget(task: Task, data: Path | str | None, options: TrainOptions) -> TrainOptions:
    """Where the user says nothing about time, a task on its own data takes the time it was made for."""
    seconds = own_time(task, data, options)
    if seconds is None:
        return options
    overrides = {"schedule.time_budget": str(seconds), **options.overrides}
    return replace(options, time_budget=seconds, overrides=overrides)


def own_time(task: Task, data: Path | str | None, options: TrainOptions) -> float | None:
    """Seconds that the task takes on its own data; None where it has none, or something else was asked for."""
    asked = options.time_budget is not None or options.steps is not None or options.epochs is not None
    if asked or data is not None or {"schedule.time_budget", "schedule.steps"} & set(options.overrides):
        return None
    return task.time_budget


def _kept_options(folder: Path, options: TrainOptions) -> TrainOptions:
    """The options that the stopped run was started with; device may be another one now."""
    read_run(folder)  # refuses what is no run
    path = folder / RUN
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))["options"]
        known = {name: raw[name] for name in ("time_budget", "steps", "seed", "fold", "skip_broken", "elastic_engine")}
        split, played = (Path(raw[name]) if raw[name] else None for name in ("split", "replay"))
        kept = replace(options, **known, split=split, replay=played, overrides=raw["overrides"])
        return replace(kept, folds=raw.get("folds"))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: does not say how this run was started, so it cannot be resumed") from error


# ---- learning -------------------------------------------------------------------------------


def _clock(plan: Plan, options: TrainOptions, started: float) -> Clock:
    from medseg.training import log
    from medseg.training.schedule import Clock

    schedule = plan.schedule
    recorded = None
    if options.replay is not None:
        recorded = [record.progress for record in log.read_steps(options.replay)]
    # A time budget alone decides alone; steps count beside it only when they were asked for.
    steps = schedule.steps if schedule.time_budget is None or options.steps is not None else None
    return Clock(steps, schedule.time_budget, started, recorded=recorded)


def what_learns(preparation: Preparation, device: torch.device) -> Trial:
    """A freshly initialised network with the batches, class weights and precision that the plan has for it."""
    import torch

    from medseg.inference import training_precision
    from medseg.nets import build
    from medseg.training.batches import make_batches
    from medseg.training.fit import class_frequencies
    from medseg.training.losses import class_weights
    from medseg.training.range_test import Trial

    plan = preparation.plan
    cases = [preparation.prepared[name] for name in preparation.split.train]
    batches = make_batches(plan, cases, mirrored_values(preparation.task.label_table()), device)
    rule = plan.schedule.class_weights
    frequencies = class_frequencies(batches.labels, plan.network.out_channels) if rule != "none" else []
    torch.manual_seed(plan.schedule.seed)  # the network's initial weights
    return Trial(plan, build(plan.network), batches, class_weights(frequencies, rule), training_precision(plan, device))


def _fit(preparation: Preparation, options: TrainOptions, clock: Clock, listener: Listener, team: Team) -> Fitted:
    from medseg.training.fit import Job, fit
    from medseg.training.watch import Watcher

    plan, split = preparation.plan, preparation.split
    if plan.schedule.accumulate % team.size:
        raise UsageError(f"schedule.accumulate is {plan.schedule.accumulate}, no multiple of {team.size} processes")
    seconds_per_case = clock.elapsed() / len(preparation.prepared)  # reading and preprocessing one
    trial = what_learns(preparation, team.device)
    start_from(preparation, trial.network, listener)
    limit = None if clock.seconds is None else _WATCH_SHARE * clock.seconds
    watched = split.validation if team.leads else ()
    watcher = Watcher([preparation.prepared[name] for name in watched], trial.batches, trial.precision, limit)
    after = _REPORT_SECONDS + (SECONDS if plan.instances is not None or plan.crf.iterations else 0.0)
    clock.reserve(len(_scored_names(preparation)) * (seconds_per_case + watcher.seconds) + after)
    return fit(
        Job(
            plan=plan,
            network=trial.network,
            batches=trial.batches,
            class_weights=trial.class_weights,
            precision=trial.precision,
            clock=clock,
            folder=preparation.folder,
            validate=watcher,
            listener=listener,
            team=team,
            resume=options.resume,
        )
    )


def _save_bundle(preparation: Preparation, fitted: Fitted, device: str, listener: Listener) -> Bundle:
    split = preparation.split
    facts = {
        "medseg": VERSION,
        "data_hash": preparation.data_hash,
        "train": list(split.train),
        "validation": list(split.validation),
        "steps": fitted.steps,
        **provenance(preparation),
    }
    bundle = Bundle(preparation.task, preparation.plan, preparation.fingerprint, fitted.state, facts)
    bundle = fit_instances(preparation, bundle, device, listener)
    return fit_crf(preparation, bundle, device, listener).save(preparation.folder / "bundle")


# ---- scoring --------------------------------------------------------------------------------


def _scored_names(preparation: Preparation) -> tuple[str, ...]:
    return preparation.split.test or preparation.split.validation


def _score(preparation: Preparation, bundle: Bundle, device: str, listener: Listener) -> tuple[Report, Bundle]:
    """The report on the held-out cases, and the bundle that has learnt from them what its predictions are worth."""
    from medseg.inference import Predictor
    from medseg.inference.calibration import Estimator, explain
    from medseg.workflows.scoring import calibration_of, score_cases, write_run_report

    split, folder = preparation.split, preparation.folder
    cases = [preparation.cases[name] for name in _scored_names(preparation)]
    scored = score_cases(Predictor(bundle, device), cases, preparation.task, folder, listener)
    calibration = calibration_of(scored)
    bundle = replace(bundle, calibration=calibration).save(folder / "bundle")
    promise = explain(Estimator(calibration))
    listener(Message(promise))
    context = {
        "task": preparation.task.name,
        "training cases": len(split.train),
        "validation cases": len(split.validation),
        "test cases": len(split.test),
        "review": promise,
        **({"dense CRF": bundle.plan.reasons["crf"]} if "crf" in bundle.plan.reasons else {}),
    }
    return write_run_report(scored, bundle, folder, "test" if split.test else "validation", context), bundle
