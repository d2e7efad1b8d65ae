"""`medseg batch`: what became of a night of scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Debug, Json

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of 'medseg predict'.")]

batch = typer.Typer(
    name="batch",
    help="What became of every scan of 'medseg predict'; also while it runs.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@batch.command()
def status(output: Out, as_json: Json = False, debug: Debug = False) -> None:
    """Tell how far a batch is, and what was refused or failed, and why.

    \b
    Example:
      medseg batch status predictions
      medseg batch status predictions --json
    """
    from medseg.cli.render import print_json, print_pairs, print_table, seconds_text
    from medseg.workflows.batch import batch_status

    found = batch_status(output)
    if as_json:
        print_json(found.plain())
        return
    print_table(["state", "series"], [[state, count] for state, count in found.counts.items() if count])
    if found.reasons:
        print()
        print_table(["state", "code", "series"], found.reasons)
    print()
    rate = "-" if found.per_hour is None else f"{found.per_hour:.0f} scans an hour"
    print_pairs({"throughput": rate, **{stage: seconds_text(total) for stage, total in found.seconds.items()}})
    for entry in found.entries:
        if entry.reason:
            print(f"{entry.state}: {entry.scan}: {entry.reason}")


@batch.command()
def report(output: Out, debug: Debug = False) -> None:
    """Write OUT/batch.html: the review list first, then refusals by reason, with a picture of each scan.

    \b
    Example:
      medseg batch report predictions
    """
    from medseg.workflows.batch import batch_report

    typer.echo(f"page: {batch_report(output)}")
