"""Labels that are each other's mirror image, and whether they lie on their own sides of the patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from medseg.core.case import Finding, Severity
from medseg.core.labels import Label
from medseg.core.task import Task
from medseg.data.inspection import CaseRow, Findings

_SEVERAL = 5  # cases that tell what is usual, where neither codes nor names do
_NEARLY_ALL = 0.9
_WRONG_SIDE = 5.0  # mm that the centroids must be apart, so that midline structures do not count

_LEFT = re.compile(r"(?<![a-z])(left|lt|lh|l)(?![a-z])", re.IGNORECASE)
_RIGHT = re.compile(r"(?<![a-z])(right|rt|rh|r)(?![a-z])", re.IGNORECASE)
_SCT_LEFT, _SCT_RIGHT = "7771000", "24028007"


class Pair(NamedTuple):
    """Two labels that mirror each other; `known`: the first is known to be the left one."""

    left: str
    right: str
    known: bool


def pairs(rows: Sequence[CaseRow], task: Task | None) -> list[Pair]:
    """Labels that mirror each other: the task's, or names that differ in left and right only."""
    if task is not None:
        table = {label.name: label for label in task.label_table()}
        couples = [(label, table[label.mirror]) for label in table.values() if label.mirror not in (None, label.name)]
        return [_oriented(one, other) for one, other in couples if one.value < other.value]
    names = sorted({label.name for row in rows for label in row.labels or ()})
    bare = {_RIGHT.sub("*", name).lower(): name for name in names if _RIGHT.search(name) and not _LEFT.search(name)}
    lefts = [name for name in names if _LEFT.search(name) and not _RIGHT.search(name)]
    mates = [(name, bare.get(_LEFT.sub("*", name).lower())) for name in lefts]
    return [Pair(name, mate, True) for name, mate in mates if mate is not None]


def _oriented(one: Label, other: Label) -> Pair:
    sides = side_of(one), side_of(other)
    if sides == ("R", "L"):
        return Pair(other.name, one.name, True)
    return Pair(one.name, other.name, sides == ("L", "R"))


def side_of(label: Label) -> str:
    """'L' or 'R' by its SNOMED code or else its name, '' where neither says."""
    code = label.modifier.value if label.modifier else ""
    if code in (_SCT_LEFT, _SCT_RIGHT):
        return "L" if code == _SCT_LEFT else "R"
    left, right = bool(_LEFT.search(label.name)), bool(_RIGHT.search(label.name))
    return "" if left == right else "L" if left else "R"


def swapped_sides(rows: Sequence[CaseRow], mirrored: Sequence[Pair]) -> Findings:
    """Cases whose left label's centroid lies more than 5 mm to the right of the right label's (x of RAS).

    Where neither codes nor names tell the sides, the majority does: nine tenths of at least five
    cases that agree.
    """
    found: Findings = {}
    for pair in mirrored:
        distances = {row.id: distance for row in rows if (distance := _apart(row, pair)) is not None}
        usual = 1 if pair.known else _usual_side(list(distances.values()))
        for case, distance in distances.items():
            if usual and distance * usual < -_WRONG_SIDE:
                why = "of the patient" if pair.known else "than in the other cases"
                text = (
                    f"{pair.left!r} and {pair.right!r} look exchanged: their centroids lie "
                    f"{abs(distance):.0f} mm apart, on the other side {why}"
                )
                values = {"left": pair.left, "right": pair.right, "right_minus_left_mm": round(distance, 1)}
                found.setdefault(case, []).append(Finding("sides-swapped", Severity.WARNING, text, values))
    return found


def _apart(row: CaseRow, pair: Pair) -> float | None:
    """By how many mm the right label's centroid lies further to the patient's right."""
    centroids = {label.name: label.centroid for label in row.labels or ()}
    left, right = centroids.get(pair.left), centroids.get(pair.right)
    return None if left is None or right is None else right[0] - left[0]


def _usual_side(distances: Sequence[float]) -> int:
    clear = [distance for distance in distances if abs(distance) > _WRONG_SIDE]
    positive = sum(distance > 0 for distance in clear)
    if len(clear) < _SEVERAL:
        return 0
    most = _NEARLY_ALL * len(clear)
    return 1 if positive >= most else -1 if len(clear) - positive >= most else 0
