"""`medseg import`: labels from annotation tools and from DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import Debug, Json, Task
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.workflows.import_labels import Imported

_SHOWN = 30  # rows of what is not as it was drawn


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The folder, file or zip that the annotation tool wrote; or DICOM.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DATASET", help="Folder for the data set (new or empty).")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="labelme, cvat, supervisely, coco, voc, cityscapes or instances (default: found out).",
        ),
    ] = None,
    task: Task = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Pixels outside all shapes are unknown (ignored), not background.")
    ] = False,
    undeclared: Annotated[
        str | None,
        typer.Option(
            "--undeclared",
            metavar="WHAT",
            help="Classes that the task does not name: background, ignore or refuse.",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn labels drawn in another tool into images and label maps.

    \b
    Example:
      medseg import annotations -o my_cells
      medseg import annotations -o my_cells --task my_task.yaml

    Reads Labelme, CVAT for images 1.1, Supervisely, COCO instances, Pascal VOC, Cityscapes and
    instance maps (ImageJ, StarDist, Cellpose), and DICOM with SEG or RTSTRUCT. DATASET gets images/,
    labels/ and dataset.json. Images that cannot be used are left out and named; the others go on.
    """
    if output is None:
        raise UsageError("-o says where the data set goes: medseg import SOURCE -o DATASET")
    from medseg.cli.render import print_json, progress
    from medseg.workflows.import_labels import ImportOptions, import_labels

    with progress() as listener:
        result = import_labels(source, output, task, ImportOptions(format_, partial, undeclared), listener)
    if as_json:
        print_json(result.plain())
    else:
        _print(result)


def _print(result: Imported) -> None:
    from medseg.cli.render import print_next, print_table

    rows = [(row.name, row.label, row.value, row.images, row.shapes, row.pixels) for row in result.classes]
    print_table(["class", "became", "value", "images", "shapes", "pixels"], rows)
    if result.left_out:
        print()
        told = [(row.count, row.why, row.first) for row in result.left_out[:_SHOWN]]
        print_table(["times", "not as it was drawn", "first in"], told)
    if len(result.left_out) > _SHOWN:
        print(f"… and {len(result.left_out) - _SHOWN} more in {result.folder / 'import.json'}")
    print(f"\n{result.images} images with label maps ({result.format}) in {result.folder}")
    print_next(list(result.next))
