"""`medseg init`: a task file for one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Debug


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that holds your images and labels.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The task file (default: FOLDER/task.yaml).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a commented task file for your own images and label maps.

    \b
    Example:
      medseg init my_cells
      medseg train --task my_cells/task.yaml -o run
    """
    from medseg.cli.render import print_next, progress
    from medseg.workflows.init import init as write_task

    with progress() as listener:
        path = write_task(folder, output, listener)
    print(f"wrote {path}")
    print_next([f"look through {path}: every key is explained there", f"medseg train --task {path} -o run"])
