"""`medseg augment`: look at what training varies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Data, Debug, Group, Images, Labels, Map, Set, Task, key_values, label_map
from medseg.core.errors import UsageError


def augment(
    task: Task = None,
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PNG", help="The picture (default: augmented.png).")
    ] = None,
    cases: Annotated[int, typer.Option("--cases", metavar="N", help="How many cases: one row each.")] = 4,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="How many samples of each case.")] = 5,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of every random draw.")] = 0,
    elastic_engine: Annotated[
        str | None,
        typer.Option("--elastic-engine", metavar="NAME", help="Elastic deformation by torch or elasticdeform."),
    ] = None,
    set_: Set = None,
    images: Images = None,
    labels: Labels = None,
    group: Group = None,
    map_: Map = None,
    debug: Debug = False,
) -> None:
    """Draw augmented samples of a task's cases with their masks.

    \b
    Example:
      medseg augment --task lung_ct -o augmented.png
      medseg augment --task cells_2d --data my_cells --set augment.rotation=90 -o augmented.png

    A row is a case: first as it is, then varied as training would.
    """
    if task is None:
        raise UsageError("--task says whose cases to draw: give a name that 'medseg tasks' lists, or a task file")
    changes, values = key_values(set_, "--set"), label_map(map_)
    from medseg.cli.render import progress
    from medseg.workflows.augment import AugmentOptions
    from medseg.workflows.augment import augment as draw

    options = AugmentOptions(
        cases=cases,
        samples=samples,
        seed=seed,
        elastic_engine=elastic_engine,
        overrides=changes,
        images=tuple(images or ()),
        labels=labels,
        group=group,
        map=values,
    )
    with progress() as listener:
        picture = draw(task, data, output or Path("augmented.png"), options, listener)
    print(f"wrote {picture}")
