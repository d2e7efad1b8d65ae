"""`medseg inspect`: what is in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Debug, Json, Task


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A scan, a folder of scans or of labelled cases.")],
    task: Task = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell what is in a folder: cases, grids, labels, problems.

    \b
    Example:
      medseg inspect my_cases
      medseg inspect my_cases --task hippocampus_mr --json

    Exit code: 0 clean, 1 with warnings, 2 nothing usable.
    """
    from medseg.cli.render import print_json, print_table, progress
    from medseg.workflows.inspect import inspect as look

    with progress() as listener:
        found = look(path, task, listener)
    if as_json:
        print_json(found.to_json())
    else:
        print_table(*found.table())
        print()
        print("\n".join(found.sentences()))
    raise typer.Exit(found.exit_code)
