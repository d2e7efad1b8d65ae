"""Preprocessed cases on disk: memory-mapped arrays that a rerun finds again.

A case's folder holds image.npy (float32 [C, I, J, K]), label.npy (uint8 [I, J, K]), centers.npy
(int32 [n, 4]: label value, i, j, k) and meta.json with the key: a hash of the input files and of
everything that decides how they are read and preprocessed. Of tasks that tell objects apart there are
also instances.npy (int32 [I, J, K]) and classes.npy (uint8 [I, J, K]), and the image has one more
channel at its end: how much each voxel counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Case
from medseg.core.errors import MedsegError
from medseg.core.events import Listener, Progress, silent
from medseg.core.files import atomic_folder, write_json
from medseg.core.labels import IGNORE
from medseg.core.plan import Plan, to_plain
from medseg.core.task import Task
from medseg.data.drawn import is_drawn
from medseg.data.fingerprint import seeded
from medseg.data.labels import read_case, read_instances
from medseg.preprocess.grid import Trace, prepare, prepare_instances, prepare_labels
from medseg.preprocess.instances import instance_classes, touching_weights

VERSION = 1
_INSTANCES = 1  # of how classes and weights are made of objects
_CENTERS = 5000  # voxels a label
_CHUNK = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects of a prepared case, told apart; see `medseg.preprocess.instances`.

    ids: int32 [I, J, K], 1, 2, 3 … per object; classes: uint8 [I, J, K]; weighted: float32
    [C + 1, I, J, K], the image and how much each voxel counts.
    """

    ids: NDArray[np.int32]
    classes: NDArray[np.uint8]
    weighted: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedCase:
    """A case on the network's grid.

    image: float32 [C, I, J, K]; label: uint8 [I, J, K]; both memory-mapped, and what is written into
    them never reaches the disk (copy on write, since torch warns of read-only arrays); trace: the
    way back to the source grid; centers: label value -> up to 5000 of its voxels [n, 3], seeded;
    key: hash of the input files and of what decided how they became arrays; objects: what there is to
    learn beyond labels, None for tasks without instances.
    """

    id: str
    group: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    trace: Trace
    centers: Mapping[int, NDArray[np.int32]]
    key: str
    objects: Objects | None = None

    @property
    def target(self) -> NDArray[np.uint8]:
        """The classes [I, J, K] that a network learns: the labels, or interiors and borders."""
        return self.label if self.objects is None else self.objects.classes

    @property
    def sampled(self) -> NDArray[np.float32]:
        """What patches are cut from [C, I, J, K]: the image, and behind it, where there are weights, those."""
        return self.image if self.objects is None else self.objects.weighted


def prepare_cases(
    cases: Sequence[Case], task: Task, plan: Plan, folder: Path, listener: Listener = silent
) -> list[PreparedCase]:
    """The cases preprocessed as `plan` says, kept below `folder`, in the order given.

    Cases whose files, task and plan are as they were are taken from there; a case appears whole or
    not at all, so that a kill at any moment leaves nothing broken.
    Raises FormatError where a file cannot be used, PlanError or UsageError as `prepare` does.
    """
    prepared = []
    for done, case in enumerate(cases, start=1):
        place = folder / _folder_name(case.id)
        key = case_key(case, task, plan)
        found = _load(place, case, key, task.instances)
        if found is None:
            _write(place, case, task, plan, key)
            found = _load(place, case, key, task.instances)
        if found is None:
            raise MedsegError(f"{place}: was written but cannot be read back; is the disk full or damaged?")
        prepared.append(found)
        listener(Progress("preprocessing", done, len(cases)))
    return prepared


def case_key(case: Case, task: Task, plan: Plan) -> str:
    """Hash of the case's files and of what decides how they become arrays."""
    what = {
        "version": VERSION,
        "images": [[_file_hash(file) for file in source.files] for source in case.images],
        "label": [_file_hash(file) for file in case.label.files] if case.label else None,
        "ndim": plan.ndim,
        "spacing": to_plain(plan.spacing),
        "normalization": to_plain(plan.normalization),
        "channels": list(task.channels),
        "modality": task.modality,
        "labels": [[label.value, list(label.sources)] for label in task.label_table()],
        "ignore": task.ignore,
        "undeclared": task.undeclared,
    }
    if case.label is not None and is_drawn(case.label):
        what["names"] = [[label.name, *label.names] for label in task.label_table()]
    if task.instances:
        what["instances"] = _INSTANCES
    return sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _file_hash(file: Path) -> str:
    digest = blake2b(digest_size=16)
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _folder_name(case_id: str) -> str:
    """Readable, safe on every file system, and different for different ids."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", case_id)[:60].strip(".") or "case"
    return f"{readable}-{sha256(case_id.encode()).hexdigest()[:8]}"


def _write(place: Path, case: Case, task: Task, plan: Plan, key: str) -> None:
    scan, labelmap = read_case(case, task)
    prepared = prepare(scan.volume, plan)
    label = prepare_labels(labelmap, plan)
    image = prepared.array
    with atomic_folder(place) as temporary:
        if task.instances:
            ids = prepare_instances(read_instances(case, task, scan), plan)
            spacing = prepared.trace.prepared.spacing
            np.save(temporary / "instances.npy", ids)
            np.save(temporary / "classes.npy", instance_classes(ids, plan.ndim, spacing, label == IGNORE))
            image = np.concatenate([image, touching_weights(ids, plan.ndim, spacing)[np.newaxis]])
        np.save(temporary / "image.npy", image)
        np.save(temporary / "label.npy", label)
        np.save(temporary / "centers.npy", _centers(label, case.id))
        write_json(temporary / "meta.json", {"key": key, "case": case.id, "trace": prepared.trace.to_plain()})


def _centers(label: NDArray[np.uint8], case_id: str) -> NDArray[np.int32]:
    rng = seeded(case_id, "centers")
    flat = label.ravel()
    rows = [np.zeros((0, 4), dtype=np.int32)]
    for value in np.flatnonzero(np.bincount(flat, minlength=256)):
        if value in (0, IGNORE):
            continue
        voxels = np.flatnonzero(flat == value)
        if len(voxels) > _CENTERS:
            voxels = np.sort(rng.choice(voxels, _CENTERS, replace=False, shuffle=False))
        place = np.stack(np.unravel_index(voxels, label.shape), axis=1)
        rows.append(np.column_stack([np.full(len(place), value), place]).astype(np.int32))
    return np.concatenate(rows)


def _load(place: Path, case: Case, key: str, instances: bool) -> PreparedCase | None:
    """The stored case, or None where there is none, it is of another key, or a file of it is damaged."""
    try:
        meta: Any = json.loads((place / "meta.json").read_text(encoding="utf-8"))
        if meta["key"] != key:
            return None
        trace = Trace.from_plain(meta["trace"])
        image = np.load(place / "image.npy", mmap_mode="c", allow_pickle=False)
        label = np.load(place / "label.npy", mmap_mode="c", allow_pickle=False)
        centers = np.load(place / "centers.npy", allow_pickle=False)
        objects = _objects(place, image) if instances else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, MedsegError):
        return None
    shape = trace.prepared.shape
    if image.ndim != 4 or image.shape[1:] != shape or label.shape != shape or centers.shape[1:] != (4,):
        return None
    values = np.unique(centers[:, 0])
    table = {int(value): centers[centers[:, 0] == value, 1:] for value in values}
    if objects is not None:
        if {objects.ids.shape, objects.classes.shape} != {shape}:
            return None
        image = image[:-1]
    return PreparedCase(case.id, case.group, image, label, trace, table, key, objects)


def _objects(place: Path, image: NDArray[np.float32]) -> Objects:
    ids = np.load(place / "instances.npy", mmap_mode="c", allow_pickle=False)
    classes = np.load(place / "classes.npy", mmap_mode="c", allow_pickle=False)
    return Objects(ids, classes, image)
