"""What looks wrong about a case only beside the others: labels, sides, scales, spacings.

The thresholds are lenient on purpose: a warning that is wrong once is not read a second time. They
were set so that the shipped sample sets and the real sets at hand (hippocampus MR, nuclei, retina,
lung CT, sarcoma PET) give none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from medseg.core.case import Finding, Severity
from medseg.core.task import Task
from medseg.data.facts import is_ct
from medseg.data.inspection import CaseRow, Findings, LabelFacts
from medseg.data.sides import pairs, swapped_sides

_FEW = 3  # labelled cases that tell what is usual about which labels there are
_SEVERAL = 5  # cases that tell what is usual about spacing, sides and scale
_MOST = 0.8  # share of the cases that makes something usual
_NEARLY_ALL = 0.9
_SPECK = 0.01  # of the label's typical piece
_MANY_SPECKS = 10
_FAR = 0.5  # of the rest's extent
_OUTSIDE_AIR, _OUTSIDE_DARK = 0.1, 0.5
_FACTOR = 2.5  # of the median spacing, as the gate has it for the training cases' range
_HU_LOWEST, _HU_AIR = -200.0, -500.0
_SCALE = 50.0  # times the other cases' largest value


def across_cases(rows: Sequence[CaseRow], task: Task | None) -> tuple[Findings, list[Finding]]:
    """Findings per case, and those about the whole. Instance maps (labels called 'objects') name no structures."""
    found: Findings = defaultdict(list)
    # A case whose files are broken, or whose label map is not the task's, tells nothing about the others.
    labelled = [row for row in rows if row.label is not None and row.usable]
    for part in (
        rare_labels(labelled),
        tiny_specks(labelled),
        swapped_sides(labelled, pairs(labelled, task)),
        outside_body(labelled),
        spacing_outliers(rows),
        other_orientation(rows),
        other_scale(rows, task),
        no_contrast(rows),
    ):
        for case, findings in part.items():
            found[case] += findings
    return found, [*labels_in_no_case(labelled, task), *spreads(rows)]


def merged_instances(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """The rows with every label one of 'objects', where most of the label maps count objects.

    A map of two or three objects alone looks like one of two or three structures.
    """
    labelled = [row for row in rows if row.labels]
    counting = [row for row in labelled if row.labels and row.labels[0].name == "objects"]
    if not counting or len(counting) < 0.3 * len(labelled):
        return list(rows)
    return [replace(row, labels=(_objects(row.labels),)) if row.labels else row for row in rows]


# ---- labels ---------------------------------------------------------------------------------


def rare_labels(rows: Sequence[CaseRow]) -> Findings:
    """label-in-one-case: of three or more cases one has the label; label-missing: of ten or more hardly any lacks it.

    One case cannot teach and validate, whatever the reason, hence a warning; a missing structure may
    well be absent in the patient, hence an info.
    """
    labelled = [row for row in rows if row.labels is not None]
    having: defaultdict[str, list[CaseRow]] = defaultdict(list)
    for row in labelled:
        for label in row.labels or ():
            having[label.name].append(row)
    found: Findings = defaultdict(list)
    for name, there in having.items():
        if len(there) == 1 and len(labelled) >= _FEW:
            label = _label(there[0], name)
            others = len(labelled) - 1
            text = f"the label {name!r} is in this case only ({_amount(label)}), in none of the {others} others"
            found[there[0].id].append(_warning("label-in-one-case", text, {**_measure(label), "cases": len(labelled)}))
        elif len(there) >= _NEARLY_ALL * len(labelled) and len(labelled) >= 2 * _SEVERAL:
            ids = {row.id for row in there}
            for row in labelled:
                if row.id not in ids and row.labels:
                    text = f"lacks the label {name!r}, which {len(there)} of {len(labelled)} cases have"
                    values = {"label": name, "cases_with": len(there), "cases": len(labelled)}
                    found[row.id].append(_info("label-missing", text, values))
    return found


def labels_in_no_case(rows: Sequence[CaseRow], task: Task | None) -> list[Finding]:
    """Labels of the task that no label map has, where any could be read."""
    labelled = [row for row in rows if row.labels]
    if task is None or not labelled:
        return []
    there = {label.name for row in labelled for label in row.labels or ()}
    return [
        _warning("label-in-no-case", f"the task's label {name!r} is in none of the {len(labelled)} cases",
                 {"label": name, "cases": len(labelled)})
        for name in task.label_names
        if name not in there
    ]  # fmt: skip


def tiny_specks(rows: Sequence[CaseRow]) -> Findings:
    """Pieces at most three voxels across and below 1 % of what a piece of the label usually has.

    Such a piece is smaller than what anyone outlines. One or two beside the structure are usual where
    it was cut by a coarse grid (an info); ten, or one further away than half the structure's extent,
    come from a slip of the brush, a threshold or a bad resampling (a warning).
    """
    typical: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        for label in row.labels or ():
            typical[label.name].append(label.typical_piece)
    found: Findings = defaultdict(list)
    for row in rows:
        for label in row.labels or ():
            limit = _SPECK * median(typical[label.name])
            specks = [(voxels, reach) for voxels, reach in label.specks if voxels <= limit]
            if specks:
                found[row.id].append(_speck_finding(label, specks))
    return found


def _speck_finding(label: LabelFacts, specks: Sequence[tuple[int, float]]) -> Finding:
    far = sum(reach > _FAR for _, reach in specks)
    largest = max(voxels for voxels, _ in specks)
    plural = "s" if len(specks) > 1 else ""
    text = (
        f"the label {label.name!r} has {len(specks)} tiny speck{plural} "
        f"(at most {largest} of {label.voxels:,} voxels{f', {far} of them far from the rest' if far else ''})"
    )
    values = {"label": label.name, "specks": len(specks), "far": far, "largest_voxels": largest, "pieces": label.pieces}
    odd = far > 0 or len(specks) >= _MANY_SPECKS
    return _warning("tiny-specks", text, values) if odd else _info("tiny-specks", text, values)


def outside_body(rows: Sequence[CaseRow]) -> Findings:
    """A label with more than 10 % of its voxels, or a whole piece, in the air around a CT's body, or half in darkness.

    A lung whose wall the disease or the edge of the field of view has opened reaches 2 %; in MR and PET
    background is told by its darkness alone, so that only half of a label counts.
    """
    found: Findings = defaultdict(list)
    for row in rows:
        for label in row.labels or ():
            limit = _OUTSIDE_AIR if is_ct(row.modality, row.percentiles[0] if row.percentiles else 0) else _OUTSIDE_DARK
            if label.outside is None or (label.outside <= limit and not label.strays):
                continue
            whole = f" ({label.strays} whole piece{'s' * (label.strays > 1)})" if label.strays else ""
            text = f"{label.outside:.0%} of the label {label.name!r} lies outside the body{whole}"
            values = {"label": label.name, "share": round(label.outside, 4), "pieces": label.strays}
            found[row.id].append(_warning("label-outside-body", text, values))
    return found


# ---- grids and scales -----------------------------------------------------------------------


def spacing_outliers(rows: Sequence[CaseRow]) -> Findings:
    """Volumes whose spacing along R, A or S is 2.5 times the median or more, or as much less, of five or more.

    Where more than a fifth differ that much the set is mixed, and none of them is an outlier.
    """
    spacings = {row.id: spacing for row in rows if not row.is_picture and (spacing := row.canonical_spacing())}
    if len(spacings) < _SEVERAL:
        return {}
    usual = [median(spacing[axis] for spacing in spacings.values()) for axis in range(3)]
    odd = {
        case: spacing
        for case, spacing in spacings.items()
        if any(not 1 / _FACTOR < mm / middle < _FACTOR for mm, middle in zip(spacing, usual, strict=True))
    }
    if len(odd) > (1 - _MOST) * len(spacings):
        return {}
    return {
        case: [
            _warning("spacing-outlier", f"its spacing of {_mm(spacing)} is far from that of the others ({_mm(usual)})",
                     {"spacing_mm": [round(mm, 4) for mm in spacing], "median_mm": [round(mm, 4) for mm in usual]})
        ]
        for case, spacing in odd.items()
    }  # fmt: skip


def other_orientation(rows: Sequence[CaseRow]) -> Findings:
    """An info for volumes whose axes run otherwise than those of most (four fifths of five or more)."""
    axes = {row.id: row.orientation for row in rows if row.orientation and not row.is_picture}
    counted = Counter(axes.values()).most_common()
    if len(axes) < _SEVERAL or len(counted) < 2 or counted[0][1] < _MOST * len(axes):
        return {}
    usual, count = counted[0]
    text = f"axes run {{}}, while {count} of {len(axes)} volumes have {usual}; all are brought into one orientation"
    return {
        case: [_info("orientation", text.format(own), {"orientation": own, "usual": usual})]
        for case, own in axes.items()
        if own != usual
    }


def spreads(rows: Sequence[CaseRow]) -> list[Finding]:
    """An info where the volumes' axes run in several ways."""
    counted = Counter(row.orientation for row in rows if row.orientation and not row.is_picture).most_common()
    if len(counted) < 2:
        return []
    listed = ", ".join(f"{axes} {count}×" for axes, count in counted)
    return [_info("orientation", f"the volumes' axes run in {len(counted)} ways ({listed}); all are brought into one",
                  {"orientations": {str(axes): count for axes, count in counted}})]  # fmt: skip


def other_scale(rows: Sequence[CaseRow], task: Task | None) -> Findings:
    """Values that cannot be in the unit that the task or the other cases have; for CT and PET, whose units are fixed.

    CT reaches below -500 HU wherever there is air, and nothing else does. PET in Bq/ml among SUV is
    thousands of times larger; 50 times the median of the cases' largest values is beyond any tumour.
    Files that name their modality are judged by it and by the reader.
    """
    modality = task.modality if task is not None else _usual_modality(rows)
    found: Findings = defaultdict(list)
    for row in rows:
        if row.intensity is None or row.percentiles is None or not _is_scan(row):
            continue
        told = row.modality in ("CT", "MR", "PT", "NM")
        low, air = row.intensity[0], row.percentiles[0]
        text = ""
        if modality == "CT" and low >= _HU_LOWEST and not told:
            text = f"its lowest value is {low:g}, so it is no CT in Hounsfield units (air is near -1000)"
        elif modality in ("MR", "PT") and air < _HU_AIR and not told:
            text = f"its lowest values are near {air:g} as in a CT, but the task is for {modality}"
        if text and row.intensity[1] > low:
            found[row.id].append(_warning("intensity-range", text, _range(row)))
    if modality == "PT":
        for row, usual in _far_brighter(rows):
            top = _range(row)["maximum"]
            text = f"its values reach {top:g}, those of most cases {usual:g}, as if they were in another unit"
            found[row.id].append(_warning("intensity-range", text, {**_range(row), "median_of_maxima": usual}))
    return found


def _usual_modality(rows: Sequence[CaseRow]) -> str | None:
    """CT, where four fifths of five or more scans hold Hounsfield units."""
    judged = [row for row in rows if row.percentiles is not None and _is_scan(row)]
    ct = sum(is_ct(row.modality, row.percentiles[0]) for row in judged if row.percentiles)
    return "CT" if len(judged) >= _SEVERAL and ct >= _MOST * len(judged) else None


def _far_brighter(rows: Sequence[CaseRow]) -> list[tuple[CaseRow, float]]:
    tops = {row.id: row.intensity[1] for row in rows if row.intensity is not None}
    usual = median(tops.values()) if len(tops) >= _SEVERAL else 0.0
    return [(row, usual) for row in rows if usual > 0 and tops.get(row.id, 0.0) > _SCALE * usual]


def _is_scan(row: CaseRow) -> bool:
    """A sound volume that is no label map itself."""
    return row.usable and not row.is_picture and (row.label is not None or row.label_values is None)


def no_contrast(rows: Sequence[CaseRow]) -> Findings:
    """Scans in which every voxel has one value."""
    return {
        row.id: [_warning("no-contrast", f"every voxel is {row.intensity[0]:g}", {"value": row.intensity[0]})]
        for row in rows
        if row.intensity is not None and row.intensity[0] == row.intensity[1]
    }


# ---- small things ---------------------------------------------------------------------------


def _objects(labels: Sequence[LabelFacts] | None) -> LabelFacts:
    """All labels of a map as one of 'objects'."""
    given = labels or ()
    volumes = [label.volume_ml for label in given if label.volume_ml is not None]
    return LabelFacts(
        "objects",
        1,
        sum(label.voxels for label in given),
        sum(volumes) if len(volumes) == len(given) else None,
        sum(label.pieces for label in given),
        median(label.typical_piece for label in given),
    )


def _label(row: CaseRow, name: str) -> LabelFacts:
    return next(label for label in row.labels or () if label.name == name)


def _measure(label: LabelFacts) -> dict[str, object]:
    volume = {} if label.volume_ml is None else {"volume_ml": float(f"{label.volume_ml:.6g}")}
    return {"label": label.name, "voxels": label.voxels, **volume}


def _amount(label: LabelFacts) -> str:
    voxels = f"{label.voxels:,} {'voxels' if label.volume_ml is not None else 'pixels'}"
    return voxels if label.volume_ml is None else f"{voxels}, {label.volume_ml:.3g} ml"


def _range(row: CaseRow) -> Mapping[str, float]:
    low, high = row.intensity or (0.0, 0.0)
    return {"minimum": low, "maximum": high}


def _mm(values: Sequence[float]) -> str:
    return "×".join(f"{value:.3g}" for value in values) + " mm"


def _warning(code: str, message: str, values: Mapping[str, object]) -> Finding:
    return Finding(code, Severity.WARNING, message, values)


def _info(code: str, message: str, values: Mapping[str, object]) -> Finding:
    return Finding(code, Severity.INFO, message, values)
