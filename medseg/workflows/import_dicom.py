"""DICOM with SEG or RTSTRUCT beside the images, turned into a folder that medseg trains with."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg.core.case import Case, Finding, Scan, Severity, Source
from medseg.core.errors import DataError, FormatError, UsageError
from medseg.core.events import Listener, Message, Progress, silent
from medseg.core.files import atomic_folder, write_json
from medseg.core.identifiers import Identifiers
from medseg.core.labels import IGNORE, Label
from medseg.core.reading import Reading
from medseg.core.task import Task
from medseg.core.volume import LabelMap, Volume
from medseg.data.dataset import Problem
from medseg.data.drawn import Drawn, all_labels, label_of, others_of, read_labels
from medseg.data.labels import align_label
from medseg.data.pairs import Found
from medseg.workflows.import_labels import ClassRow, Imported, LeftOut

_NAMED = 20  # problems that an error lists
_INT16 = np.iinfo(np.int16)
_SUFFIX = ".nii.gz"
# What findings of many cases have in common.
_WHY = {
    "off-slice": "was drawn in part on no slice of the image",
    "outside-image": "reaches beyond the image and was cut",
    "open-contour": "has points or open lines, which enclose nothing",
    "duplicate-contour": "has contours that are there twice",
    "missing-structure": "is not drawn and counts as absent",
    "overlap": "overlaps and was drawn over",
}


def import_dicom(source: Path, output: Path, task: Task | None, listener: Listener = silent) -> Imported:
    """Turn a folder tree of DICOM with SEG or RTSTRUCT objects into a data set of medseg.

    `output` gets images/ and labels/ (NIfTI on the images' grids) and a dataset.json that names the
    labels' values, the cases and their patients, as a hash. With a task its labels (see `names`)
    decide which structures become what, its modality which series count, and the values are those that
    it reads; without one every structure becomes a label, sorted by name. Cases that cannot be used
    are left out and told. Neither names of files nor of patients get into the data set.
    Raises UsageError where there are no such objects or `output` is in use, DataError where no case can
    be used.
    """
    found = _find(source, output, task)
    labelled = [case for case in found.cases if case.label is not None]
    labels = task.label_table() if task else all_labels([case.label for case in labelled if case.label])
    scans = [scan for case in labelled for scan in (*case.images, case.label) if scan]
    run = _Run(task, labels, Identifiers.among(scans))
    for problem in found.problems:
        run.leave_out(problem)
    with atomic_folder(output) as temporary:
        for kind in ("images", "labels"):
            (temporary / kind).mkdir()
        for done, case in enumerate(labelled, start=1):
            run.add(case, temporary)
            listener(Progress("importing", done, len(labelled)))
        if not run.rows:
            raise DataError(f"{source}: no image with drawn structures can be used:", run.problems[:_NAMED])
        result = run.result(output)
        _write_json(temporary, output.resolve().name, run, result)
    for text in [*found.notes, *run.warnings()]:
        listener(Message(text, "warning"))
    return result


def _find(source: Path, output: Path, task: Task | None) -> Found:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: is not an empty folder; choose another one for the data set")
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder")
    from medseg.data.dicom_tree import find_drawn

    found = find_drawn(source, task)
    if found is None:
        raise UsageError(f"{source}: holds no DICOM SEG or RTSTRUCT")
    return found


@dataclass(slots=True)
class _Run:
    """What an import has seen so far; `patients` keeps their names out of sentences about files."""

    task: Task | None
    labels: tuple[Label, ...]
    patients: Identifiers
    rows: list[dict[str, str]] = field(default_factory=list)
    modalities: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    empty: int = 0
    _cases_of: Counter[str] = field(default_factory=Counter)
    _voxels_of: Counter[str] = field(default_factory=Counter)
    _left_out: dict[tuple[str, str], LeftOut] = field(default_factory=dict)

    def add(self, case: Case, folder: Path) -> None:
        """Write one case; whatever is wrong with it is told, not raised."""
        if case.label is None:
            return
        image, label = case.images[0], case.label
        policy = self.task.reading if self.task else Reading()
        try:
            scan = formats.read(image, policy)
            drawn = read_labels(label, image, self.labels, policy, others_of(self.task) if self.task else 0)
            paths = _write(case.id, scan, align_label(self._as_stored(drawn), label, scan), folder)
        except FormatError as error:
            self.leave_out(Problem.of(case.id, error))
            return
        self.rows.append({"id": case.id, "image": paths[0], "label": paths[1], "group": case.group})
        self.modalities[scan.modality or "unknown"] += 1
        self._count(label, drawn)
        for finding in drawn.findings:
            # Without a task the labels are those of all cases together, and few cases have them all.
            if self.task is not None or finding.code != "missing-structure":
                self._tell(case.id, finding)

    def leave_out(self, problem: Problem) -> None:
        """What keeps a case, or a drawing, out of the data set."""
        message = self.patients.mask(problem.message)
        self.problems.append(f"{problem.case}: {message}")
        row = LeftOut(1, problem.severity, problem.code, message, problem.case)
        self._left_out[problem.code, f"{problem.case} {message}"] = row

    def values(self) -> dict[str, int]:
        """The value of each label in the files, as a task with these labels reads it."""
        return {label.name: label.sources[0] if label.sources else label.value for label in self.labels}

    def ignored(self) -> int | None:
        """The value of voxels that neither train nor score, None where there are none."""
        if self.task is None or not others_of(self.task):
            return None
        if self.task.ignore is not None:
            return self.task.ignore
        # Any value that no label has is ignored by this task; 255 alone could be taken for a black-and-white mask.
        used = {value for label in self.labels for value in (label.value, *label.sources)}
        return next(value for value in range(IGNORE - 1, 0, -1) if value not in used)

    def result(self, folder: Path) -> Imported:
        rows = tuple(self._class_row(name) for name in sorted(self._cases_of))
        kept = tuple(self._left_out.values())
        return Imported(folder, "dicom", len(self.rows), rows, kept, _next(folder, self.task, self.empty))

    def warnings(self) -> list[str]:
        lines = [
            f"{row.why} ({row.count}x, first in {row.first})"
            for row in self._left_out.values()
            if row.severity is not Severity.INFO
        ]
        if len(self.modalities) > 1:
            listed = ", ".join(f"{count} {modality}" for modality, count in sorted(self.modalities.items()))
            lines.append(f"the images are of several modalities ({listed}); a task picks the series of one")
        return lines

    def _as_stored(self, drawn: Drawn) -> LabelMap:
        """The label map with the values that files have."""
        table = np.zeros(IGNORE + 1, dtype=np.int32)
        for label, value in zip(self.labels, self.values().values(), strict=True):
            table[label.value] = value
        table[IGNORE] = self.ignored() or 0
        given = drawn.labelmap
        self.empty += not ((given.array != 0) & (given.array != IGNORE)).any()
        return LabelMap(table[given.array], given.geometry, given.labels)

    def _count(self, label: Source, drawn: Drawn) -> None:
        from medseg.formats.structures import structure_names

        self._cases_of.update(structure_names(label))
        self._voxels_of.update(drawn.voxels)

    def _class_row(self, name: str) -> ClassRow:
        label, cases = label_of(name, self.labels), self._cases_of[name]
        if label is None:
            ignored = self.ignored()
            means, value = ("background", 0) if ignored is None else ("ignore", ignored)
        else:
            means, value = label.name, self.values()[label.name]
        return ClassRow(name, means, value, cases, cases, self._voxels_of[name])

    def _tell(self, case: str, finding: Finding) -> None:
        of = finding.values.get("structure", finding.values.get("label"))
        named = repr(of) if of else " and ".join(map(repr, finding.values.get("labels", ())))
        why = self.patients.mask(f"{named} {_WHY[finding.code]}" if finding.code in _WHY else finding.message)
        row = self._left_out.get((finding.code, why), LeftOut(0, finding.severity, finding.code, why, case))
        self._left_out[finding.code, why] = replace(row, count=row.count + 1)


def _write(case: str, scan: Scan, labelmap: LabelMap, folder: Path) -> tuple[str, str]:
    """Write image and label map; returns their paths below `folder`. Whole numbers (CT) are kept as such."""
    image, label = f"images/{case}{_SUFFIX}", f"labels/{case}{_SUFFIX}"
    array = scan.volume.array
    if scan.integral and array.min() >= _INT16.min and array.max() <= _INT16.max:
        array = array.astype(np.int16)
    formats.write_volume(Volume(array, scan.volume.geometry), folder / image)
    formats.write_labelmap(labelmap, scan.source, folder / "labels" / case)
    return image, label


def _next(folder: Path, task: Task | None, empty: int) -> tuple[str, ...]:
    data, skip = shlex.quote(str(folder)), " --skip-broken" if empty else ""
    if task is None:
        return (f"medseg init {data}", f"medseg train --task {shlex.quote(str(folder / 'task.yaml'))} -o run{skip}")
    return (f"medseg train --task TASK --data {data} -o run{skip}",)


def _write_json(folder: Path, name: str, run: _Run, result: Imported) -> None:
    """dataset.json, which is a list of cases with their patients and names the labels' values, and import.json."""
    labels = {"background": 0, **run.values()}
    ignored = run.ignored()
    if ignored is not None:
        labels["ignore"] = ignored
    about: dict[str, Any] = {"name": name, "labels": labels, "numTraining": len(run.rows)}
    if len(run.modalities) == 1:
        about["channel_names"] = {"0": next(iter(run.modalities))}
    write_json(folder / "dataset.json", {**about, "cases": sorted(run.rows, key=lambda row: row["id"])})
    told = {key: value for key, value in result.plain().items() if key not in ("folder", "next")}
    write_json(folder / "import.json", told)
