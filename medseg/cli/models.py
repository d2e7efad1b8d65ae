"""`medseg models`: the networks there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import Data, Debug, Json, Task
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.workflows.models import Drawn, Model


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this network's layers.")] = None,
    task: Task = None,
    data: Data = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="RUN", help="The layers as this run's plan has them.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the networks: what each is, its parameters, and what it costs.

    \b
    Example:
      medseg models
      medseg models --task hippocampus_mr
      medseg models deeplabv3_resnet50
      medseg models unet --plan run

    Parameters are those of the reference configuration. Multiply-adds are one sample's forward
    pass; memory is one sample's training step, estimated: float32, AdamW, all maps kept.
    """
    if name is None and plan is not None:
        raise UsageError("--plan shows one network's layers: medseg models NAME --plan RUN")
    if name is not None and (task is not None or data is not None):
        raise UsageError("a network's layers follow from a run (--plan RUN); --task and --data go with the list")
    from medseg.cli.render import print_json
    from medseg.workflows import models as workflow

    if name is not None:
        drawn = workflow.layers(name, plan)
        print_json(drawn.plain()) if as_json else _print_layers(drawn)
        return
    rows = workflow.models(task, data)
    print_json([row.plain() for row in rows]) if as_json else _print_models(rows, planned=task is not None)


def _print_models(rows: tuple[Model, ...], planned: bool) -> None:
    from medseg.cli.render import print_table

    planned_head = ["planned"] if planned else []
    table = []
    for row in rows:
        own = [_short(row.planned_parameters)] if planned else []
        size = "×".join(map(str, row.patch))
        costs = [_short(row.multiply_adds), _short(row.peak_memory_bytes, "B"), size]
        table.append([row.name, f"{row.ndim}D", f"{row.parameters:,}", *own, *costs, str(row.year), row.paper])
    print_table(["network", "", "parameters", *planned_head, "mult-adds", "memory", "patch", "year", "paper"], table)
    for row in rows:
        if row.problem:
            print(f"{row.name}: {row.problem}")


def _print_layers(drawn: Drawn) -> None:
    from medseg.cli.render import print_table

    print(f"{drawn.name}, {drawn.source}, at a patch of {'×'.join(map(str, drawn.patch))}")
    print_table(
        ["layer", "kind", "output", "parameters", "mult-adds"],
        [
            [one.name, one.kind, "×".join(map(str, one.shape)), f"{one.parameters:,}", _short(one.multiply_adds)]
            for one in drawn.layers
        ],
    )
    memory = _short(drawn.peak_memory_bytes, "B")
    print(f"{drawn.parameters:,} parameters, {_short(drawn.multiply_adds)} multiply-adds, {memory} to train")


def _short(number: int | None, unit: str = "") -> str:
    """1,234,567,890 as '1.23 G'; '-' where it is not known."""
    if number is None:
        return "-"
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
        if number >= 1000**power:
            return f"{number / 1000**power:.3g} {letter}{unit}"
    return f"{number} {unit}".strip()
