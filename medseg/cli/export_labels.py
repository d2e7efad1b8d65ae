"""`medseg export-labels`: label maps for an annotation tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import Debug, Json, Task
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.workflows.export_labels import Exported


def export_labels(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="Predictions of 'medseg predict', or the labels/ of a data set.")
    ],
    images: Annotated[
        Path | None, typer.Option("--images", metavar="IMAGES", help="The folder of the pictures they belong to.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for the annotations (new or empty).")
    ] = None,
    format_: Annotated[str, typer.Option("--format", metavar="NAME", help="labelme or coco.")] = "labelme",
    task: Task = None,
    polygons: Annotated[bool, typer.Option("--polygons", help="Outlines in place of masks (labelme only).")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write label maps for an annotation tool, to be corrected there.

    \b
    Example:
      medseg export-labels predictions --images pictures -o to_correct --task cells_2d
      medseg import to_correct -o corrected

    Every connected piece becomes a shape of its own; importing the files gives the same pixels back.
    """
    if images is None or output is None:
        raise UsageError(
            "--images and -o say where the pictures are and where to write: "
            "medseg export-labels LABELS --images IMAGES -o OUT"
        )
    from medseg.cli.render import print_json, progress
    from medseg.workflows.export_labels import ExportOptions
    from medseg.workflows.export_labels import export_labels as export

    with progress() as listener:
        result = export(labels, images, output, task, ExportOptions(format_, polygons), listener)
    if as_json:
        print_json(result.plain())
    else:
        _print(result, task)


def _print(result: Exported, task: str | None) -> None:
    from medseg.cli.render import print_next, print_table

    print_table(["class", "shapes"], list(result.shapes.items()))
    if result.left_out:
        print()
        print_table(["left out"], [(text,) for text in result.left_out])
    print(f"\n{result.images} pictures written for {result.format} to {result.folder}")
    with_task = f" --task {task}" if task else ""
    editor = [f"labelme {result.folder} --labels {result.folder / 'labels.txt'}"] if result.format == "labelme" else []
    print_next([*editor, f"medseg import {result.folder} -o corrected{with_task}"])
