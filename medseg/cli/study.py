"""`medseg study`: how many labelled cases are enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.compare import Address, Executor, NumberOfWorkers, exit_code
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
    Undeclared,
    duration,
    key_values,
    label_map,
)
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.workflows.study import StudyResult


def study(
    name: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study's file, or the name of one that ships with medseg.")
    ],
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for study.html, .json and .csv.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Shrink the whole study to this wall-clock: 10m, 8h.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Optimiser steps of every training, instead.")
    ] = None,
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
    """Train models on few and on more labelled cases, and say what more cases are worth.

    \b
    Example:
      medseg study cells_few_labels --budget 10m -o few
      medseg study hippocampus_few_labels --data DIR -o few

    Every model learns from nested random subsets of the cases and is scored on the same held-out
    ones. OUT then holds study.html with the learning curves, study.json, study.csv and every
    training in cells/. It may be stopped at any moment: the same command goes on where it was.
    Exit code: 0 all trained, 1 some failed, 2 all did.
    """
    if budget is not None and steps is not None:
        raise UsageError("--budget and --steps exclude each other: give one of them, or none for what the study says")
    seconds, changes, values = duration(budget, "--budget"), key_values(set_, "--set"), label_map(map_)
    from medseg.cli.render import print_json, progress
    from medseg.workflows.grid import Workers
    from medseg.workflows.prepare import PrepareOptions
    from medseg.workflows.study import StudyOptions
    from medseg.workflows.study import study as run_study

    options = StudyOptions(
        time_budget=seconds,
        steps=steps,
        prepare=PrepareOptions(
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
        result = run_study(name, data, output, options, listener)
    if as_json:
        print_json(result.plain)
    else:
        _print_result(result)
    raise typer.Exit(exit_code(result.plain["trainings"]))


def _print_result(result: StudyResult) -> None:
    from medseg.cli.render import print_pairs, print_table
    from medseg.evaluation.study_page import promises

    rows = []
    for model, one in result.plain["curves"].items():
        for point in one["points"]:
            ends = "-" if point["low"] is None else f"{point['low']:.3f} to {point['high']:.3f}"
            rows.append([model, point["cases"], point["mean"], ends, point["witnesses"]])
    print_table(["model", "cases", "Dice", "95 % interval", "draws"], rows)
    print()
    for sentence in promises(result.plain):
        print(sentence.replace("`", ""))
    print()
    print_pairs({"report": result.folder / "study.html"})
