"""A night of scans: each one isolated, the next one read while this one is computed."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medseg.batch.outputs import Targets, Wanted, remove_half_files, remove_outputs, targets_of, write_outputs
from medseg.batch.results import BatchResult, ScanResult, previous_outputs, printable, write_results
from medseg.core.case import Finding, Prediction, Scan, Severity, Source, Status
from medseg.core.errors import FormatError, MedsegError, UsageError
from medseg.core.events import Listener, Message, Progress
from medseg.core.identifiers import Identifiers
from medseg.core.reading import Reading, refused_by_all

if TYPE_CHECKING:
    from medseg.bundle import Bundle

# A scan with one of these is broken; with any other code it is whole, but nothing to be segmented.
_BROKEN = frozenset({"unreadable", "partial-file"})
UNPACKED = ".medseg-unpacked"
_STOPPED = "stopped before this scan was done"


class ScanPredictor(Protocol):
    """What a batch needs of `medseg.inference.Predictor`."""

    @property
    def bundle(self) -> Bundle: ...

    def predict(self, scan: Scan) -> Prediction: ...


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """seg: DICOM SEG for DICOM scans; previews: a picture a scan; tracebacks: report those of failed scans.

    keep_identifiers: patients' names and ids, as DICOM headers tell them, stay in file names and results.csv.
    """

    seg: bool = True
    previews: bool = True
    tracebacks: bool = False
    keep_identifiers: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same for all scans of one run."""

    predictor: ScanPredictor
    sources: Sequence[Source]
    root: Path
    output: Path
    targets: dict[str, Targets]
    earlier: frozenset[str]
    wanted: Wanted
    listener: Listener
    tracebacks: bool
    identifiers: Identifiers


def predict_folder(
    scans: Path, predictor: ScanPredictor, output: Path, options: BatchOptions, listener: Listener
) -> BatchResult:
    """Segment every scan below `scans` into `output`; one row per scan in results.csv.

    A scan that cannot be segmented becomes a row with the reason and never stops the others.
    results.csv is rewritten after every scan; an interrupt (Ctrl-C) finishes it and is raised again.

    Raises UsageError where there is no scan, or `output` would overwrite one.
    """
    try:
        return _predict_folder(scans, predictor, output, options, listener)
    finally:
        shutil.rmtree(output / UNPACKED, ignore_errors=True)


def _predict_folder(
    scans: Path, predictor: ScanPredictor, output: Path, options: BatchOptions, listener: Listener
) -> BatchResult:
    shutil.rmtree(output / UNPACKED, ignore_errors=True)  # of a run that was killed
    sources = find_scans(scans, output, options.keep_identifiers)
    known = {word for source in sources for word in source.identifiers}
    bundle = predictor.bundle
    labels = tuple(label.name for label in bundle.task.label_table())
    run = _Run(
        predictor=predictor,
        sources=sources,
        root=scans if scans.is_dir() else scans.parent,
        output=output,
        targets=targets_of(sources, output),
        earlier=frozenset(previous_outputs(output)),
        wanted=Wanted(
            frozenset(kind for kind, on in (("seg", options.seg), ("preview", options.previews)) if on),
            {"model": bundle.hash, "task": bundle.task.name},
            bundle.task.reading,
        ),
        listener=listener,
        tracebacks=options.tracebacks,
        identifiers=Identifiers() if options.keep_identifiers else Identifiers.of(known),
    )
    output.mkdir(parents=True, exist_ok=True)
    remove_half_files(output)
    rows: list[ScanResult] = []

    def result() -> BatchResult:
        return BatchResult(tuple(rows), labels, bundle.hash, output)

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="medseg-reader")
    try:
        _tell(listener, rows, len(sources), 0.0)
        started = time.monotonic()
        reading = _read_later(run, reader, 0)
        for place, source in enumerate(sources):
            current, reading = reading, _read_later(run, reader, place + 1)
            rows.append(_one_scan(run, source, current))
            write_results(result())
            _tell(listener, rows, len(sources), time.monotonic() - started)
    except KeyboardInterrupt:
        rows += [_row(run, source, Status.FAILED, _STOPPED) for source in sources[len(rows) :]]
        write_results(result())
        raise
    finally:
        reader.shutdown(wait=False, cancel_futures=True)
    return result()


def find_scans(scans: Path, output: Path, keep_identifiers: bool = False) -> list[Source]:
    """The scans below `scans`, without those that lie in `output`; zip archives are unpacked into `output`/UNPACKED.

    Raises UsageError where there is none, or `output` is the folder of scans itself.
    """
    from medseg import formats

    if not scans.exists():
        raise UsageError(f"{scans}: there is no such file or folder of scans")
    if scans.resolve() == output.resolve():
        raise UsageError(f"{output}: is the folder of scans itself; choose another -o")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file; -o names a folder")
    sources = formats.discover(scans, output / UNPACKED, keep_identifiers=keep_identifiers)
    if output.resolve().is_relative_to(scans.resolve()):
        sources = [source for source in sources if not _within(source, output.resolve())]
    if not sources:
        raise UsageError(f"{scans}: holds no scan (DICOM, NIfTI, NRRD, MHA, PNG, JPEG or TIFF)")
    return sources


def _within(source: Source, folder: Path) -> bool:
    files = [file.resolve() for file in source.files or (source.path,)]
    own = folder / UNPACKED
    return all(file.is_relative_to(folder) and not file.is_relative_to(own) for file in files)


# ---- one scan -------------------------------------------------------------------------------


def _read_later(run: _Run, reader: ThreadPoolExecutor, place: int) -> Future[tuple[Scan, float]] | None:
    """Start reading scan `place` in the reader's thread, unless there is none or it is known to be unusable."""
    if place >= len(run.sources) or refused_by_all(run.sources[place]) is not None:
        return None
    return reader.submit(_read, run.sources[place], run.predictor.bundle.task.reading)


def _read(source: Source, policy: Reading) -> tuple[Scan, float]:
    from medseg import formats

    started = time.monotonic()
    return formats.read(source, policy), time.monotonic() - started


def _one_scan(run: _Run, source: Source, reading: Future[tuple[Scan, float]] | None) -> ScanResult:
    """The row of one scan; whatever goes wrong becomes a reason in it."""
    if printable(source.name) in run.earlier:
        remove_outputs(run.targets[source.name])
    started = time.monotonic()
    try:
        if reading is None:
            return _unusable(run, source)
        scan, read_seconds = reading.result()
        waited = time.monotonic() - started
        row = _segment(run, scan)
        seconds = time.monotonic() - started - waited + read_seconds
    except Exception as error:
        if run.tracebacks:
            text = "".join(traceback.format_exception(error)).rstrip()
            run.listener(Message(run.identifiers.mask(text), "error"))
        return _unsegmented(run, source, error, time.monotonic() - started)
    return replace(row, seconds=seconds)


def _segment(run: _Run, scan: Scan) -> ScanResult:
    prediction = run.predictor.predict(scan)
    source, outcome = scan.source, prediction.outcome
    if outcome.status not in (Status.OK, Status.REVIEW):
        return _row(run, source, outcome.status, outcome.reason, prediction.scan.findings)
    made = write_outputs(prediction, run.targets[source.name], run.wanted)
    path = made.labelmap
    row = _row(run, source, outcome.status, outcome.reason, (*prediction.scan.findings, *made.findings))
    volumes = prediction.labelmap.volumes_ml()
    written = printable(path.relative_to(run.output).as_posix())
    return replace(row, volumes_ml=volumes, confidence=prediction.confidence, output=written)


def _unusable(run: _Run, source: Source) -> ScanResult:
    finding = refused_by_all(source)
    if finding is None:
        return _row(run, source, Status.FAILED, _STOPPED)
    status = Status.FAILED if finding.code in _BROKEN else Status.REFUSED
    return _row(run, source, status, finding.message, source.findings)


def _unsegmented(run: _Run, source: Source, error: Exception, seconds: float) -> ScanResult:
    """The row of a scan on which something was raised."""
    findings = list(source.findings)
    status, reason = Status.FAILED, str(error)
    if isinstance(error, FormatError):
        findings.append(Finding(error.code, Severity.ERROR, error.reason))
        status = Status.FAILED if error.code in _BROKEN else Status.REFUSED
    elif isinstance(error, MemoryError):
        reason = "there is not enough memory for this scan"
    elif not isinstance(error, MedsegError):
        reason = f"{type(error).__name__}: {error}"
    return replace(_row(run, source, status, reason, findings), seconds=seconds)


def _row(
    run: _Run, source: Source, status: Status, reason: str, findings: Sequence[Finding] | None = None
) -> ScanResult:
    """A row without a label map."""
    codes = dict.fromkeys(finding.code for finding in (source.findings if findings is None else findings))
    path = source.path
    relative = path.relative_to(run.root).as_posix() if path.is_relative_to(run.root) else path.name
    return ScanResult(
        scan=printable(source.name),
        path=printable(run.identifiers.mask(relative)),
        format=source.format,
        status=status,
        reason=printable(run.identifiers.mask(" ".join(reason.split()))),
        findings=tuple(codes),
    )


def _tell(listener: Listener, rows: Sequence[ScanResult], total: int, elapsed: float) -> None:
    values = {
        status.value: float(count)
        for status in (Status.REVIEW, Status.REFUSED, Status.FAILED)
        if (count := sum(row.status == status for row in rows))
    }
    left = elapsed / len(rows) * (total - len(rows)) if rows else None
    listener(Progress("segmenting", len(rows), total, values, left))
