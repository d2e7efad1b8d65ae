"""What would make a score too good: copies of a scan, and one patient on both sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from medseg.core.case import Finding, Severity
from medseg.data.guess import guess_group
from medseg.data.inspection import CaseRow, Findings
from medseg.data.splits import split_lists

Parts = Mapping[str, tuple[str, ...]]  # case id -> the parts (train, validation, test) that name it

_SMALLEST_LABEL = 64  # voxels of a label map that two cases cannot share by chance


def read_parts(path: Path) -> Parts:
    """Where a split file puts every case that it names; a case in two lists has both.

    Raises UsageError where the file is none; what is wrong with its cases, `same_patient` tells.
    """
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for name, ids in split_lists(path).items():
        for case in dict.fromkeys(ids):
            parts[case].append(name)
    return {case: tuple(names) for case, names in parts.items()}


def duplicate_content(rows: Sequence[CaseRow]) -> Findings:
    """A warning for every scan whose voxel values another has too; scans without contrast do not count."""
    same: defaultdict[str, list[CaseRow]] = defaultdict(list)
    for row in rows:
        if row.content is not None and row.intensity is not None and row.intensity[0] != row.intensity[1]:
            same[row.content].append(row)
    found: Findings = {}
    for several in same.values():
        for row in several if len(several) > 1 else ():
            others = [other.id for other in several if other is not row]
            text = f"holds the same voxel values as {_some(others)}"
            parts = sorted({part for one in several for part in one.parts})
            if len(parts) > 1:
                text += f", on both sides of the split ({' and '.join(parts)})"
            values = {"cases": others, **({"parts": parts} if len(parts) > 1 else {})}
            found[row.id] = [Finding("duplicate-content", Severity.WARNING, text, values)]
    return found


def duplicate_labels(labels: Mapping[str, str], rows: Sequence[CaseRow]) -> Findings:
    """An info for cases of different patients and images that share a label map; `labels`: case -> its hash.

    No warning, since atlases and phantoms have it so; label maps of fewer than 64 labelled voxels may well be alike.
    """
    same: defaultdict[str, list[CaseRow]] = defaultdict(list)
    for row in rows:
        if row.id in labels and sum(label.voxels for label in row.labels or ()) >= _SMALLEST_LABEL:
            same[labels[row.id]].append(row)
    found: Findings = {}
    for several in same.values():
        for row in several:
            others = [o.id for o in several if o.group != row.group and o.content != row.content]
            if others:
                text = f"its label map is the very same as that of {_some(others)}, whose image is another"
                found[row.id] = [Finding("duplicate-label", Severity.INFO, text, {"cases": others})]
    return found


def same_patient(rows: Sequence[CaseRow], patients: Mapping[str, bytes], parts: Parts | None) -> Findings:
    """Patients on both sides of a split, and cases that are in two of its lists.

    patients: case -> who it is, as the DICOM header says, hashed. With `parts` a patient (by group or by
    header) must be in one part; without, the task's folds keep groups together, so that a patient must
    be in one group. Nobody is named: the cases are.
    """
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for row in rows:
        if len(row.parts) > 1:
            text = f"the split names it in {' and '.join(row.parts)}"
            found[row.id].append(_finding(text, [row.id], row.parts))
    by_group = _several((row.group, row) for row in rows if row.group)
    by_header = _several((patients[row.id], row) for row in rows if row.id in patients)
    for how, several in [("by its group", group) for group in by_group] + [
        ("by the DICOM headers", patient) for patient in by_header
    ]:
        problem = _cut_through(several, how) if parts is not None else _two_groups(several, how)
        for row in several if problem is not None else ():
            if problem is not None and not any(f.values["cases"] == problem.values["cases"] for f in found[row.id]):
                found[row.id].append(problem)
    return dict(found)


def unknown_cases(rows: Sequence[CaseRow], parts: Parts) -> list[Finding]:
    """Cases that a split names and that are not there, or have no label."""
    there = {row.id for row in rows if row.label is not None}
    return [
        Finding("unknown-case", Severity.WARNING, f"the split names {case!r} in {' and '.join(names)}, "
                "but there is no such labelled case", {"case": case, "parts": list(names)})
        for case, names in sorted(parts.items())
        if case not in there
    ]  # fmt: skip


def patients_by_name(rows: Sequence[CaseRow]) -> list[Finding]:
    """An info where every case is its own patient though the names look otherwise (p01_left, p01_right)."""
    labelled = [row for row in rows if row.label is not None]
    if any(row.group != row.id for row in labelled):
        return []
    expression = guess_group([row.id for row in labelled])
    if expression is None:
        return []
    text = (
        f"the names look like several cases a patient; if so, set `group: '{expression}'` under data in the task, "
        "so that no patient is on both sides of a split"
    )
    return [Finding("patients-by-name", Severity.INFO, text, {"group": expression})]


def _several(pairs: Iterable[tuple[Hashable, CaseRow]]) -> list[list[CaseRow]]:
    """The rows of one key each, where there are two or more."""
    same: defaultdict[Hashable, list[CaseRow]] = defaultdict(list)
    for key, row in pairs:
        same[key].append(row)
    return [rows for rows in same.values() if len(rows) > 1]


def _cut_through(rows: Sequence[CaseRow], how: str) -> Finding | None:
    parts = sorted({part for row in rows for part in row.parts})
    if len(parts) < 2:
        return None
    ids = [row.id for row in rows if row.parts]
    return _finding(f"its patient ({how}) is in {' and '.join(parts)}: {_some(ids)}", ids, parts)


def _two_groups(rows: Sequence[CaseRow], how: str) -> Finding | None:
    groups = {row.group for row in rows if row.label is not None}
    if len(groups) < 2:
        return None
    ids = [row.id for row in rows if row.label is not None]
    text = (
        f"is of one patient ({how}) with {_some(ids)}, but counts as a patient of its own: "
        "folds can put them on both sides; set `group` under data in the task"
    )
    return _finding(text, ids, ())


def _finding(text: str, cases: Sequence[str], parts: Sequence[str]) -> Finding:
    return Finding("same-patient", Severity.WARNING, text, {"cases": list(cases), "parts": list(parts)})


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
