"""What is wrong with the cases, all of it told at once, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg import formats
from medseg.core.case import Case, Scan, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.events import Listener, Progress, silent
from medseg.core.geometry import Triple
from medseg.core.labels import IGNORE
from medseg.core.task import Task
from medseg.core.volume import LabelMap
from medseg.data.dataset import Problem
from medseg.data.drawn import examine_drawing, is_drawn
from medseg.data.labels import align_label, as_task_values, read_case_volume

_DICOM_MODALITIES = ("CT", "MR", "PT")


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """What reading a case gave: its scan, its label map as stored and in the task's values, its problems."""

    scan: Scan | None
    raw: LabelMap | None
    labelmap: LabelMap | None
    problems: list[Problem]


def check_cases(cases: Sequence[Case], task: Task, listener: Listener = silent) -> list[Problem]:
    """Every problem inside the files of these cases, each naming its file; one case in memory at a time.

    Found are unreadable files, wrong channels, modalities and dimensions, label maps on another
    grid, with undeclared values or without any label, and picture stacks of which some state their
    spacing and others do not.
    """
    problems: list[Problem] = []
    stacks: dict[str, tuple[Path, Triple]] = {}
    for done, case in enumerate(cases, start=1):
        seen = examine(case, task)
        problems += [*seen.problems, *_warnings(case, seen.scan)]
        if seen.scan is not None and seen.scan.source.format == "image" and seen.scan.volume.geometry.shape[2] > 1:
            stacks[case.id] = (seen.scan.source.path, seen.scan.volume.geometry.spacing)
        del seen  # one case in memory at a time
        listener(Progress("checking the cases", done, len(cases)))
    return problems + mixed_scales(stacks)


def _warnings(case: Case, scan: Scan | None) -> list[Problem]:
    """What the reader warned of: a repaired series, a guessed orientation …"""
    findings = () if scan is None else scan.findings
    return [Problem.found(case.id, case.images[0].path, f) for f in findings if f.severity is Severity.WARNING]


def examine(case: Case, task: Task | None) -> Examined:
    """Read a case and tell its problems; without a task the label's values are taken as they are.

    Image and label map are both looked at even where one is broken.
    """
    problems: list[Problem] = []
    scan, raw, labelmap = None, None, None
    try:
        scan = formats.read(case.images[0]) if task is None else read_case_volume(case, task)
    except FormatError as error:
        problems.append(Problem.of(case.id, error))
    if scan is not None and task is not None:
        problems += _image_problems(case, scan, task)
    if case.label is not None:
        raw, labelmap = _labels(case, case.label, task, problems)
    if scan is not None and raw is not None and case.label is not None:
        try:
            align_label(raw, case.label, scan)
        except FormatError as error:
            problems.append(Problem.of(case.id, error))
    return Examined(scan, raw, labelmap, problems)


def mixed_scales(stacks: Mapping[str, tuple[Path, Triple]]) -> list[Problem]:
    """Stacks that state no spacing beside others that do: resampled to one spacing they would be of no use."""
    unknown = {case: path for case, (path, spacing) in stacks.items() if spacing == (1.0, 1.0, 1.0)}
    if len(unknown) == len(stacks):
        return []
    text = "states no spacing (ImageJ or OME), but other stacks of these cases do; write it into the file"
    return [Problem(case, "unknown-spacing", f"{path}: {text}") for case, path in unknown.items()]


def _labels(
    case: Case, source: Source, task: Task | None, problems: list[Problem]
) -> tuple[LabelMap | None, LabelMap | None]:
    """The label map as the file has it and in the task's values; None where it cannot be had."""
    raw, mapped = None, None
    try:
        if is_drawn(source):
            drawn = examine_drawing(source, case.images[0], task)
            raw = mapped = drawn.labelmap
            problems += [Problem.found(case.id, source.path, finding) for finding in drawn.findings]
        else:
            raw = formats.read_labels(source)
            mapped = raw if task is None else as_task_values(raw, task, source)
    except FormatError as error:
        problems.append(Problem.of(case.id, error))
    if mapped is not None and not ((mapped.array != 0) & (mapped.array != IGNORE)).any():
        problems.append(Problem(case.id, "empty-label", f"{source.path}: holds no label, only background"))
    return raw, mapped


def _image_problems(case: Case, scan: Scan, task: Task) -> list[Problem]:
    problems = []
    path = scan.source.path
    if scan.modality in _DICOM_MODALITIES and task.modality in _DICOM_MODALITIES and scan.modality != task.modality:
        text = f"{path}: is a {scan.modality} scan, but the task is for {task.modality}"
        problems.append(Problem(case.id, "wrong-modality", text))
    if task.dimensions == 3 and min(scan.volume.geometry.shape) == 1:
        text = f"{path}: is a single slice, but the task is 3D (set `dimensions: 2` in the task)"
        problems.append(Problem(case.id, "wrong-dimensions", text))
    return problems
