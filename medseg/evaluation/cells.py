"""Objects that are told apart, one by one: what is measured of each, and colours in which neighbours differ."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Prediction, Scan
from medseg.core.labels import Label, default_color
from medseg.core.volume import LabelMap

_SHOWN = 6  # significant digits
_MICROMETRES = 1000.0  # in a millimetre
_SPREAD = 4  # colours that objects take in turn, neighbours or not, so that they differ at a glance


def cell_table(prediction: Prediction) -> str:
    """One CSV row per object: scan, id, label, size, centroid, mean of every channel; of pictures also the shape.

    Sizes are in pixels (voxels of stacks), and in µm² (µm³) where the file states its spacing. Area,
    centroid, perimeter, eccentricity and mean are scikit-image's (`regionprops_table`). Raises
    ValueError for a prediction whose objects were not told apart.
    """
    if prediction.instances is None:
        raise ValueError("this prediction holds labels and no objects")
    scan, ids = prediction.scan, prediction.instances
    flat = ids.shape[2] == 1
    columns = _measured(ids[..., 0] if flat else ids, np.moveaxis(scan.volume.array, 0, -1), flat)
    known = _voxel_um(scan, flat)
    names = _names(scan, flat)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scan", "id", "label", *names])
    label = prediction.labelmap.labels[0].name if prediction.labelmap.labels else ""
    for row in zip(*columns.values(), strict=True):
        number, size, *rest = row
        own = "" if known is None else _short(size * known)
        writer.writerow([scan.source.name, int(number), label, int(size), own, *map(_short, rest)])
    return text.getvalue()


def painted(prediction: Prediction) -> LabelMap:
    """The objects as a label map of a few colours in which no two that touch are alike, for pictures of it.

    The last of its labels names them all and says how many they are.
    """
    ids, geometry = prediction.instances, prediction.labelmap.geometry
    if ids is None or not ids.any():
        return prediction.labelmap
    table = _colors(ids)
    used = int(table.max())
    name = prediction.labelmap.labels[0].name if prediction.labelmap.labels else "objects"
    labels = [Label("", value, color=default_color(value)) for value in range(1, used)]
    labels.append(Label(f"{name}: {int(ids.max())}", used, color=default_color(used)))
    return LabelMap(table[ids].astype(np.uint8), geometry, tuple(labels))


def _measured(ids: NDArray[np.int32], image: NDArray[Any], flat: bool) -> Mapping[str, NDArray[Any]]:
    from skimage.measure import regionprops_table

    shape = ("perimeter", "eccentricity") if flat else ()
    wanted = ("label", "area", "centroid", *shape, "intensity_mean")
    found: Mapping[str, NDArray[Any]] = regionprops_table(ids, image[:, :, 0] if flat else image, wanted)
    return found


def _names(scan: Scan, flat: bool) -> Sequence[str]:
    """The columns behind scan, id and label."""
    picture = scan.source.format == "image"
    size = ("area_px", "area_um2") if flat else ("volume_vx", "volume_um3")
    place = (("row", "column", "page") if picture else ("i", "j", "k"))[: 2 if flat else 3]
    shape = ("perimeter_px", "eccentricity") if flat else ()
    count = scan.volume.channels
    means = ("mean",) if count == 1 else tuple(f"mean_{n}" for n in range(1, count + 1))
    return (*size, *place, *shape, *means)


def _voxel_um(scan: Scan, flat: bool) -> float | None:
    """µm² of a pixel or µm³ of a voxel, None where the file does not say."""
    spacing = scan.volume.geometry.spacing
    unknown = any(finding.code == "unknown-spacing" for finding in scan.findings)
    if unknown or (scan.source.format == "image" and spacing == (1.0, 1.0, 1.0)):
        return None
    return float(np.prod([step * _MICROMETRES for step in spacing[: 2 if flat else 3]]))


def _short(value: float) -> str:
    return f"{value:.{_SHOWN}g}"


def _colors(ids: NDArray[np.int32]) -> NDArray[np.intp]:
    """Object -> the lowest colour, from 1, that no neighbour of a lower number has (greedy colouring)."""
    neighbours: dict[int, list[int]] = {}
    for low, high in _touching(ids):
        neighbours.setdefault(int(high), []).append(int(low))
    colors = np.zeros(int(ids.max()) + 1, dtype=np.intp)
    for number in range(1, len(colors)):
        taken = {int(colors[other]) for other in neighbours.get(number, ())}
        choice = (*_cycle(number), *range(_SPREAD + 1, _SPREAD + len(taken) + 2))
        colors[number] = next(color for color in choice if color not in taken)
    return colors


def _cycle(start: int) -> Sequence[int]:
    return [1 + (start + step) % _SPREAD for step in range(_SPREAD)]


def _touching(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Pairs [N, 2] of objects that share a face or, in a plane, a corner; the lower number first."""
    pairs = []
    shifts = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0)]
    for i, j, k in shifts:
        one = ids[i:, max(j, 0) : ids.shape[1] + min(j, 0), k:]
        other = ids[: ids.shape[0] - i, max(-j, 0) : ids.shape[1] - max(j, 0), : ids.shape[2] - k]
        differ = (one > 0) & (other > 0) & (one != other)
        pairs.append(np.sort(np.stack([one[differ], other[differ]], axis=1), axis=1))
    return np.unique(np.concatenate(pairs), axis=0)
