"""`medseg prepare`: check, plan and preprocess without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    key_values,
    label_map,
)
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.core.plan import NetworkSpec
    from medseg.workflows.prepare import Preparation


def prepare(
    task: Task = None,
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN", help="The run folder to be trained in later.")
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="JSON with lists of case ids: train, validation, test."),
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", metavar="N", help="Which of the task's patient-grouped folds validates.")
    ] = None,
    seed: Seed = None,
    device: Device = "auto",
    preset: Preset = None,
    set_: Set = None,
    images: Images = None,
    labels: Labels = None,
    group: Group = None,
    map_: Map = None,
    undeclared: Undeclared = None,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check, plan and preprocess a task's cases, without training.

    \b
    Example:
      medseg prepare --task hippocampus_mr --data my_cases -o run
      medseg train run

    RUN/plan.json says what would be trained and why; edit it before you train in that folder.
    """
    if task is None:
        raise UsageError("--task says what to prepare: give a name that 'medseg tasks' lists, or a task file")
    changes, values = key_values(set_, "--set"), label_map(map_)
    from medseg.cli.render import print_json, progress
    from medseg.workflows.prepare import PrepareOptions
    from medseg.workflows.prepare import prepare as run_preparation

    options = PrepareOptions(
        split=split,
        fold=fold,
        seed=seed,
        device=device,
        overrides=changes,
        preset=preset,
        images=tuple(images or ()),
        labels=labels,
        group=group,
        map=values,
        undeclared=undeclared,
        skip_broken=skip_broken,
    )
    with progress() as listener:
        preparation = run_preparation(task, data, output, options, listener)
    if as_json:
        print_json(_plain(preparation))
    else:
        _print(preparation)


def _plain(preparation: Preparation) -> dict[str, Any]:
    from medseg.core.plan import to_plain

    split = preparation.split
    return {
        "run": str(preparation.folder),
        "task": preparation.task.name,
        "split": {"train": list(split.train), "validation": list(split.validation), "test": list(split.test)},
        "plan": to_plain(preparation.plan),
    }


def _print(preparation: Preparation) -> None:
    from medseg.cli.render import print_next, print_pairs, print_table

    plan, split = preparation.plan, preparation.split
    print_pairs(
        {
            "task": preparation.task.name,
            "cases": f"{len(split.train)} to train, {len(split.validation)} to validate, {len(split.test)} to test",
            "network": f"{plan.network.name}, {plan.ndim}D, {_size(plan.network)}",
            "spacing (mm)": _numbers(plan.spacing),
            "patch (voxels)": _numbers(plan.patch),
            "batch": plan.batch,
            "plan": preparation.folder / "plan.json",
        }
    )
    print()
    print_table(["decision", "because"], list(plan.reasons.items()))
    print_next([f"medseg train {preparation.folder}"])


def _size(network: NetworkSpec) -> str:
    return f"features {_numbers(network.features)}" if network.features else f"width {network.width:g}"


def _numbers(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
