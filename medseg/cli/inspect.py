"""`medseg inspect`: what is in a folder, before any compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Debug, Json, KeepIdentifiers, Task


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A scan, a folder of scans or of labelled cases.")],
    task: Task = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", metavar="RUN", help="A run or bundle: are the scans like its training cases?"),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="JSON with train, validation and test lists of case ids."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for inspect.json and inspect.html (default: inspect; with --json none).",
        ),
    ] = None,
    keep_identifiers: KeepIdentifiers = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell what is in a folder and what is wrong with it: cases, grids, labels, copies, patients.

    \b
    Example:
      medseg inspect my_cases
      medseg inspect my_cases --task hippocampus_mr -o checked --json

    inspect.html shows every volume with its label contours. What the findings' codes mean stands in
    docs/inspect.md.
    Exit code: 0 clean, 1 with warnings, 2 nothing usable.
    """
    from medseg.cli.render import print_json, print_table, progress
    from medseg.workflows.inspect import InspectOptions
    from medseg.workflows.inspect import inspect as look

    folder = output if output is not None or as_json else Path("inspect")
    with progress() as listener:
        found = look(path, task, folder, InspectOptions(model, split, keep_identifiers), listener)
    if as_json:
        print_json(found.to_json())
    else:
        print_table(*found.table())
        print()
        print("\n".join(found.sentences()))
        print(f"page: {folder / 'inspect.html'}" if folder is not None else "")
    raise typer.Exit(found.exit_code)
