"""An inspection as files: JSON for scripts, one self-contained HTML page for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.core.case import Finding, Severity
from medseg.core.files import write_json, write_text
from medseg.core.labels import Label, default_color
from medseg.core.plan import Fingerprint
from medseg.core.version import VERSION
from medseg.data.codes import CODES, Advice
from medseg.data.inspection import CaseRow, Inspection, amount
from medseg.evaluation.page import embedded, render
from medseg.evaluation.strips import Bar, Dot, Strip, bars, strips

_VERDICTS = ("Clean", "Look at the warnings", "Nothing here is usable")
_SOME_BROKEN = "Some cases cannot be used"
_MOST_LABELS = 30  # lines of the label plot
_MOST_BARS = 400
_SHOWN_LABELS = 8  # volumes listed under a thumbnail
_UNKNOWN = Advice("Other", "See the messages of the cases.", "")
_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2, None: 3}


def write_inspection(
    inspection: Inspection,
    folder: Path,
    thumbnails: Mapping[str, bytes],
    labels: Sequence[Label] = (),
    trained: Fingerprint | None = None,
) -> None:
    """Write inspect.json and inspect.html into `folder`, each atomically.

    thumbnails: case -> PNG; labels: their colours; trained: the training cases of a model, shown as ranges.
    """
    write_json(folder / "inspect.json", inspection.to_json())
    write_text(folder / "inspect.html", inspection_html(inspection, thumbnails, labels, trained))


def inspection_html(
    inspection: Inspection,
    thumbnails: Mapping[str, bytes],
    labels: Sequence[Label] = (),
    trained: Fingerprint | None = None,
) -> str:
    """The inspection as one page without references to other files; the worst cases come first."""
    rows = sorted(inspection.cases, key=lambda row: (_ORDER[row.worst], row.id))
    colors = {label.name: label.color for label in labels}
    return render(
        "inspect.html.j2",
        root=Path(inspection.root).resolve().name or inspection.root,
        version=VERSION,
        inspection=inspection,
        totals=inspection.totals(),
        flat=all(row.is_picture for row in rows if row.shape),
        verdict=_verdict(inspection),
        codes=[(code, severity, cases, CODES.get(code, _UNKNOWN)) for code, severity, cases in inspection.by_code()],
        counts=Counter(str(row.worst) if row.worst else "clean" for row in rows),
        plots=_plots(inspection.cases, trained),
        tables=_tables(inspection.cases),
        cases=[_case(row, thumbnails.get(row.id), colors) for row in rows],
        missing=sum(row.shape is not None and row.id not in thumbnails for row in rows),
    )


def _verdict(inspection: Inspection) -> str:
    some = inspection.exit_code == 1 and inspection.totals()["with_errors"] > 0
    return _SOME_BROKEN if some else _VERDICTS[inspection.exit_code]


def _case(row: CaseRow, png: bytes | None, colors: Mapping[str, tuple[int, int, int]]) -> dict[str, Any]:
    """One case as its card shows it."""
    labels = [
        (label.name, amount(label), "rgb({}, {}, {})".format(*colors.get(label.name, default_color(label.value))))
        for label in row.labels or ()
    ]
    return {
        "id": row.id,
        "level": str(row.worst) if row.worst else "clean",
        "facts": _facts(row),
        "path": row.path or "",
        "group": row.group if row.group != row.id else None,
        "parts": row.parts,
        "findings": [_told(finding, row) for finding in row.findings],
        "labels": labels[:_SHOWN_LABELS],
        "more_labels": max(0, len(labels) - _SHOWN_LABELS),
        "picture": None if png is None else embedded(png),
    }


def _told(finding: Finding, row: CaseRow) -> tuple[str, str, str]:
    """(code, severity, message), the message without the case's own path in front."""
    message = finding.message
    for path in (row.path, row.label):
        if path:
            message = message.removeprefix(f"{path}: ")
    return finding.code, str(finding.severity), message


def _facts(row: CaseRow) -> list[str]:
    facts = [kind] if (kind := _kind(row)) else []
    if row.shape:
        shape = row.shape[:2] if row.is_picture else row.shape
        facts.append("×".join(map(str, shape)) + (f" · {row.channels} channels" if (row.channels or 1) > 1 else ""))
    if row.spacing and not row.is_picture:
        facts.append("×".join(f"{size:.3g}" for size in row.spacing) + " mm")
    if row.orientation and not row.is_picture:
        facts.append(row.orientation)
    if row.intensity:
        facts.append(f"{row.intensity[0]:.4g} … {row.intensity[1]:.4g}")
    return facts


def _kind(row: CaseRow) -> str:
    """'nifti', 'dicom CT', …"""
    return " ".join(filter(None, [row.format, row.modality if row.modality != row.format else None]))


# ---- overview -------------------------------------------------------------------------------


def _plots(rows: Sequence[CaseRow], trained: Fingerprint | None) -> list[tuple[str, str, str]]:
    """(heading, SVG, one line about it) of what there is to plot."""
    plots = [*_volume_plots(rows, trained), *_intensity_plot(rows, trained), *_spacing_plot(rows, trained)]
    note = " Shaded: the model's training cases." if trained is not None else ""
    return [(heading, svg, text + note) for heading, svg, text in plots]


def _volume_plots(rows: Sequence[CaseRow], trained: Fingerprint | None) -> list[tuple[str, str, str]]:
    lines: dict[str, list[Dot]] = {}
    pixels = all(label.volume_ml is None for row in rows for label in row.labels or ())
    for row in rows:
        odd = _has(row, "label-in-one-case", "tiny-specks", "label-outside-body", "sides-swapped")
        for label in row.labels or ():
            if pixels or label.volume_ml is not None:
                value = label.voxels if label.volume_ml is None else label.volume_ml
                lines.setdefault(label.name, []).append(Dot(value, row.id, odd))
    if not lines:
        return []
    known = trained.label_volumes_ml if trained is not None and not pixels else {}
    drawn = [
        Strip(name, dots, (known[name][0], known[name][2]) if name in known and known[name][2] > 0 else None)
        for name, dots in list(lines.items())[:_MOST_LABELS]
    ]
    text = "Each dot is a case (point at it for its name); the tick is the median."
    if len(lines) > _MOST_LABELS:
        text += f" The first {_MOST_LABELS} of {len(lines)} labels."
    unit = "pixels" if pixels else "ml"
    return [("Label volumes" if not pixels else "Label areas", strips(drawn, unit, "Label volumes"), text)]


def _spacing_plot(rows: Sequence[CaseRow], trained: Fingerprint | None) -> list[tuple[str, str, str]]:
    known = [(row, spacing) for row in rows if not row.is_picture and (spacing := row.canonical_spacing())]
    if len({tuple(round(mm, 3) for mm in spacing) for _, spacing in known}) < 2 and trained is None:
        return []  # the table says it
    lines = []
    for axis, name in enumerate(("right–left", "front–back", "head–foot")):
        dots = [Dot(spacing[axis], row.id, _has(row, "spacing-outlier")) for row, spacing in known]
        there = [spacing[axis] for spacing in trained.spacings] if trained is not None else []
        lines.append(Strip(name, dots, (min(there), max(there)) if there else None))
    return [("Spacing", strips(lines, "mm", "Spacing per axis"), "Distance between voxels along the patient's axes.")]


def _intensity_plot(rows: Sequence[CaseRow], trained: Fingerprint | None) -> list[tuple[str, str, str]]:
    groups: dict[str, list[Bar]] = {}
    for row in rows:
        if row.percentiles is not None:
            bar = Bar(*row.percentiles, row.id, _has(row, "intensity-range", "no-contrast"))
            groups.setdefault(row.modality or "", []).append(bar)
    heads = [f"Intensities: {kind}" if kind and len(groups) > 1 else "Intensities" for kind in groups]
    return [_bar_plot(head, known, trained) for head, known in zip(heads, groups.values(), strict=True)]


def _bar_plot(heading: str, known: Sequence[Bar], trained: Fingerprint | None) -> tuple[str, str, str]:
    shown = known if len(known) <= _MOST_BARS else known[:: len(known) // _MOST_BARS + 1]
    stats = trained.channels[0] if trained is not None and trained.channels else None
    band = (stats.p005, stats.p995) if stats is not None else None
    text = "A bar a case: 0.5th to 99.5th percentile of its values, the tick at the median."
    if len(shown) < len(known):
        text += f" {len(shown)} of {len(known)} cases."
    return heading, bars(shown, band, f"{heading} of every case"), text


def _has(row: CaseRow, *codes: str) -> bool:
    return any(finding.code in codes and finding.severity is not Severity.INFO for finding in row.findings)


def _tables(rows: Sequence[CaseRow]) -> list[tuple[str, list[tuple[str, int]]]]:
    """(heading, [(what, cases)]) of the kinds of files, their axes and shapes."""
    volumes = [row for row in rows if row.shape and not row.is_picture]
    kinds = Counter(kind for row in rows if (kind := _kind(row)))
    axes = Counter(row.orientation for row in volumes if row.orientation)
    sizes = Counter("×".join(map(str, row.shape[:2] if row.is_picture else row.shape)) for row in rows if row.shape)
    parts = Counter(part for row in rows for part in row.parts)
    spacings = Counter("×".join(f"{mm:.3g}" for mm in row.spacing) + " mm" for row in volumes if row.spacing)
    named = (("Files", kinds), ("Axes", axes), ("Spacings", spacings), ("Sizes", sizes), ("Split", parts))
    return [(heading, [*counted.most_common(6), *_rest(counted)]) for heading, counted in named if counted]


def _rest(counted: Counter[str]) -> list[tuple[str, int]]:
    others = counted.most_common()[6:]
    return [(f"{len(others)} others", sum(count for _, count in others))] if others else []
