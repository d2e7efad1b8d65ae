"""`medseg train`: learn a model from labelled cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import (
    Data,
    Debug,
    Device,
    Group,
    Images,
    Json,
    Labels,
    Map,
    Preset,
    Seed,
    Set,
    SkipBroken,
    Task,
    Undeclared,
    duration,
    key_values,
    label_map,
)
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.workflows.train import TrainResult


def train(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="The run folder; the same as -o.")] = None,
    task: Task = None,
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN", help="Folder for the model, the report and plots.")
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="JSON with lists of case ids: train, validation, test."),
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", metavar="N", help="Which of the task's patient-grouped folds validates.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option("--folds", metavar="N", help="Train N models, each without one fold, that answer as one."),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option("--time-budget", metavar="TIME", help="Fit the schedule into this: 90s, 10m, 1h30m.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Optimiser steps of the schedule.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="Steps, counted in epochs (of 25, where not planned).")
    ] = None,
    seed: Seed = None,
    device: Device = "auto",
    preset: Preset = None,
    set_: Set = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with RUN where it was stopped; its task and options are kept.")
    ] = False,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="RUN", help="Repeat that run exactly, step by step.")
    ] = None,
    elastic_engine: Annotated[
        str | None,
        typer.Option("--elastic-engine", metavar="NAME", help="Elastic deformation by torch or elasticdeform."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="Start from these weights, as far as they fit the network."),
    ] = None,
    finetune: Annotated[
        Path | None,
        typer.Option("--finetune", metavar="MODEL", help="Start from another task's run or bundle, with its network."),
    ] = None,
    images: Images = None,
    labels: Labels = None,
    group: Group = None,
    map_: Map = None,
    undeclared: Undeclared = None,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model from labelled cases and score it.

    \b
    Example:
      medseg train --task lung_ct -o run
      medseg train --task hippocampus_mr --data my_cases --time-budget 10m -o run
      medseg train run --resume

    RUN then holds bundle/ (the model), report.html, report.json, report.csv, plan.json,
    training.csv, a plot of the training and pictures of validation cases.
    """
    output = _one_folder(run, output)
    prepared = output is not None and (output / "run.json").is_file()
    if task is None and not resume and replay is None and not prepared:
        raise UsageError("--task says what to learn: give a name that 'medseg tasks' lists, or a task file")
    if resume and output is None:
        raise UsageError("--resume needs the run folder: medseg train RUN --resume")
    seconds, changes, values = duration(time_budget, "--time-budget"), key_values(set_, "--set"), label_map(map_)
    from medseg.cli.render import print_json, progress
    from medseg.workflows.train import TrainOptions
    from medseg.workflows.train import train as run_training

    options = TrainOptions(
        split=split,
        fold=fold,
        time_budget=seconds,
        steps=steps,
        epochs=epochs,
        folds=folds,
        seed=seed,
        device=device,
        overrides=changes,
        preset=preset,
        resume=resume,
        replay=replay,
        elastic_engine=elastic_engine,
        weights=weights,
        finetune=finetune,
        images=tuple(images or ()),
        labels=labels,
        group=group,
        map=values,
        undeclared=undeclared,
        skip_broken=skip_broken,
    )
    with progress() as listener:
        result = run_training(task, data, output, options, listener)
    if not result.leads:
        return  # one of several processes speaks
    if as_json:
        print_json(_plain(result))
    else:
        _print_result(result)


def _one_folder(run: Path | None, output: Path | None) -> Path | None:
    if run is not None and output is not None and run != output:
        raise UsageError(f"two run folders are given, {run} and -o {output}: give one")
    return run if output is None else output


def _plain(result: TrainResult) -> dict[str, object]:
    from medseg.evaluation.write import report_json

    return {
        "run": str(result.run),
        "bundle_hash": result.bundle_hash,
        "seconds": round(result.seconds, 1),
        "report": report_json(result.report),
    }


def _print_result(result: TrainResult) -> None:
    from medseg.cli.render import print_next, print_pairs, seconds_text
    from medseg.cli.scores import print_report

    print_report(result.report)
    print()
    print_pairs(
        {
            "model": result.run / "bundle",
            "report": result.run / "report.html",
            "trained in": seconds_text(result.seconds),
        }
    )
    print_next(
        [
            f"medseg predict YOUR_SCANS --model {result.run} -o predictions",
            "medseg evaluate predictions YOUR_REFERENCES -o scores",
            f"open {result.run / 'report.html'} in a browser",
        ]
    )
