"""Reading a case: its label map in the task's values, and its image with all channels on one grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import formats
from medseg.core.case import Case, Scan, Source
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE, Label
from medseg.core.task import Task
from medseg.core.volume import LabelMap, Volume
from medseg.data.drawn import is_drawn, read_drawn
from medseg.preprocess.channels import fit_channels

# Two grids are one where no corner is further off than this share of the smallest spacing, or than
# headers round, as long as that is not most of a microscope's voxel.
_SHARE = 0.05
_ROUNDING_MM, _MOST = 0.01, 0.2
_TABLE = 2**16


def read_case(case: Case, task: Task) -> tuple[Scan, LabelMap]:
    """Image and label map of a labelled case, the label map on the image's exact grid.

    A label map whose axes run otherwise over the same voxels is reordered; of pictures the size must
    agree and, where both state one, the spacing, which label pictures seldom repeat.
    Raises FormatError naming the file: unreadable, wrong channels, undeclared values, another grid.
    """
    scan = read_case_volume(case, task)
    labelmap = read_case_label(case, task)
    return scan, align_label(labelmap, _label_source(case), scan)


def read_case_label(case: Case, task: Task) -> LabelMap:
    """The label map of a case on its own grid: uint8, 0 background, the task's values, IGNORE (255).

    Structures drawn in DICOM (SEG, RTSTRUCT) become a label map on the grid of the case's first image.
    Raises FormatError: undeclared-label naming values that the task does not declare, missing-structure
    where a drawing holds none of its labels.
    """
    source = _label_source(case)
    if is_drawn(source):
        return read_drawn(source, case.images[0], task).labelmap
    return as_task_values(formats.read_labels(source), task, source)


def read_instances(case: Case, task: Task, scan: Scan) -> LabelMap:
    """Objects 1, 2, 3 … of a case on its scan's exact grid, int32; ignored voxels are 0.

    Every value but 0 and the task's `ignore` is one object. A map with a single such value, or one drawn in
    DICOM, is a mask: its connected pieces (voxels that touch by a corner are one) are the objects.
    Raises FormatError as `read_case` does.
    """
    source = _label_source(case)
    raw = read_drawn(source, case.images[0], task).labelmap if is_drawn(source) else formats.read_labels(source)
    return align_label(LabelMap(numbered(raw.array, task.ignore), raw.geometry), source, scan)


def numbered(raw: NDArray[Any], ignore: int | None) -> NDArray[np.int32]:
    """Objects 1, 2, 3 … in the order of the values of a label map, 0 elsewhere; see `read_instances`."""
    from scipy import ndimage

    background = (raw == 0) if ignore is None else (raw == 0) | (raw == ignore)
    values, ids = np.unique(raw[~background], return_inverse=True)
    if len(values) == 1:
        pieces: NDArray[np.int32] = ndimage.label(~background, structure=np.ones((3,) * raw.ndim), output=np.int32)[0]
        return pieces
    out = np.zeros(raw.shape, dtype=np.int32)
    out[~background] = ids + 1
    return out


def as_task_values(raw: LabelMap, task: Task, source: Source) -> LabelMap:
    """A label map as its file (`source`) has it -> the task's values. Raises FormatError as `map_values` does."""
    return LabelMap(map_values(raw.array, task, source.path), raw.geometry, task.label_table())


def read_case_volume(case: Case, task: Task) -> Scan:
    """The image of a case with as many channels as the task has: one scan file, or one per channel.

    All files must lie on one grid; colours become grey, or grey is repeated, as the task's channels
    ask. Raises FormatError naming the file.
    """
    if len(case.images) == 1:
        return fit_channels(formats.read(case.images[0], task.reading), task)
    if len(case.images) != len(task.channels):
        reason = f"its case has {len(case.images)} image files, but the task has {len(task.channels)} channels"
        raise FormatError(case.images[0].path, reason, "wrong-channels")
    first: Scan | None = None
    planes: list[NDArray[Any]] = []
    integral = True
    for source, channel in zip(case.images, task.channels, strict=True):
        scan = fit_channels(formats.read(source, task.reading), task.model_copy(update={"channels": [channel]}))
        first = first or scan
        array = scan.volume.array if scan is first else onto(scan.volume.array, scan.volume.geometry, first)
        if array is None:
            raise _mismatch(source, scan.volume.geometry, first)
        planes.append(array)
        integral = integral and scan.integral
    if first is None:
        raise FormatError(case.id, "the case has no image", "missing-file")
    return replace(first, volume=Volume(np.concatenate(planes), first.volume.geometry), integral=integral)


def align_label(labelmap: LabelMap, source: Source, scan: Scan) -> LabelMap:
    """The label map (read from `source`) on the scan's exact grid.

    Raises FormatError (code grid-mismatch) with the numbers of both grids.
    """
    array = onto(labelmap.array, labelmap.geometry, scan)
    if array is None:
        raise _mismatch(source, labelmap.geometry, scan)
    return LabelMap(array, scan.volume.geometry, labelmap.labels)


def map_values(raw: NDArray[Any], task: Task, path: Path) -> NDArray[np.uint8]:
    """Values of the user's file [I, J, K] -> the task's values (uint8), as `labels`, `ignore`, `undeclared` say.

    A file of 0 and 255 only counts as 0 and 1 for a task with one label of the source value 1.
    Raises FormatError (code undeclared-label) listing the values that mean nothing in this task.
    """
    labels = task.label_table()
    present = present_values(raw)
    meaning = {value: _meaning(value, labels, task) for value in present}
    if _is_binary_picture(present, labels, task):
        meaning[255] = labels[0].value
    strange = sorted(value for value, target in meaning.items() if target is None)
    if strange and task.undeclared == "refuse":
        raise FormatError(path, _undeclared(strange, labels), "undeclared-label")
    rest = IGNORE if task.undeclared == "ignore" else 0
    final = {value: rest if target is None else target for value, target in meaning.items()}
    return _translated(raw, final)


def present_values(array: NDArray[Any]) -> list[int]:
    """The different values of an integer array, sorted; quick and small where they are below 65536."""
    if array.size == 0:
        return []
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= _TABLE:
        return [int(value) for value in np.unique(array)]
    seen = np.zeros(high + 1, dtype=np.bool_)
    for slab in np.moveaxis(array, int(np.argmax(array.strides)), 0):  # as it lies in memory
        seen[slab] = True
    return [int(value) for value in np.flatnonzero(seen)]


def onto(array: NDArray[Any], geometry: Geometry, scan: Scan) -> NDArray[Any] | None:
    """`array` [..., I, J, K] on `geometry` as it lies on the scan's grid, or None where that is another grid.

    Only axes are reordered; nothing is resampled.
    """
    target = scan.volume.geometry
    if scan.source.format == "image" and geometry.shape == target.shape and _like_spacing(geometry, target):
        return array
    if _close(geometry, target):
        return array
    (axes, flips), (back, backflips) = geometry.to_canonical(), target.to_canonical()
    if not _close(geometry.reordered(axes, flips), target.reordered(back, backflips)):
        return None
    lead = array.ndim - 3
    canonical = array.transpose((*range(lead), *(lead + axis for axis in axes)))
    turned = [flip != backflip for flip, backflip in zip(flips, backflips, strict=True)]
    canonical = np.flip(canonical, tuple(lead + axis for axis, flip in enumerate(turned) if flip))
    order = [back.index(axis) for axis in range(3)]
    return np.ascontiguousarray(canonical.transpose((*range(lead), *(lead + axis for axis in order))))


def _like_spacing(one: Geometry, other: Geometry) -> bool:
    """Whether pictures of one size go together: both state one spacing, or one of them states none (1 everywhere)."""
    pixels = (1.0, 1.0, 1.0)
    alike = np.allclose(one.spacing, other.spacing, rtol=_SHARE, atol=0.0)
    return alike or one.spacing == pixels or other.spacing == pixels


def _close(one: Geometry, other: Geometry) -> bool:
    step = min(other.spacing)
    return one.same_grid(other, max(min(_ROUNDING_MM, _MOST * step), _SHARE * step))


def _mismatch(source: Source, geometry: Geometry, scan: Scan) -> FormatError:
    target = scan.volume.geometry
    if geometry.shape != target.shape:
        numbers = f"{_times(geometry.shape)} voxels against {_times(target.shape)}"
    elif not np.allclose(geometry.spacing, target.spacing, rtol=1e-3, atol=0.0):
        numbers = f"spacing {_times(geometry.spacing)} mm against {_times(target.spacing)} mm"
    else:
        numbers = f"corners lie up to {geometry.corner_distance(target):.3g} mm apart"
        if geometry.orientation != target.orientation:
            numbers += f", orientation {geometry.orientation} against {target.orientation}"
    reason = f"does not lie on the grid of {scan.source.path} ({numbers})"
    return FormatError(source.path, reason, "grid-mismatch")


def _label_source(case: Case) -> Source:
    if case.label is None:
        raise FormatError(case.images[0].path, "has no label map", "unlabelled")
    return case.label


def _meaning(value: int, labels: tuple[Label, ...], task: Task) -> int | None:
    if value == task.ignore:
        return IGNORE
    if value == 0:
        return 0
    return next((label.value for label in labels if not label.sources or value in label.sources), None)


def _is_binary_picture(present: list[int], labels: tuple[Label, ...], task: Task) -> bool:
    only_one = len(labels) == 1 and labels[0].sources == (1,) and task.ignore != 255
    return only_one and 255 in present and set(present) <= {0, 255}


def _undeclared(strange: list[int], labels: tuple[Label, ...]) -> str:
    listed = ", ".join(map(str, strange[:10])) + (" …" if len(strange) > 10 else "")
    known = ", ".join(f"{label.name} = {'/'.join(map(str, label.sources)) or 'any'}" for label in labels)
    plural = "s" if len(strange) > 1 else ""
    return (
        f"holds the undeclared label value{plural} {listed}; declared are 0 and {known} "
        "(add a label, map values to one, or set `undeclared: background` in the task)"
    )


def _translated(raw: NDArray[Any], meaning: dict[int, int]) -> NDArray[np.uint8]:
    if not meaning:
        return np.zeros(raw.shape, dtype=np.uint8)
    if min(meaning) < 0 or max(meaning) >= _TABLE:
        known = np.array(sorted(meaning))
        targets = np.array([meaning[int(value)] for value in known], dtype=np.uint8)
        looked_up: NDArray[np.uint8] = targets[np.searchsorted(known, raw)]
        return looked_up
    table = np.zeros(max(meaning) + 1, dtype=np.uint8)
    for value, target in meaning.items():
        table[value] = target
    translated: NDArray[np.uint8] = table[raw]
    return translated


def _times(values: tuple[float, ...]) -> str:
    return "×".join(f"{value:g}" for value in values)
