"""Where the cases of a data folder are: the layouts that medseg understands, tried one after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.core.case import Case
from medseg.core.errors import TaskError, UsageError
from medseg.core.task import DataSpec, Task, parse_task
from medseg.data.dataset import Dataset, refuse
from medseg.data.lists import find_by_list, is_list
from medseg.data.pairs import Found, pair_folders
from medseg.data.patterns import find_by_pattern

ACCEPTED = (
    "images/ + labels/ with matching names, imagesTr/ + labelsTr/ (Decathlon, nnU-Net), "
    "a CSV or JSON list with image and label, patterns with {case} (--images and --labels), "
    "or DICOM with SEG or RTSTRUCT beside the images"
)
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scans", "imagestr")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask", "segmentations", "annotations", "labelstr")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says about the data, in place of the task file.

    images, labels, group: as in the task's `data`; map: label name -> values in the files that mean
    it; undeclared: what all other values mean (refuse, background or ignore).
    """

    images: tuple[str, ...] = ()
    labels: str | None = None
    group: str | None = None
    map: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    undeclared: str | None = None


def apply_overrides(task: Task, overrides: Overrides) -> Task:
    """The task with these options in place of its own, checked again.

    Raises TaskError naming the option where a label is unknown or a value impossible.
    """
    raw = task.model_dump()
    for name, values in overrides.map.items():
        if name not in raw["labels"]:
            raise TaskError(f"--map {name}: the task has no such label; it has {', '.join(task.label_names)}")
        raw["labels"][name]["sources"] = list(values)
    if overrides.images:
        raw["data"]["images"] = list(overrides.images)
        raw["data"]["labels"] = overrides.labels
    elif overrides.labels is not None:
        raw["data"]["labels"] = overrides.labels
    if overrides.group is not None:
        raw["data"]["group"] = overrides.group
    if overrides.undeclared is not None:
        raw["undeclared"] = overrides.undeclared
    return parse_task(raw, "the options given")


def find_cases(task: Task, root: Path, overrides: Overrides | None = None) -> Dataset:
    """The labelled cases below `root` (a folder, or a list file), with what is wrong about their pairing.

    The task's own patterns are tried first where it has any; where none of their files exist, and
    they were not given in `overrides`, the layout is found out.
    Raises UsageError where nothing is recognised, DataError where no image has a label.
    """
    given = task if overrides is None else apply_overrides(task, overrides)
    strict = overrides is not None and bool(overrides.images)
    dataset = find_dataset(root, given.data, tuple(given.channels), strict, given)
    if dataset is None:
        raise UsageError(_nothing(root, given.data, strict))
    if not dataset.cases:
        raise refuse(f"{root}: no usable image with a label was found ({dataset.layout})", dataset.problems)
    return dataset


def find_dataset(
    root: Path, spec: DataSpec, channels: tuple[str, ...] = (), strict: bool = False, task: Task | None = None
) -> Dataset | None:
    """What `find_cases` finds, also without a task; None where the folder is laid out in no known way.

    channels: the names of the task's channels, () where not known; strict: patterns only; task: picks
    among the series and structures of a DICOM tree.
    Raises UsageError where `root` does not exist or is a file that is no list.
    """
    if not root.exists():
        raise UsageError(f"{root}: there is no such folder or list of cases")
    if root.is_file():
        found: Found | None = find_by_list(root, channels)
    else:
        found = _by_pattern(root, spec, channels)
        if found is None and not strict:
            found = _by_layout(root, channels)
            if found is None or not any(case.label for case in found.cases):
                found = _drawn(root, task) or found
            if found is not None and spec.images:
                note = f"the task's pattern {_patterns(spec)[0]!r} matches no file, so {found.layout} is used"
                found = replace(found, notes=(*found.notes, note))
    return None if found is None else _dataset(found, spec.group)


def declared_labels(root: Path) -> dict[str, tuple[int, ...]]:
    """The labels of a `dataset.json` below `root`, without the background: name -> values; {} without one.

    Reads Decathlon's {"1": "name"}, nnU-Net's {"name": 1} and its regions {"name": [1, 2]}.
    """
    raw = _dataset_json(root).get("labels")
    table: dict[str, tuple[int, ...]] = {}
    for key, value in raw.items() if isinstance(raw, dict) else ():
        name, values = (str(value), [key]) if str(key).isdigit() else (str(key), value)
        numbers = values if isinstance(values, list) else [values]
        if name.lower() not in ("background", "ignore") and all(str(number).isdigit() for number in numbers):
            table[name] = tuple(int(number) for number in numbers)
    return table


def declared_ignore(root: Path) -> int | None:
    """The value that a `dataset.json` below `root` calls "ignore" (as nnU-Net does); None without one."""
    raw = _dataset_json(root).get("labels")
    value = raw.get("ignore") if isinstance(raw, dict) else None
    return value if type(value) is int and value > 0 else None


def declared_channels(root: Path) -> tuple[str, ...]:
    """The channels (or modalities) of a `dataset.json` below `root`, in their order; () without one."""
    raw = _dataset_json(root)
    given = raw.get("channel_names", raw.get("modality"))
    if not isinstance(given, dict) or not all(str(key).isdigit() for key in given):
        return ()
    return tuple(str(given[key]) for key in sorted(given, key=int))


def _dataset_json(root: Path) -> dict[str, Any]:
    try:
        raw = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _patterns(spec: DataSpec) -> list[str]:
    return [spec.images] if isinstance(spec.images, str) else list(spec.images or [])


def _by_pattern(root: Path, spec: DataSpec, channels: tuple[str, ...]) -> Found | None:
    patterns = _patterns(spec)
    return find_by_pattern(root, patterns, spec.labels, len(channels) or None) if patterns else None


def _by_layout(root: Path, channels: tuple[str, ...]) -> Found | None:
    lists = [file for file in sorted(root.iterdir()) if file.suffix.lower() in (".csv", ".json") and is_list(file)]
    if len(lists) > 1:
        names = ", ".join(file.name for file in lists)
        raise UsageError(f"{root}: holds {len(lists)} lists of cases ({names}); name one of them with --data")
    if lists:
        return find_by_list(lists[0], channels)
    folders = {child.name.lower(): child for child in sorted(root.iterdir()) if child.is_dir()}
    images = next((folders[name] for name in _IMAGE_FOLDERS if name in folders), None)
    labels = next((folders[name] for name in _LABEL_FOLDERS if name in folders), None)
    if images is None or labels is None:
        return None
    kind = "Decathlon / nnU-Net" if images.name.lower() == "imagestr" else "folders"
    return pair_folders(images, labels, len(channels) or None, f"{kind}: {images.name}/ + {labels.name}/")


def _drawn(root: Path, task: Task | None) -> Found | None:
    from medseg.data.dicom_tree import find_drawn  # pydicom takes a while to load

    return find_drawn(root, task)


def _dataset(found: Found, expression: str | None) -> Dataset:
    cases, notes = _with_groups(found.cases, expression)
    labelled = tuple(case for case in cases if case.label is not None)
    bare = tuple(case for case in cases if case.label is None)
    if bare:
        plural = "s have" if len(bare) > 1 else " has"
        notes.append(f"{len(bare)} image{plural} no label and cannot be learned from: {_some(bare)}")
    problems = sorted(found.problems, key=lambda problem: (problem.case, problem.code))
    return Dataset(labelled, bare, tuple(problems), found.layout, (*found.notes, *notes))


def _some(cases: Sequence[Case]) -> str:
    return ", ".join(case.id for case in cases[:5]) + (" …" if len(cases) > 5 else "")


def _with_groups(cases: Sequence[Case], expression: str | None) -> tuple[list[Case], list[str]]:
    grouped: list[Case] = []
    strangers: list[Case] = []
    for case in sorted(cases, key=lambda case: case.id):
        group = case.group
        if expression is not None:
            match = re.search(expression, case.id)
            group = (match[1] if match else None) or group
            if not match:
                strangers.append(case)
        grouped.append(replace(case, group=group or case.id))
    if not strangers:
        return grouped, []
    note = f"the group pattern {expression!r} does not fit {len(strangers)} of the case names ({_some(strangers)}); "
    return grouped, [f"{note}each of them counts as a patient of its own"]


def _nothing(root: Path, spec: DataSpec, strict: bool) -> str:
    if strict:
        return f"{root}: no file matches the images pattern {_patterns(spec)[0]!r}"
    return f"{root}: no labelled cases were recognised; accepted are {ACCEPTED}"
