"""`medseg evaluate`: score label maps against reference label maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Debug, Json, Map, Task, label_map
from medseg.core.errors import UsageError


def evaluate(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS... REFERENCES",
            help="Folders of label maps to score, one per model, and last the folder of reference label maps.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for report.json, .csv and .html.")
    ] = None,
    task: Task = None,
    map_: Map = None,
    reference_map: Annotated[
        list[str] | None,
        typer.Option("--reference-map", metavar="LABEL=VALUES", help="The same for the references, if theirs differ."),
    ] = None,
    ignore: Annotated[
        int | None, typer.Option("--ignore", metavar="VALUE", help="Voxels of this value in a reference do not count.")
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Count every value but 0 as one structure.")] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring a prediction on another grid onto its reference's.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="The scans, for pictures in the report.")
    ] = None,
    leave_out_missing: Annotated[
        bool, typer.Option("--leave-out-missing", help="List references without a prediction instead of scoring 0.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score label maps against references of the same names; several models are compared with paired tests.

    \b
    Example:
      medseg evaluate predictions references -o scores
      medseg evaluate predictions references -o scores --task lung_ct --json
      medseg evaluate model_a model_b model_c references -o scores
    """
    if output is None:
        raise UsageError("-o says where the report goes: give a folder")
    *predictions, references = folders
    if not predictions:
        raise UsageError(f"{references}: is the only folder given; name the predictions first, the references last")
    values, reference_values = label_map(map_), label_map(reference_map, "--reference-map")
    from medseg.cli.render import print_json, print_pairs, progress
    from medseg.cli.scores import print_comparison, print_report
    from medseg.evaluation.models import comparison_json
    from medseg.evaluation.write import report_json
    from medseg.workflows.evaluate import EvaluateOptions, evaluate_models
    from medseg.workflows.evaluate import evaluate as score

    options = EvaluateOptions(
        task=task,
        map=values,
        reference_map=reference_values,
        binary=binary,
        ignore=ignore,
        images=images,
        resample=resample,
        leave_out_missing=leave_out_missing,
    )
    show: Callable[[], None]
    with progress() as listener:
        if len(predictions) > 1:
            comparison = evaluate_models(predictions, references, output, options, listener)
            plain, show = comparison_json(comparison), partial(print_comparison, comparison)
        else:
            report = score(predictions[0], references, output, options, listener)
            plain, show = report_json(report), partial(print_report, report)
    if as_json:
        print_json(plain)
        return
    show()
    print()
    print_pairs({"report": output / "report.html"})
