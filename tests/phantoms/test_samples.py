"""sample_data/ as it lies in the repository: complete, small, from its generator, beyond a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg import formats
from medseg.core.geometry import Geometry
from medseg.phantoms import cells, chest
from medseg.phantoms.thorax import STEP
from medseg.phantoms.write import CELLS, CHESTS, CHESTS_AS_DICOM, write_chest

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"
LUNGS = SAMPLES / "lung_ct"
NAMES = [f"chest_{seed:02d}" for seed in CHESTS]


def lung_case(name: str) -> tuple[NDArray[np.float32], NDArray[np.int32], Geometry]:
    scan = formats.read(formats.source_of(LUNGS / "images" / f"{name}.nii.gz"))
    labels = formats.read_labels(formats.source_of(LUNGS / "labels" / f"{name}.nii.gz"))
    assert labels.geometry.same_grid(scan.volume.geometry)
    return scan.volume.array[0], labels.array, scan.volume.geometry


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2.0 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))


def two_largest(pieces: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    chosen = [int(n) for n in np.argsort(sizes)[-2:] if sizes[n] > 0]
    return np.isin(pieces, chosen)


def test_all_files_are_there_and_small() -> None:
    assert sorted(p.name for p in (LUNGS / "images").iterdir()) == [f"{name}.nii.gz" for name in NAMES]
    assert sorted(p.name for p in (LUNGS / "labels").iterdir()) == [f"{name}.nii.gz" for name in NAMES]
    for folder in ("images", "labels"):
        assert len(list((SAMPLES / "cells_2d" / folder).glob("*.png"))) == len(CELLS) == 16
    assert sum(p.stat().st_size for p in SAMPLES.rglob("*") if p.is_file()) <= 8_000_000


def test_orientations_and_spacings_vary() -> None:
    grids = [lung_case(name)[2] for name in NAMES]
    assert len({grid.orientation for grid in grids}) >= 7
    assert any(np.abs(grid.direction).max(axis=0).min() < 0.9999 for grid in grids)
    spacings = np.array([sorted(grid.spacing) for grid in grids])
    assert spacings.min() >= 2.3
    assert spacings.max() <= 7.01


@pytest.mark.parametrize("name", NAMES)
def test_no_threshold_finds_the_lungs(name: str) -> None:
    """-500 HU and the two largest components, with the body's outside kept, removed, and with perfect hindsight."""
    picture, labels, _ = lung_case(name)
    lung, dark = labels > 0, picture < -500.0
    pieces, count = ndimage.label(dark)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    assert dice(two_largest(pieces, sizes), lung) < 0.80
    inner = sizes.copy()
    for axis in range(3):
        for place in (0, -1):
            inner[np.unique(np.take(pieces, place, axis))] = 0
    assert dice(two_largest(pieces, inner), lung) < 0.80
    assert dice(dark & lung, lung) < 0.80


@pytest.mark.parametrize("name", NAMES)
def test_the_lungs_lie_where_lungs_lie(name: str) -> None:
    """Left on the left, each (nearly) one piece, darker than what surrounds them."""
    picture, labels, geometry = lung_case(name)
    assert set(np.unique(labels)) <= {0, 1, 2}
    centres = {v: geometry.to_world(np.argwhere(labels == v)).mean(axis=0)[0] for v in (1, 2) if (labels == v).any()}
    assert centres.get(1, -1.0) < 0 < centres.get(2, 1.0)
    assert np.median(picture[labels > 0]) < -450
    shell = ndimage.binary_dilation(labels > 0, iterations=2) & (labels == 0)
    assert np.median(picture[shell]) > -250
    for value in centres:
        pieces, _ = ndimage.label(labels == value)
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() > 0.8 * sizes.sum()


def test_a_chest_is_what_its_generator_writes(tmp_path: Path) -> None:
    seed = CHESTS_AS_DICOM[0]
    picture, labels, geometry = lung_case(f"chest_{seed:02d}")
    phantom = chest(seed)
    assert phantom.volume.array.dtype == np.int16
    assert geometry.same_grid(phantom.volume.geometry)
    # Another machine's arithmetic may round single voxels to the other neighbour.
    change = np.abs(phantom.volume.array[0].astype(np.int32) - picture.astype(np.int32))
    assert (change > 0).mean() < 1e-3
    assert (change > STEP).mean() < 1e-5
    assert (phantom.labelmap.array != labels).mean() < 1e-5
    for folder in ("a", "b"):
        write_chest(tmp_path / folder, seed, phantom)
    written = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(written) > 2
    for file in written:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("seed", CELLS[:4])
def test_cells_are_what_their_generator_writes(seed: int) -> None:
    file = f"cells_{seed:02d}.png"
    scan = formats.read(formats.source_of(SAMPLES / "cells_2d" / "images" / file))
    labels = formats.read_labels(formats.source_of(SAMPLES / "cells_2d" / "labels" / file))
    phantom = cells(seed)
    change = np.abs(phantom.volume.array.astype(np.int32) - scan.volume.array.astype(np.int32))
    assert (change > 0).mean() < 1e-3
    assert (phantom.labelmap.array != labels.array).mean() < 1e-3


@pytest.mark.parametrize("seed", CHESTS_AS_DICOM)
def test_the_dicom_series_are_the_same_scans(seed: int) -> None:
    name = f"chest_{seed:02d}"
    picture, _, geometry = lung_case(name)
    scan = formats.read(formats.source_of(SAMPLES / "lung_ct_dicom" / name))
    assert scan.modality == "CT"
    assert scan.volume.geometry.orientation
    axes, flips = geometry.to_canonical()
    dicom_axes, dicom_flips = scan.volume.geometry.to_canonical()
    assert scan.volume.geometry.reordered(dicom_axes, dicom_flips).same_grid(geometry.reordered(axes, flips), 0.05)
    turn = [tuple(slice(None, None, -1) if f else slice(None) for f in given) for given in (flips, dicom_flips)]
    ours = picture.transpose(axes)[turn[0]]
    assert np.array_equal(ours, scan.volume.array[0].transpose(dicom_axes)[turn[1]])
