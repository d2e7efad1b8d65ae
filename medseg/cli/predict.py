"""`medseg predict`: segment a folder of scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.options import DEBUG, Debug, Device, Json, KeepIdentifiers, duration, size
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.batch.results import BatchResult


def predict(
    context: typer.Context,
    scans: Annotated[
        Path, typer.Argument(metavar="SCANS", help="A scan, folder or zip: DICOM, NIfTI, NRRD, MHA, PNG, JPEG, TIFF.")
    ],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", metavar="RUN", help="A run folder, or a bundle folder.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for the label maps and results.csv.")
    ] = None,
    device: Device = "auto",
    flips: Annotated[
        bool | None, typer.Option("--flips/--no-flips", help="Average over mirrored copies (slower, a little better).")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", metavar="FRACTION", help="Overlap of neighbouring windows, 0 to 0.9.")
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(
            "--outputs",
            metavar="KINDS",
            help="What is written, of nifti,seg,rtstruct,sr,sc,preview (default: nifti,seg,preview).",
        ),
    ] = None,
    seg: Annotated[
        bool, typer.Option("--seg/--no-seg", help="Write a DICOM SEG beside the label map of a DICOM scan.")
    ] = True,
    seg_type: Annotated[
        str,
        typer.Option("--seg-type", metavar="TYPE", help="Of DICOM SEG: binary, or labelmap (small, DICOM of 2024)."),
    ] = "binary",
    previews: Annotated[bool, typer.Option("--previews/--no-previews", help="Write a preview picture a scan.")] = True,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="DICOM outputs without what identifies the patient (PS3.15).")
    ] = False,
    keep_identifiers: KeepIdentifiers = False,
    retry: Annotated[
        str | None,
        typer.Option("--retry", metavar="STATES", help="Try again what failed: failed, refused, review, or several."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep going as scans arrive, until Ctrl-C or SIGTERM.")
    ] = False,
    quiet_for: Annotated[
        str,
        typer.Option("--quiet-for", metavar="TIME", help="With --watch: take a series after so long without change."),
    ] = "60s",
    executor: Annotated[
        str,
        typer.Option("--executor", metavar="NAME", help="Who computes: processes, serial (debugging) or ray."),
    ] = "processes",
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help="Worker processes, each with the model loaded (default 1)."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Longest time for one scan, such as 10m.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Most memory for computing, such as 4G.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="HOST:PORT", help="The Ray cluster of --executor ray.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment every scan in a folder, whatever its format.

    \b
    Example:
      medseg predict scans --model run -o predictions
      medseg predict /inbox --model run -o /out --watch --quiet-for 60s

    Formats may be mixed, at any depth. Each scan gives a label map on its own grid, a preview in
    previews/ and a row in results.csv. It may be stopped at any moment: the same command goes on
    where it was, and does only what is missing or changed (see 'medseg batch').
    Exit code: 0 all segmented, 1 some were refused or failed, 2 none could be segmented.
    """
    if model is None:
        raise UsageError("--model says what to segment with: give a run folder or a bundle")
    if output is None:
        raise UsageError("-o says where the label maps go: give a folder")
    from medseg.cli.render import print_json, progress
    from medseg.workflows.predict import PredictOptions
    from medseg.workflows.predict import predict as segment

    options = PredictOptions(
        device=device,
        flips=flips,
        overlap=overlap,
        seg=seg,
        previews=previews,
        tracebacks=bool(context.meta.get(DEBUG)),
        keep_identifiers=keep_identifiers,
        outputs=_words(outputs),
        seg_type=seg_type,
        deidentify=deidentify,
        retry=_words(retry) or (),
        executor=executor,
        workers=workers,
        timeout=duration(timeout, "--timeout"),
        address=address,
        memory=size(memory, "--memory"),
        quiet_for=duration(quiet_for, "--quiet-for") if watch else None,
    )
    with progress() as listener:
        result = segment(scans, model, output, options, listener)
    if as_json:
        print_json(result.plain())
        typer.echo(result.summary(), err=True)
    else:
        _print_result(result)
    raise typer.Exit(result.exit_code)


def _words(given: str | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(word.strip() for word in given.split(",") if word.strip())


def _print_result(result: BatchResult) -> None:
    from medseg.cli.render import print_table

    rows = [
        [row.scan, row.status, *(f"{ml:.1f}" for ml in row.volumes_ml.values()), f"{row.seconds:.1f}"]
        if row.volumes_ml
        else [row.scan, row.status, *("-" for _ in result.labels), f"{row.seconds:.1f}"]
        for row in result.rows
    ]
    print_table(["scan", "status", *(f"{label} (ml)" for label in result.labels), "seconds"], rows)
    print()
    for row in result.rows:
        if row.reason:
            print(f"{row.status}: {row.scan}: {row.reason}")
    print(result.summary())
