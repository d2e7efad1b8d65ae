"""`medseg sample`: synthetic scans to try things out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Debug
from medseg.core.errors import UsageError


def sample(
    folder: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Folder for the sample data; the same as -o.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for the sample data.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write sample data: chest-CT phantoms and cell images.

    \b
    Example:
      medseg sample samples
      medseg inspect samples/lung_ct
    """
    target = output if output is not None else folder
    if target is None:
        raise UsageError("say where the sample data go: medseg sample OUT")
    if folder is not None and output is not None and folder != output:
        raise UsageError(f"two folders are given, {folder} and -o {output}: give one")
    from medseg.cli.render import print_next, progress
    from medseg.workflows.sample import sample as write

    with progress() as listener:
        written = write(target, listener)
    print(f"wrote {sum(path.is_file() for path in written.rglob('*'))} files to {written}")
    print_next(
        [f"medseg inspect {written / 'lung_ct'}", f"medseg train --task lung_ct --data {written / 'lung_ct'} -o run"]
    )
