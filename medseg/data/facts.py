"""What one scan and its label map measure: intensities, content, and of every label volume, pieces and place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Scan
from medseg.core.geometry import Geometry, Triple
from medseg.core.volume import LabelMap, Volume
from medseg.data.inspection import LabelFacts
from medseg.data.labels import present_values

_SAMPLE = 1_000_000  # voxels that percentiles are taken from, at most
_POINTS = 20_000  # voxels of a label that distances are measured to, at most
_MOST_SPECKS = 500  # of a label, whose distances are measured
_ACROSS = 3  # a speck is at most three voxels across, in each direction
_CRUMB = 0.05  # pieces below this share of the largest are no typical pieces
_STRAY = 0.5  # share of a piece outside the body that makes the piece lie there
_AIR = -950.0  # HU; below is air, and of lungs only what emphysema has destroyed
_IS_CT = -500.0  # only CT reaches below, by more than a few voxels
_DARK = 0.05  # of the span between the outer percentiles: background in MR and PET
_TABLE = 2**16
_MOST_INSTANCES = {2: 8, 3: 32}  # more values than this, without gaps, count objects and name no structures


def content_hash(volume: Volume) -> str:
    """Hex digest of the voxel values in canonical axis order: the same for a scan copied into another format.

    Spacing and place take no part. Hashed slice by slice, so that nothing large is copied.
    """
    axes, flips = volume.geometry.to_canonical()
    turned = volume.array.transpose(0, *(1 + axis for axis in axes))
    turned = np.flip(turned, tuple(1 + axis for axis, flip in enumerate(flips) if flip))
    digest = hashlib.sha256(repr(turned.shape).encode())
    for channel in turned:
        for place in range(channel.shape[2]):
            # Adding zero makes one value of 0.0 and -0.0.
            digest.update((channel[:, :, place].astype(np.float32) + np.float32(0.0)).tobytes())
    return digest.hexdigest()[:32]


def percentiles(array: NDArray[Any]) -> Triple:
    """The 0.5th, 50th and 99.5th percentile of an image's values, from a sample of them."""
    low, middle, high = np.percentile(sample(array), [0.5, 50.0, 99.5])
    return float(low), float(middle), float(high)


def sample(array: NDArray[Any]) -> NDArray[Any]:
    """Every n-th value, n odd (as most shapes are not); in memory order, so that no copy is made."""
    flat = array.ravel(order="K")
    return flat[:: (flat.size // _SAMPLE) | 1]


def are_instances(values: list[int], dimensions: int, names: Mapping[int, str]) -> bool:
    """Whether a label map counts objects: 1 … n without gaps, n large, and nothing names the values."""
    found = [value for value in values if value > 0]
    many = len(found) > _MOST_INSTANCES[dimensions]
    return many and found[-1] == len(found) and not set(found) <= set(names)


def label_facts(
    labelmap: LabelMap, names: Mapping[int, str], picture: bool, outside: Outside | None = None
) -> tuple[LabelFacts, ...]:
    """What every label of a map measures; `names` says what its values are called (their number otherwise).

    Instances (1 … n without names) are one label, 'objects', each of them a piece. `outside` must lie
    on the label map's grid.
    """
    values = [value for value in present_values(labelmap.array) if value > 0]
    dimensions = 2 if min(labelmap.array.shape) == 1 else 3
    dense = _dense(labelmap.array, values)
    if are_instances(values, dimensions, names):
        sizes = np.bincount(dense.ravel())[1:]
        voxels = int(sizes.sum())
        return (LabelFacts("objects", 1, voxels, _ml(voxels, labelmap.geometry, picture), len(values),
                           float(np.median(sizes))),)  # fmt: skip
    from scipy import ndimage

    facts = []
    for place, (value, box) in enumerate(zip(values, ndimage.find_objects(dense), strict=True), start=1):
        mask = dense[box] == place
        start = np.array([part.start for part in box], dtype=np.float64)
        one = _one_label(mask, start, labelmap.geometry, (names.get(value, str(value)), value), picture)
        facts.append(one if outside is None else _placed(one, mask, outside, box))
    return tuple(facts)


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """Which labelled voxels [I, J, K] lie outside the body, and whether air (CT) or darkness (MR, PET) says so."""

    voxels: NDArray[np.bool_]
    air: bool


def outside_body(scan: Scan, labelled: NDArray[np.bool_]) -> Outside | None:
    """The labelled voxels [I, J, K] that lie in the air (CT) or dark background (MR, PET) around the body.

    Around means: connected, within an axial slice, to the slice's border, so that lungs and bowel
    gas are inside. None for pictures and single slices, which show no body.
    """
    if min(labelled.shape) == 1:
        return None
    low, _, high = percentiles(scan.volume.array[0])
    air = is_ct(scan.modality, low)
    limit = _AIR if air else low + _DARK * (high - low)
    found = np.zeros(labelled.shape, dtype=np.bool_)
    geometry = scan.volume.geometry
    image, marked, out = (_canonical(array, geometry) for array in (scan.volume.array[0], labelled, found))
    for place in np.flatnonzero(marked.any(axis=(0, 1))):
        dark, there = image[:, :, place] < limit, marked[:, :, place]
        if (dark & there).any():
            out[:, :, place] = _around(dark) & there
    return Outside(found, air)


def is_ct(modality: str | None, low: float) -> bool:
    """Whether values are Hounsfield units, by the file's word or by how low its 0.5th percentile lies."""
    return modality == "CT" if modality in ("CT", "MR", "PT", "NM") else low < _IS_CT


# ---- labels ---------------------------------------------------------------------------------


def _dense(array: NDArray[Any], values: list[int]) -> NDArray[Any]:
    """0 for background and negative values, 1 … n for the values in their order."""
    if array.min() >= 0 and max(values, default=0) < _TABLE:
        table = np.zeros(max(values, default=0) + 1, dtype=np.uint8 if len(values) < 256 else np.uint16)
        table[values] = np.arange(1, len(values) + 1)
        looked_up: NDArray[Any] = table[array]
        return looked_up
    known = np.array([0, *values])
    place = np.searchsorted(known, array).clip(0, len(known) - 1)
    return np.where(array > 0, place, 0).astype(np.int32)


def _one_label(
    mask: NDArray[np.bool_], start: NDArray[np.float64], geometry: Geometry, called: tuple[str, int], picture: bool
) -> LabelFacts:
    """mask: the label within its box, whose first voxel is `start`."""
    from scipy import ndimage

    numbered, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(numbered.ravel())[1:]
    voxels = int(sizes.sum())
    whole = sizes[sizes >= _CRUMB * sizes.max()]
    return LabelFacts(
        name=called[0],
        value=called[1],
        voxels=voxels,
        volume_ml=_ml(voxels, geometry, picture),
        pieces=len(sizes),
        typical_piece=float(np.median(whole)),
        specks=_specks(numbered, sizes, np.asarray(geometry.spacing)),
        centroid=None if picture else _world(_centre(mask) + start, geometry),
    )


def _placed(label: LabelFacts, mask: NDArray[np.bool_], outside: Outside, box: tuple[slice, ...]) -> LabelFacts:
    """The label with what of it lies outside the body; pieces of it are told apart only where it lies in air."""
    from scipy import ndimage

    beyond = outside.voxels[box] & mask
    share = float(beyond.sum()) / label.voxels
    strays = 0
    if outside.air and share > 0 and label.pieces > 1:
        numbered, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes, out = np.bincount(numbered.ravel())[1:], np.bincount(numbered[beyond], minlength=label.pieces + 1)[1:]
        strays = int(((sizes > _ACROSS**3) & (out > _STRAY * sizes)).sum())
    return replace(label, outside=share, strays=strays)


def _ml(voxels: int, geometry: Geometry, picture: bool) -> float | None:
    return None if picture else voxels * geometry.voxel_volume_ml


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean index along each axis, from the projections, so that no list of voxels is made."""
    centre = []
    for axis, n in enumerate(mask.shape):
        counts = np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis))
        centre.append(float(counts @ np.arange(n)) / float(counts.sum()))
    return np.array(centre)


def _world(index: NDArray[np.float64], geometry: Geometry) -> Triple:
    x, y, z = geometry.to_world([index])[0]
    return float(x), float(y), float(z)


def _specks(
    numbered: NDArray[np.int32], sizes: NDArray[np.intp], spacing: NDArray[np.float64]
) -> tuple[tuple[int, float], ...]:
    """(voxels, reach) of pieces at most three voxels across that are crumbs beside the largest."""
    across = sum(n > 1 for n in numbered.shape)
    small = np.flatnonzero((sizes <= _ACROSS ** max(across, 2)) & (sizes < _CRUMB * sizes.max()))[:_MOST_SPECKS]
    if not small.size:
        return ()
    from scipy import ndimage
    from scipy.spatial import KDTree

    keep = np.concatenate([[False], sizes >= _CRUMB * sizes.max()])
    rest = np.argwhere(keep[numbered]) * spacing
    extent = float(np.ptp(rest, axis=0).max()) + float(spacing.max())
    points = rest[:: len(rest) // _POINTS + 1]
    centres = np.array(ndimage.center_of_mass(numbered > 0, numbered, small + 1)) * spacing
    distances, _ = KDTree(points).query(centres)
    return tuple((int(sizes[n]), float(d) / extent) for n, d in zip(small, np.atleast_1d(distances), strict=True))


# ---- the body -------------------------------------------------------------------------------


def _canonical(array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """A view of [I, J, K] whose last axis runs nearest to the patient's long axis."""
    axes, _ = geometry.to_canonical()
    return array.transpose(axes)


def _around(dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The dark pixels [rows, columns] that are connected to the border."""
    from scipy import ndimage

    numbered, count = ndimage.label(dark, np.ones((3, 3)))
    border = np.concatenate([numbered[0], numbered[-1], numbered[:, 0], numbered[:, -1]])
    touches = np.zeros(count + 1, dtype=np.bool_)
    touches[border] = True
    touches[0] = False
    found: NDArray[np.bool_] = touches[numbered]
    return found
