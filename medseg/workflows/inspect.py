"""What is in a folder: scans or labelled cases, their grids, values and problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg.core.case import Case, Finding, Scan, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.events import Listener, Progress, silent
from medseg.core.geometry import Shape, Triple
from medseg.core.task import DataSpec, Task
from medseg.data.check import examine
from medseg.data.dataset import Dataset
from medseg.data.labels import present_values
from medseg.data.layouts import find_dataset
from medseg.data.shipped import find_task

_LISTS = (".csv", ".json")
_LARGEST_LABEL, _MOST_LABELS = 255, 16


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One scan or labelled case.

    path and label: files (a folder for a DICOM series); shape and spacing (mm) along the file's own
    axes i, j, k; intensity: smallest and largest value; label_values: those in the label map's file
    (or in the scan itself where it looks like one), 0 among them; findings: what is odd or
    wrong. What could not be read is None.
    """

    id: str
    path: str | None
    format: str | None = None
    modality: str | None = None
    channels: int | None = None
    shape: Shape | None = None
    spacing: Triple | None = None
    orientation: str | None = None
    intensity: tuple[float, float] | None = None
    group: str | None = None
    label: str | None = None
    label_values: tuple[int, ...] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether nothing about it is an error."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything found below `root`; `layout` is how its labelled cases lie, or 'scans' where there are none."""

    root: str
    layout: str
    cases: tuple[CaseRow, ...]
    notes: tuple[str, ...] = ()

    def totals(self) -> dict[str, int]:
        """Counts over the cases: all, labelled, usable, with errors, with warnings."""
        levels = [{finding.severity for finding in row.findings} for row in self.cases]
        return {
            "cases": len(self.cases),
            "labelled": sum(row.label is not None for row in self.cases),
            "groups": len({row.group for row in self.cases if row.group}),
            "usable": sum(row.usable for row in self.cases),
            "with_errors": sum(Severity.ERROR in level for level in levels),
            "with_warnings": sum(Severity.WARNING in level for level in levels),
        }

    @property
    def exit_code(self) -> int:
        """0: clean; 1: something is odd or some cases are broken; 2: nothing is usable."""
        totals = self.totals()
        if not totals["usable"]:
            return 2
        return int(totals["with_errors"] + totals["with_warnings"] > 0)

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for JSON: root, layout, totals, notes and cases[] with findings[]."""
        return {
            "root": self.root,
            "layout": self.layout,
            "totals": self.totals(),
            "notes": list(self.notes),
            "cases": [_plain_row(row) for row in self.cases],
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and rows for a person to read; the findings are in `sentences`."""
        columns = ["case", "shape", "spacing (mm)", "axes", "kind", "intensity", "labels", "findings"]
        return columns, [_cells(row) for row in self.cases]

    def sentences(self) -> list[str]:
        """Notes and findings, then the totals, a line each."""
        lines = list(self.notes)
        for row in self.cases:
            lines += [f"{finding.severity}: {row.id}: {finding.message}" for finding in row.findings]
        totals = self.totals()
        kinds = Counter(row.format for row in self.cases if row.format)
        of = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(
            f"{totals['cases']} cases ({of or 'none readable'}), {totals['labelled']} labelled, "
            f"{totals['usable']} usable, {totals['with_warnings']} with warnings, {totals['with_errors']} with errors; "
            f"layout: {self.layout}"
        )
        return lines


def inspect(path: Path | str, task: Task | str | Path | None = None, listener: Listener = silent) -> Inspection:
    """Look at a scan, a folder of scans, or a folder (or list) of labelled cases; with a task, check them for it.

    Every file is read, one at a time; what is wrong with one is a finding of its row.
    Raises UsageError where there is nothing at `path`, TaskError for a wrong task.
    """
    root = Path(path)
    wanted = task if isinstance(task, Task) or task is None else find_task(str(task))
    dataset = None
    if not root.is_file() or root.suffix.lower() in _LISTS:
        spec, channels = (wanted.data, tuple(wanted.channels)) if wanted else (DataSpec(), ())
        dataset = find_dataset(root, spec, channels)
    if dataset is None:
        rows = _scan_rows(root, listener)
        return Inspection(str(root), "scans", tuple(rows))
    rows = _case_rows(dataset, wanted, listener)
    return Inspection(str(root), dataset.layout, tuple(rows), (*dataset.notes, *_others(root, dataset)))


def _case_rows(dataset: Dataset, task: Task | None, listener: Listener) -> list[CaseRow]:
    cases = sorted([*dataset.cases, *dataset.unlabelled], key=lambda case: case.id)
    rows: dict[str, CaseRow] = {}
    for done, case in enumerate(cases, start=1):
        rows[case.id] = _case_row(case, task)
        listener(Progress("looking at the cases", done, len(cases)))
    for problem in dataset.problems:
        row = rows.get(problem.case, CaseRow(problem.case, None))
        finding = Finding(problem.code, problem.severity, problem.message)
        rows[problem.case] = replace(row, findings=(*row.findings, finding))
    return [rows[name] for name in sorted(rows)]


def _case_row(case: Case, task: Task | None) -> CaseRow:
    seen = examine(case, task)
    row = _facts(CaseRow(case.id, str(case.images[0].path), case.images[0].format, group=case.group), seen.scan)
    if task is None:
        row = replace(row, channels=None if row.channels is None else row.channels * len(case.images))
    findings = [*row.findings, *(Finding(p.code, p.severity, p.message) for p in seen.problems)]
    if case.label is None:
        findings.append(Finding("unlabelled", Severity.WARNING, f"{case.images[0].path}: has no label map"))
    return replace(
        row,
        label=None if case.label is None else str(case.label.path),
        label_values=None if seen.raw is None else tuple(present_values(seen.raw.array)),
        findings=tuple(findings),
    )


def _scan_rows(root: Path, listener: Listener) -> list[CaseRow]:
    sources: Sequence[Source] = [formats.source_of(root)] if root.is_file() else formats.discover(root)
    rows = []
    for done, source in enumerate(sources, start=1):
        row = CaseRow(source.name, str(source.path), source.format, source.modality)
        try:
            scan = formats.read(source)
            row = replace(_facts(row, scan), label_values=_label_values(scan))
        except FormatError as error:
            others = [f for f in source.findings if f.code != error.code]
            row = replace(row, findings=(*others, Finding(error.code, Severity.ERROR, str(error))))
        rows.append(row)
        listener(Progress("looking at the scans", done, len(sources)))
    return rows


def _label_values(scan: Scan) -> tuple[int, ...] | None:
    """The values of a scan that looks like a label map: few, whole, 0 among them; None for others."""
    array = scan.volume.array
    if not scan.integral or len(array) != 1 or array.min() != 0 or array.max() > _LARGEST_LABEL:
        return None
    values = present_values(array[0].astype(np.uint8))
    return tuple(values) if len(values) <= _MOST_LABELS else None


def _facts(row: CaseRow, scan: Scan | None) -> CaseRow:
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
        findings=scan.findings,
    )


def _others(root: Path, dataset: Dataset) -> list[str]:
    """A note about scans below `root` that belong to no case."""
    if root.is_file():
        return []
    used = {source.path for case in (*dataset.cases, *dataset.unlabelled) for source in case.images}
    used |= {case.label.path for case in dataset.cases if case.label}
    told = " ".join(problem.message for problem in dataset.problems)
    left = [source for source in formats.discover(root) if source.path not in used and str(source.path) not in told]
    if not left:
        return []
    some = ", ".join(source.name for source in left[:3]) + (" …" if len(left) > 3 else "")
    return [f"{len(left)} further scans belong to no case and are not looked at: {some}"]


def _plain_row(row: CaseRow) -> dict[str, Any]:
    plain: dict[str, Any] = {
        name: getattr(row, name) for name in CaseRow.__slots__ if name not in ("findings", "label_values")
    }
    for name in ("shape", "spacing", "intensity"):
        plain[name] = None if plain[name] is None else list(plain[name])
    plain["label_values"] = None if row.label_values is None else list(row.label_values)
    plain["usable"] = row.usable
    plain["findings"] = [
        {"code": f.code, "severity": str(f.severity), "message": f.message, "values": dict(f.values)}
        for f in row.findings
    ]
    return plain


def _cells(row: CaseRow) -> list[str]:
    values = row.label_values
    return [
        row.id,
        "×".join(map(str, row.shape)) if row.shape else "",
        "×".join(f"{size:.3g}" for size in row.spacing) if row.spacing else "",
        row.orientation or "",
        " ".join(filter(None, [row.format, row.modality if row.modality != row.format else None])),
        f"{row.intensity[0]:.4g} … {row.intensity[1]:.4g}" if row.intensity else "",
        "" if values is None else _values(values),
        ", ".join(finding.code for finding in row.findings),
    ]


def _values(values: Sequence[int]) -> str:
    return " ".join(map(str, values)) if len(values) <= 6 else f"{len(values)} values, {values[0]} … {values[-1]}"
