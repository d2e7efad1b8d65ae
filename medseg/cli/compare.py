"""`medseg compare`: several networks on the same cases, with equal effort."""

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
    from medseg.workflows.compare import Comparison

Executor = Annotated[
    str, typer.Option("--executor", metavar="NAME", help="Who trains: processes, serial (debugging) or ray.")
]
NumberOfWorkers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Trainings at a time, which share the cores (default 1).")
]
Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT", help="The Ray cluster of --executor ray.")
]
NoRangeTest = Annotated[
    bool, typer.Option("--no-range-test", help="Take the plan's learning rate instead of looking for each model's.")
]


def compare(
    task: Task = None,
    models: Annotated[
        str | None, typer.Option("--models", metavar="NAMES", help="Networks, with commas between: unet,fcn8s.")
    ] = None,
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for compare.html, .json and .csv.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Wall-clock of every training: 90s, 10m, 1h30m.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Optimiser steps of every training, instead.")
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", metavar="N", help="Hold out so many of the task's folds, one after the other.")
    ] = 1,
    seeds: Annotated[
        str, typer.Option("--seeds", "--seed", metavar="NUMBERS", help="Train with each of these seeds: 0,1,2.")
    ] = "0",
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="JSON with lists of case ids, train and test, instead of folds."),
    ] = None,
    no_range_test: NoRangeTest = False,
    device: Device = "auto",
    set_: Set = None,
    executor: Executor = "processes",
    workers: NumberOfWorkers = None,
    address: Address = None,
    images: Images = None,
    labels: Labels = None,
    group: Group = None,
    map_: Map = None,
    undeclared: Undeclared = None,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train several networks with equal effort, and say which is best and how sure that is.

    \b
    Example:
      medseg compare --task cells_2d --models unet,fcn8s --budget 10m -o bakeoff
      medseg compare --task hippocampus_mr --data DIR --models unet,vnet --steps 500 --folds 5 -o bakeoff

    All learn from the same cases with the same seeds, and are scored on the same held-out ones.
    OUT then holds compare.html, compare.json, compare.csv and every training in cells/. It may be
    stopped at any moment: the same command goes on where it was. A model that cannot run is named
    with the reason. Exit code: 0 all trained, 1 some failed, 2 all did.
    """
    if task is None:
        raise UsageError("--task says what to learn: give a name that 'medseg tasks' lists, or a task file")
    if not models:
        raise UsageError("--models says what to compare: names with commas between, such as unet,fcn8s")
    if (budget is None) == (steps is None):
        raise UsageError("give every training a time (--budget 10m) or a number of steps (--steps 500), one of the two")
    seconds, changes, values = duration(budget, "--budget"), key_values(set_, "--set"), label_map(map_)
    from medseg.cli.render import print_json, progress
    from medseg.workflows.compare import CompareOptions
    from medseg.workflows.compare import compare as run_comparison
    from medseg.workflows.grid import Workers
    from medseg.workflows.prepare import PrepareOptions

    options = CompareOptions(
        models=tuple(name.strip() for name in models.split(",") if name.strip()),
        time_budget=seconds,
        steps=steps,
        folds=folds,
        seeds=_numbers(seeds),
        range_test=not no_range_test,
        prepare=PrepareOptions(
            split=split,
            device=device,
            overrides=changes,
            images=tuple(images or ()),
            labels=labels,
            group=group,
            map=values,
            undeclared=undeclared,
            skip_broken=skip_broken,
        ),
        workers=Workers(executor, workers, address),
    )
    with progress() as listener:
        result = run_comparison(task, data, output, options, listener)
    if as_json:
        print_json(result.plain)
    else:
        _print_result(result)
    raise typer.Exit(exit_code(result.plain["trainings"]))


def exit_code(trainings: list[dict[str, object]]) -> int:
    """0 where all were finished, 1 where some failed, 2 where all did."""
    failed = sum(training["state"] == "failed" for training in trainings)
    return 0 if not failed else 2 if failed == len(trainings) else 1


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds {text!r}: write whole numbers with commas between: 0,1,2") from None
    if len(set(found)) != len(found) or min(found) < 0:
        raise UsageError(f"--seeds {text!r}: each seed once, none below 0")
    return found


def _print_result(result: Comparison) -> None:
    from medseg.cli.render import print_pairs, print_table
    from medseg.evaluation.compare_page import verdict

    rows = []
    for row in result.plain["models"]:
        dice = row.get("dice") or {}
        ends = "-" if dice.get("low") is None else f"{dice['low']:.3f} to {dice['high']:.3f}"
        means = [(row.get(metric) or {}).get("mean") for metric in ("dice", "iou", "hd95")]
        rows.append(
            [row["model"], means[0], ends, means[1], row["dataset_miou"], means[2],
             _round(row["parameters"], 1e6, "M"), _round(row["inference_ms"], 1, "ms")]
        )  # fmt: skip
    print_table(
        ["model", "Dice", "95 % interval", "IoU", "dataset mIoU", "HD95", "parameters", "inference"], rows
    )  # fmt: skip
    print()
    for sentence in verdict(result.plain):
        print(sentence.replace("`", ""))
    print()
    print_pairs({"report": result.folder / "compare.html"})


def _round(value: float | None, unit: float, name: str) -> str:
    return "-" if value is None else f"{value / unit:.3g} {name}"
