"""What `medseg inspect` found, as values: one row a scan or case, what is odd, and all of it as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medseg.core.case import Finding, Severity
from medseg.core.geometry import Shape, Triple

Findings = dict[str, list[Finding]]  # by case id

_WORST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.INFO)


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """One label of one case.

    value: in the file, or in the task's numbering where there is a task; volume_ml: None for
    pictures, whose pixels have no known size; pieces: connected components (diagonal neighbours
    belong together); typical_piece: median voxels of the pieces that are no crumbs; specks: tiny
    pieces as (voxels, reach), reach being the distance to the rest as a share of the rest's extent;
    centroid: RAS+ mm, None for pictures; outside: share of its voxels outside the body, None where
    that cannot be told; strays: pieces of it (specks apart) that lie in the air outside.
    """

    name: str
    value: int
    voxels: int
    volume_ml: float | None
    pieces: int
    typical_piece: float
    specks: tuple[tuple[int, float], ...] = ()
    centroid: Triple | None = None
    outside: float | None = None
    strays: int = 0


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One scan or labelled case.

    path and label: files (a folder for a DICOM series), relative to the inspected folder; shape and
    spacing (mm) along the file's own axes i, j, k; intensity: smallest and largest value, and
    percentiles the 0.5th, 50th and 99.5th; content: hash of the voxel values, whatever the file;
    label_values: those in the label map's file (or in the scan itself where it looks like one), 0
    among them; labels: what each label measures; parts: where a split puts the case; findings: what
    is odd or wrong, the worst first. What could not be read is None.
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
    percentiles: Triple | None = None
    content: str | None = None
    group: str | None = None
    parts: tuple[str, ...] = ()
    label: str | None = None
    label_values: tuple[int, ...] | None = None
    labels: tuple[LabelFacts, ...] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether nothing about it is an error."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def worst(self) -> Severity | None:
        """The severity of its worst finding; None where there is none."""
        levels = {finding.severity for finding in self.findings}
        return next((level for level in _WORST_FIRST if level in levels), None)

    @property
    def is_picture(self) -> bool:
        """Whether it is a 2D picture, whose spacing and axes say nothing."""
        return self.format == "image" and self.shape is not None and self.shape[2] == 1

    def canonical_spacing(self) -> Triple | None:
        """Spacing in mm along the axes nearest to R, A, S."""
        if self.spacing is None or self.orientation is None:
            return None
        place = {letter: axis for axis, letter in enumerate(self.orientation)}
        r, a, s = (next(place[c] for c in pair if c in place) for pair in ("RL", "AP", "SI"))
        return self.spacing[r], self.spacing[a], self.spacing[s]


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything found below `root`; `layout` is how its labelled cases lie, or 'scans' where there are none.

    findings: what is odd about the whole and about no case alone; notes: sentences worth showing.
    """

    root: str
    layout: str
    cases: tuple[CaseRow, ...]
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)

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
        """0: clean; 1: something is odd or some cases are broken; 2: nothing is usable. Infos do not count."""
        totals = self.totals()
        if not totals["usable"]:
            return 2
        odd = any(finding.severity is not Severity.INFO for finding in self.findings)
        return int(odd or totals["with_errors"] + totals["with_warnings"] > 0)

    def by_code(self) -> list[tuple[str, Severity, list[str]]]:
        """(code, its worst severity, cases that have it), the worst first, then the most frequent."""
        cases: dict[str, list[str]] = {}
        levels: dict[str, Severity] = {}
        everything = [("", finding) for finding in self.findings]
        everything += [(row.id, finding) for row in self.cases for finding in row.findings]
        for case, finding in everything:
            there = cases.setdefault(finding.code, [])
            if case and case not in there:
                there.append(case)
            before = levels.get(finding.code, finding.severity)
            levels[finding.code] = min(before, finding.severity, key=_WORST_FIRST.index)
        order = sorted(cases, key=lambda code: (_WORST_FIRST.index(levels[code]), -len(cases[code]), code))
        return [(code, levels[code], cases[code]) for code in order]

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for JSON: root, layout, totals, exit code, notes, findings and cases[] with findings[]."""
        return {
            "root": self.root,
            "layout": self.layout,
            **({"context": dict(self.context)} if self.context else {}),
            "exit_code": self.exit_code,
            "totals": self.totals(),
            "codes": {code: len(cases) for code, _, cases in self.by_code()},
            "notes": list(self.notes),
            "findings": [_plain_finding(finding) for finding in self.findings],
            "spread": spread(self.cases),
            "cases": [_plain_row(row) for row in self.cases],
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and rows for a person to read; the findings are in `sentences`."""
        columns = ["case", "shape", "spacing (mm)", "axes", "kind", "intensity", "labels", "findings"]
        return columns, [_cells(row) for row in self.cases]

    def sentences(self) -> list[str]:
        """Notes and findings, then the totals, a line each."""
        lines = [*self.notes, *(f"{finding.severity}: {finding.message}" for finding in self.findings)]
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


def retold(inspection: Inspection, tell: Callable[[str], str]) -> Inspection:
    """The same inspection with every name, path and sentence in it as `tell` gives it."""

    def finding(one: Finding) -> Finding:
        return replace(one, message=tell(one.message), values=_retold(one.values, tell))

    def row(one: CaseRow) -> CaseRow:
        return replace(
            one,
            id=tell(one.id),
            path=None if one.path is None else tell(one.path),
            label=None if one.label is None else tell(one.label),
            group=None if one.group is None else tell(one.group),
            labels=None if one.labels is None else tuple(replace(x, name=_name(x.name, tell)) for x in one.labels),
            findings=tuple(map(finding, one.findings)),
        )

    return Inspection(
        root=tell(inspection.root),
        layout=tell(inspection.layout),
        cases=tuple(map(row, inspection.cases)),
        notes=tuple(map(tell, inspection.notes)),
        findings=tuple(map(finding, inspection.findings)),
        context=_retold(inspection.context, tell),
    )


def _retold(value: Any, tell: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _retold(inner, tell) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_retold(inner, tell) for inner in value]
    return _name(value, tell) if isinstance(value, str) else value


def _name(text: str, tell: Callable[[str], str]) -> str:
    """A bare number is a label's value and never a name, even where a patient's id is that number."""
    return text if text.isdigit() else tell(text)


def sorted_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first, otherwise in their order, each once."""
    once = {(finding.code, finding.message): finding for finding in findings}
    return tuple(sorted(once.values(), key=lambda finding: _WORST_FIRST.index(finding.severity)))


def spread(rows: Sequence[CaseRow]) -> dict[str, Any]:
    """How the cases differ: counts of axes, formats and modalities; smallest, median and largest spacing, size, volume.

    spacing_mm and size_mm per canonical axis R, A, S (volumes only); volumes per label (ml, pixels in pictures).
    """
    volumes = [row for row in rows if row.shape and not row.is_picture]
    spacings = [spacing for row in volumes if (spacing := row.canonical_spacing())]
    measured: dict[str, list[float]] = {}
    for row in rows:
        for label in row.labels or ():
            measured.setdefault(label.name, []).append(label.voxels if label.volume_ml is None else label.volume_ml)
    return {
        "orientations": dict(Counter(row.orientation for row in volumes if row.orientation).most_common()),
        "formats": dict(Counter(row.format for row in rows if row.format).most_common()),
        "modalities": dict(Counter(row.modality for row in rows if row.modality).most_common()),
        "spacing_mm": {axis: ends([one[n] for one in spacings]) for n, axis in enumerate("RAS")} if spacings else {},
        "shapes": dict(Counter("×".join(map(str, row.shape)) for row in rows if row.shape).most_common(20)),
        "label_volumes": {name: {"cases": len(found), **ends(found)} for name, found in measured.items()},
    }


def ends(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median and largest of some numbers."""
    ordered = sorted(values)
    half = len(ordered) // 2
    middle = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return {"min": _short(ordered[0]), "median": _short(middle), "max": _short(ordered[-1])}


def _plain_row(row: CaseRow) -> dict[str, Any]:
    plain: dict[str, Any] = {
        name: getattr(row, name) for name in CaseRow.__slots__ if name not in ("findings", "labels")
    }  # fmt: skip
    for name in ("shape", "spacing", "intensity", "percentiles", "label_values", "parts"):
        plain[name] = None if plain[name] is None else list(plain[name])
    plain["labels"] = None if row.labels is None else [_plain_label(label) for label in row.labels]
    plain["usable"] = row.usable
    plain["findings"] = [_plain_finding(finding) for finding in row.findings]
    return plain


def _plain_label(label: LabelFacts) -> dict[str, Any]:
    return {
        "name": label.name,
        "value": label.value,
        "voxels": label.voxels,
        "volume_ml": None if label.volume_ml is None else _short(label.volume_ml),
        "pieces": label.pieces,
        "centroid_ras_mm": None if label.centroid is None else [round(x, 2) for x in label.centroid],
        "outside_body": None if label.outside is None else round(label.outside, 4),
    }


def _plain_finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "message": finding.message,
        "values": dict(finding.values),
    }


def _cells(row: CaseRow) -> list[str]:
    values = row.label_values
    return [
        row.id,
        "×".join(map(str, row.shape)) if row.shape else "",
        "×".join(f"{size:.3g}" for size in row.spacing) if row.spacing else "",
        row.orientation or "",
        " ".join(filter(None, [row.format, row.modality if row.modality != row.format else None])),
        f"{row.intensity[0]:.4g} … {row.intensity[1]:.4g}" if row.intensity else "",
        _volumes(row.labels) if row.labels else "" if values is None else _values(values),
        ", ".join(dict.fromkeys(finding.code for finding in row.findings)),
    ]


def _volumes(labels: Sequence[LabelFacts]) -> str:
    if len(labels) > 4:
        return f"{len(labels)} labels"
    return ", ".join(f"{label.name} {amount(label)}" for label in labels)


def amount(label: LabelFacts) -> str:
    """'12.3 ml' or '4,100 px'."""
    if label.volume_ml is None:
        return f"{label.voxels:,} px"
    return f"{label.volume_ml:.3g} ml" if label.volume_ml < 1000 else f"{label.volume_ml:,.0f} ml"


def _values(values: Sequence[int]) -> str:
    return " ".join(map(str, values)) if len(values) <= 6 else f"{len(values)} values, {values[0]} … {values[-1]}"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
