"""A task file for one's own data: everything that can be found out is filled in, and every key is explained."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg.core.case import Case, Scan
from medseg.core.errors import FormatError, UsageError
from medseg.core.events import Listener, Progress, silent
from medseg.core.files import write_text
from medseg.core.task import COLOURS, DataSpec, parse_task
from medseg.data.dataset import Dataset
from medseg.data.drawn import all_labels, is_drawn
from medseg.data.guess import guess_group, guess_patterns
from medseg.data.labels import present_values
from medseg.data.layouts import ACCEPTED, declared_channels, declared_ignore, declared_labels, find_dataset

_LOOKED_AT = 20  # images, to tell modality, channels and dimensions
_MANY_INSTANCES = 8
_MOST_LABELS = 254
_AIR = -500.0  # HU; nothing but CT goes below
_PET_NAME = re.compile(r"(?:^|[^a-z])(?:pet|pt|suv)(?:[^a-z]|$)", re.IGNORECASE)
_NAMED_MODALITIES = {"ct": "CT", "pet": "PT", "pt": "PT", **dict.fromkeys(("mr", "mri", "t1", "t2", "flair"), "MR")}
_YAML_WORDS = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")


@dataclass(frozen=True, slots=True)
class _Images:
    """What the images are like."""

    modality: str
    why: str
    dimensions: int
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Labels:
    """The task's labels as YAML values (name -> value, list or 'nonzero') and how they were found out."""

    labels: Mapping[str, Any]
    why: str
    ignore: int | None = None


def init(folder: Path | str, output: Path | str | None = None, listener: Listener = silent) -> Path:
    """Write `folder`/task.yaml (or `output`) for the images and label maps in `folder`; returns its path.

    Guessed are layout, modality, dimensions, channels, labels with the values in the files, and the
    patients from the cases' names; the file can be trained with as it is and says what to check.
    Raises UsageError where the file exists or no images with label maps are found.
    """
    root = Path(folder)
    path = root / "task.yaml" if output is None else Path(output)
    if path.exists():
        raise UsageError(f"{path}: exists already; edit it, or remove it first")
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such folder")
    dataset, patterns = _dataset(root)
    images = _images(root, dataset, listener)
    labels = _drawn_labels(dataset.cases, images.modality) or _labels(root, dataset.cases, images.dimensions, listener)
    if images.modality == "photo" and labels.labels == {"object": "nonzero"}:
        images = _Images("microscopy", "pictures with instance maps", images.dimensions, images.channels)
    text = _text(_name(root), _place(root, path), dataset, patterns, images, labels)
    _check(text, path)
    write_text(path, text)
    return path


def _dataset(root: Path) -> tuple[Dataset, tuple[str, str] | None]:
    dataset = find_dataset(root, DataSpec())
    known = 0 if dataset is None else len(dataset.cases)
    drawn = dataset is not None and any(case.label and is_drawn(case.label) for case in dataset.cases)
    if dataset is not None and known and not drawn:
        return dataset, None
    patterns = guess_patterns(root)
    if patterns is not None:
        guessed = find_dataset(root, DataSpec(images=patterns[0], labels=patterns[1]), strict=True)
        # A few drawings in DICOM may lie in a folder of label maps.
        if guessed is not None and len(guessed.cases) > known:
            return guessed, patterns
    if dataset is not None and known:
        return dataset, None
    raise UsageError(f"{root}: no images with label maps were recognised; accepted are {ACCEPTED}")


# ---- looking at the files -------------------------------------------------------------------


def _images(root: Path, dataset: Dataset, listener: Listener) -> _Images:
    cases = dataset.cases
    chosen = [cases[int(place)] for place in np.linspace(0, len(cases) - 1, min(_LOOKED_AT, len(cases)))]
    scans: list[Scan] = []
    for done, case in enumerate(chosen, start=1):
        try:
            scans.append(formats.read(case.images[0]))
        except FormatError:
            continue  # training will name it; a guess does without
        finally:
            listener(Progress("looking at the images", done, len(chosen)))
    if not scans:
        raise UsageError(f"{root}: none of its images can be read; see `medseg inspect {root}`")
    flat = all(min(scan.volume.geometry.shape) == 1 for scan in scans)
    files = max(len(case.images) for case in cases)
    channels = _channel_names(root, scans, files)
    modality, why = _modality(root, scans, len(channels), cases[0])
    return _Images(modality, why, 2 if flat else 3, channels)


def _channel_names(root: Path, scans: Sequence[Scan], files: int) -> tuple[str, ...]:
    declared = declared_channels(root)
    count = files if files > 1 else max(scan.volume.channels for scan in scans)
    if len(declared) == count and len(set(declared)) == count:
        return declared
    if files > 1:
        return tuple(f"channel {number}" for number in range(1, files + 1))
    if count == 1 or not any(_is_coloured(scan) for scan in scans):
        return ("grey",) if scans[0].source.format == "image" else ("image",)
    return COLOURS if count == 3 else tuple(f"channel {number}" for number in range(1, count + 1))


def _is_coloured(scan: Scan) -> bool:
    array = scan.volume.array
    return any(not np.array_equal(array[0], channel) for channel in array[1:])


def _modality(root: Path, scans: Sequence[Scan], channels: int, case: Case) -> tuple[str, str]:
    stored = {scan.modality for scan in scans} & {"CT", "MR", "PT"}
    if len(stored) == 1:
        return str(stored.pop()), "as the DICOM files say"
    declared = {_NAMED_MODALITIES.get(name.lower()) for name in declared_channels(root)} - {None}
    if len(declared) == 1:
        return str(declared.pop()), "as dataset.json says"
    if all(scan.source.format == "image" for scan in scans):
        return ("photo", "guessed: colour pictures") if channels > 1 else ("microscopy", "guessed: grey pictures")
    if min(float(scan.volume.array.min()) for scan in scans) < _AIR:
        return "CT", f"guessed: there are values below {_AIR:.0f}"
    if _PET_NAME.search(case.images[0].path.relative_to(root).as_posix()):
        return "PT", "guessed from the files' names"
    return "MR", "guessed: volumes whose values are not CT's"


def _drawn_labels(cases: Sequence[Case], modality: str) -> _Labels | None:
    """Every structure that is drawn on images of the modality; None where the labels are label maps."""
    drawn = [case.label for case in cases if case.label and is_drawn(case.label)]
    if len(drawn) < len(cases):
        return None
    same = [case.label for case in cases if case.label and case.images[0].modality == modality]
    # With their names, so that a label may be renamed.
    labels = {
        label.name: {"value": label.value, "names": list(label.names) or [re.escape(label.name)]}
        for label in all_labels(same or drawn)
    }
    return _Labels(labels, "Structures drawn in DICOM; `names` are regular expressions for theirs")


def _labels(root: Path, cases: Sequence[Case], dimensions: int, listener: Listener) -> _Labels:
    values: list[list[int]] = []
    ignore = declared_ignore(root)
    for done, case in enumerate(cases, start=1):
        try:
            present = present_values(formats.read_labels(case.label).array) if case.label else []
            values.append([value for value in present if value != ignore])
        except FormatError:
            continue  # training will name it
        finally:
            listener(Progress("looking at the label maps", done, len(cases)))
    return replace(_named_labels(root, values, dimensions), ignore=ignore)


def _named_labels(root: Path, values: Sequence[Sequence[int]], dimensions: int) -> _Labels:
    found = sorted({value for one in values for value in one if value > 0})
    if not found:
        raise UsageError(f"{root}: its label maps hold no label, only background; see `medseg inspect {root}`")
    declared = {name: given for name, given in declared_labels(root).items() if set(given) & set(found)}
    if declared and {value for given in declared.values() for value in given} >= set(found):
        return _declared(declared)
    if _are_instances(values, dimensions) or len(found) > _MOST_LABELS:
        return _Labels({"object": "nonzero"}, f"Instance maps (up to {found[-1]} objects a picture): all are one label")
    if found == [255]:
        return _Labels({"foreground": 1}, "The files hold 0 and 255, which count as 0 and 1")
    if found == [1]:
        return _Labels({"foreground": 1}, "The files hold 0 and 1")
    short = found == list(range(1, len(found) + 1))
    labels = {f"label_{value}": value if short else [value] for value in found}
    return _Labels(labels, f"The files hold the values {', '.join(map(str, found[:20]))}")


def _declared(declared: Mapping[str, tuple[int, ...]]) -> _Labels:
    """The labels of dataset.json; regions that share values cannot be told apart by one label map."""
    ordered = dict(sorted(declared.items(), key=lambda item: item[1]))
    values = [value for given in ordered.values() for value in given]
    if len(values) != len(set(values)):
        single = sorted(set(values))
        return _Labels(
            {f"label_{value}": [value] for value in single}, "Regions of dataset.json overlap: one per value"
        )
    if values == list(range(1, len(ordered) + 1)):
        return _Labels({name: given[0] for name, given in ordered.items()}, "As dataset.json says")
    return _Labels({name: list(given) for name, given in ordered.items()}, "As dataset.json says")


def _are_instances(values: Sequence[Sequence[int]], dimensions: int) -> bool:
    """Whether the maps count objects: 1 … n without gaps and n differs between them, or very many values."""
    tops = [one[-1] for one in values if one and one[-1] > 0]
    counted = [one[-1] == sum(value > 0 for value in one) for one in values if one and one[-1] > 0]
    most = _MANY_INSTANCES if dimensions == 2 else 4 * _MANY_INSTANCES
    mostly = sum(counted) >= 0.8 * len(counted)
    return bool(tops) and max(tops) > most and len(set(tops)) > 1 and mostly


# ---- writing it down ------------------------------------------------------------------------


def _name(root: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", root.resolve().name).strip("_.-") or "my_task"


def _place(root: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(root.resolve(), path.resolve().parent)).as_posix()
    except ValueError:  # another drive on Windows
        return root.resolve().as_posix()


def _text(
    name: str, place: str, dataset: Dataset, patterns: tuple[str, str] | None, images: _Images, labels: _Labels
) -> str:
    group = guess_group([case.id for case in dataset.cases])
    groups = len({re.sub(group, r"\1", case.id) for case in dataset.cases}) if group else len(dataset.cases)
    lines = [
        f"# A task for medseg, written by `medseg init` from {len(dataset.cases)} labelled cases ({dataset.layout}).",
        "# Look through it, rename the labels, then: medseg train --task THIS_FILE",
        "# docs/tasks.md explains every key.",
        f"name: {_quoted(name)}",
        'description: ""  # one line for people',
        "",
        f"modality: {images.modality}  # {images.why}; one of CT, MR, PT (PET), microscopy, photo, other",
        f"dimensions: {images.dimensions}  # 2: pictures, or volumes slice by slice; 3: volumes",
        f"channels: [{', '.join(map(_quoted, images.channels))}]  # names; one channel turns colour pictures into grey",
        "",
        f"# {labels.why}. Write `name: value`, or `name: [values]` to merge",
        "# several values, or `name: nonzero` for a single label that every value but 0 belongs to.",
        "labels:",
        *(f"  {_quoted(label)}: {_label(value)}" for label, value in labels.labels.items()),
        f"{'# ' if labels.ignore is None else ''}ignore: {labels.ignore or 255}"
        "  # a value of voxels that neither train nor score",
        "undeclared: refuse  # what a value without a label means: refuse, background or ignore",
        "",
        "data:",
        f"  root: {_quoted(place)}  # relative to this file",
    ]
    if patterns is None:
        lines.append('  # images: "{case}_image.nii.gz"  # patterns, where files are named otherwise')
        lines.append('  # labels: "{case}_mask.nii.gz"')
    else:
        lines += [f"  images: {_quoted(patterns[0])}", f"  labels: {_quoted(patterns[1])}"]
    if group is None:
        lines.append(r"  # group: '^(patient\d+)'  # finds the patient in a case's name, where one has several cases")
    else:
        lines.append(f"  group: '{group}'  # guessed: {groups} patients; cases of one are never split up")
    lines += [
        "",
        "split:",
        "  folds: 5  # patient-grouped folds; the first one validates",
        "  seed: 0",
        "",
        "# postprocess:",
        f"#   keep_largest: [{_quoted(next(iter(labels.labels)))}]  # of these only the largest connected piece stays",
        "# limits:",
        "#   max_spacing: 10  # mm; scans with thicker slices are refused",
        "# time_budget: 10m  # of training, where neither --time-budget nor --steps is given",
        "",
    ]
    return "\n".join(lines)


def _label(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _quoted(text: str) -> str:
    """`text` as YAML; in quotes where YAML could take it for something else."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _check(text: str, path: Path) -> None:
    """Raise TaskError where the file would not load: a wrong guess must not surprise at the first training."""
    import yaml

    parse_task(yaml.safe_load(text), str(path))
