"""Looking at one scan or case after the other: what `medseg inspect` keeps of each before it reads the next."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg import formats
from medseg.core.case import Case, Finding, Scan, Severity, Source, Status
from medseg.core.errors import FormatError
from medseg.core.events import Listener, Progress
from medseg.core.geometry import Triple
from medseg.core.labels import IGNORE, Label
from medseg.core.task import Task
from medseg.core.volume import LabelMap, Volume
from medseg.data.check import Examined, examine, mixed_scales
from medseg.data.dataset import Dataset, Problem
from medseg.data.facts import content_hash, label_facts, outside_body, percentiles
from medseg.data.inspection import CaseRow
from medseg.data.labels import align_label, present_values

if TYPE_CHECKING:
    from medseg.bundle import Bundle

_LARGEST_LABEL, _MOST_LABELS = 255, 16
_MOST_PICTURES = 60_000_000  # bytes of thumbnails in one page


@dataclass(slots=True)
class Look:
    """What one inspection looks with, and what it keeps until all cases were seen.

    base: the folder that paths are told relative to; names: what values of label maps are called
    where no task says so; unpacked: a folder of our own for what archives hold; identifiers: what
    headers say of the patients, which is not repeated; patients: case -> hashed DICOM patient (salted
    anew each time, never written); label_hashes: case -> hash of its label map; pictures: case ->
    thumbnail as PNG.
    """

    base: Path
    task: Task | None
    bundle: Bundle | None
    names: Mapping[int, str]
    draw: bool
    unpacked: Path
    identifiers: set[str] = field(default_factory=set)
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    patients: dict[str, bytes] = field(default_factory=dict)
    label_hashes: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)


def case_rows(dataset: Dataset, look: Look, listener: Listener) -> list[CaseRow]:
    cases = sorted([*dataset.cases, *dataset.unlabelled], key=lambda case: case.id)
    rows: dict[str, CaseRow] = {}
    stacks: dict[str, tuple[Path, Triple]] = {}
    for done, case in enumerate(cases, start=1):
        row = rows[case.id] = _case_row(case, look)
        if row.format == "image" and row.shape and row.shape[2] > 1 and row.spacing:
            stacks[case.id] = (case.images[0].path, row.spacing)
        listener(Progress("looking at the cases", done, len(cases)))
    for problem in (*dataset.problems, *mixed_scales(stacks)):
        row = rows.get(problem.case, CaseRow(problem.case, None))
        rows[problem.case] = replace(row, findings=(*row.findings, _of(problem)))
    return [rows[name] for name in sorted(rows)]


def _case_row(case: Case, look: Look) -> CaseRow:
    look.identifiers.update(*(one.identifiers for one in (*case.images, *([case.label] if case.label else []))))
    seen = examine(case, look.task)
    source = case.images[0]
    row = _facts(CaseRow(case.id, _place(source, look), source.format, group=case.group), seen.scan, look)
    if look.task is None:
        row = replace(row, channels=None if row.channels is None else row.channels * len(case.images))
    findings = [*row.findings, *(_of(problem, seen) for problem in seen.problems)]
    if case.label is None:
        findings.append(Finding("unlabelled", Severity.WARNING, f"{source.path}: has no label map"))
    labelmap, names = _named_labels(seen, look)
    aligned = None
    if labelmap is not None:
        aligned = _aligned(labelmap, case, seen.scan)
        row = _with_labels(row, seen.scan, aligned, labelmap, names, look)
    _remember_patient(case.id, source, look)
    _draw(row, seen.scan, aligned, look)
    return replace(
        row,
        label=None if case.label is None else str(case.label.path),
        label_values=None if seen.raw is None else tuple(present_values(seen.raw.array)),
        findings=(*findings, *_model_findings(seen.scan, findings, look)),
    )


def scan_rows(root: Path, look: Look, listener: Listener) -> list[CaseRow]:
    sources = formats.discover(root, look.unpacked)
    look.identifiers.update(*(source.identifiers for source in sources))
    rows = []
    for done, source in enumerate(sources, start=1):
        rows.append(_scan_row(source, look))
        listener(Progress("looking at the scans", done, len(sources)))
    return rows


def _scan_row(source: Source, look: Look) -> CaseRow:
    row = CaseRow(source.name, _place(source, look), source.format, source.modality)
    try:
        scan = formats.read(source)
    except FormatError as error:
        others = [f for f in source.findings if f.code != error.code]
        return replace(row, findings=(*others, Finding(error.code, Severity.ERROR, str(error))))
    row = _facts(row, scan, look)
    row = replace(row, findings=(*row.findings, *_model_findings(scan, row.findings, look)))
    values = _label_values(scan)
    labelmap = None
    if values is not None:
        row = replace(row, label_values=values)
        labelmap = LabelMap(scan.volume.array[0].astype(np.uint8), scan.volume.geometry)
        row = replace(row, labels=label_facts(labelmap, look.names, row.is_picture))
        scan = replace(scan, volume=Volume(np.zeros_like(scan.volume.array), scan.volume.geometry))
    _draw(row, scan, labelmap, look)
    return row


def _place(source: Source, look: Look) -> str:
    """The path of a scan; '.' where it is the inspected folder itself."""
    return "." if source.path == look.base else str(source.path)


def _label_values(scan: Scan) -> tuple[int, ...] | None:
    """The values of a scan that looks like a label map: few, whole, 0 among them; None for others."""
    array = scan.volume.array
    if not scan.integral or len(array) != 1 or array.min() != 0 or array.max() > _LARGEST_LABEL:
        return None
    values = present_values(array[0].astype(np.uint8))
    return tuple(values) if len(values) <= _MOST_LABELS else None


def _facts(row: CaseRow, scan: Scan | None, look: Look) -> CaseRow:
    if scan is None:
        return row
    geometry, array = scan.volume.geometry, scan.volume.array
    return replace(
        row,
        modality=scan.modality,
        channels=scan.volume.channels,
        shape=geometry.shape,
        spacing=geometry.spacing,
        orientation=geometry.orientation,
        intensity=(float(array.min()), float(array.max())),
        percentiles=percentiles(array),
        content=content_hash(scan.volume),
        findings=scan.findings,
    )


def _named_labels(seen: Examined, look: Look) -> tuple[LabelMap | None, Mapping[int, str]]:
    """The label map to measure and what its values are called: the task's, or the file's own where it cannot be."""
    if look.task is not None and seen.labelmap is not None:
        names = {label.value: label.name for label in seen.labelmap.labels}
        kept = np.where(seen.labelmap.array == IGNORE, 0, seen.labelmap.array)
        return LabelMap(kept, seen.labelmap.geometry, seen.labelmap.labels), names
    if seen.raw is None or look.task is None:
        own = {label.value: label.name for label in seen.raw.labels} if seen.raw is not None else {}
        return seen.raw, own or look.names
    sources = {value: label.name for label in look.task.label_table() for value in label.sources}
    return seen.raw, sources


def _aligned(labelmap: LabelMap, case: Case, scan: Scan | None) -> LabelMap | None:
    """The label map on the scan's grid; None where it does not lie there (a finding says so)."""
    if scan is None or case.label is None:
        return None
    try:
        return align_label(labelmap, case.label, scan)
    except FormatError:
        return None


def _with_labels(
    row: CaseRow, scan: Scan | None, aligned: LabelMap | None, labelmap: LabelMap, names: Mapping[int, str], look: Look
) -> CaseRow:
    outside = None
    if scan is not None and aligned is not None:
        outside = outside_body(scan, aligned.array > 0)
    measured = aligned if aligned is not None else labelmap
    look.label_hashes[row.id] = content_hash(Volume(measured.array[np.newaxis], measured.geometry))
    return replace(row, labels=label_facts(measured, names, row.is_picture, outside))


def _of(problem: Problem, seen: Examined | None = None) -> Finding:
    """A problem as a finding, with the numbers that belong to its code."""
    values = dict(problem.values)
    if seen is not None and problem.code == "undeclared-label" and seen.raw is not None:
        values = {"labels": _amounts(seen.raw)}
    elif seen is not None and problem.code == "grid-mismatch" and seen.raw is not None and seen.scan is not None:
        for name, geometry in (("label", seen.raw.geometry), ("image", seen.scan.volume.geometry)):
            values[name] = {
                "shape": list(geometry.shape),
                "spacing_mm": [round(mm, 5) for mm in geometry.spacing],
                "orientation": geometry.orientation,
            }
    return Finding(problem.code, problem.severity, problem.message, values)


def _amounts(labelmap: LabelMap) -> dict[str, dict[str, float]]:
    """Voxels and ml of every value of a label map but 0."""
    values, counts = np.unique(labelmap.array, return_counts=True)
    voxel = labelmap.geometry.voxel_volume_ml
    return {
        str(value): {"voxels": int(count), "volume_ml": float(f"{count * voxel:.6g}")}
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if value
    }


def _model_findings(scan: Scan | None, known: Sequence[Finding], look: Look) -> list[Finding]:
    """What the model says of a scan: an error where it would refuse it, warnings where it differs from the training."""
    if scan is None or look.bundle is None or any(finding.severity is Severity.ERROR for finding in known):
        return []
    from medseg.inference import check_scan, departures
    from medseg.preprocess import fit_channels

    task, trained = look.bundle.task, look.bundle.fingerprint
    outcome = check_scan(scan, task, trained)
    if outcome.status is Status.REFUSED:
        return [Finding("refused-by-model", Severity.ERROR, f"{scan.source.path}: {outcome.reason}")]
    return departures(scan, fit_channels(scan, task).volume, task, trained)


def _remember_patient(case: str, source: Source, look: Look) -> None:
    if source.format != "dicom":
        return
    from medseg.formats.dicom_patient import patient_key

    key = patient_key(source, look.salt)
    if key is not None:
        look.patients[case] = key


def _draw(row: CaseRow, scan: Scan | None, labelmap: LabelMap | None, look: Look) -> None:
    if not look.draw or scan is None or sum(map(len, look.pictures.values())) > _MOST_PICTURES:
        return
    from medseg.evaluation.thumbnail import thumbnail

    look.pictures[row.id] = thumbnail(scan.volume, labelmap, _table(labelmap, look))


def _table(labelmap: LabelMap | None, look: Look) -> tuple[Label, ...]:
    """The labels with their colours: the map's own, else the task's."""
    if labelmap is not None and labelmap.labels:
        return labelmap.labels
    return look.task.label_table() if look.task is not None else ()
