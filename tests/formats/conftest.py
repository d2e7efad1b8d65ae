"""Small DICOM series to bend: written as they should be, then spoiled by each test in its own way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats.dicom_write import write_series

SHAPE = (5, 4, 6)  # columns, rows, slices

Change = Callable[[pydicom.Dataset, int], object]


class Series:
    """A CT series in a folder: `volume` is what it holds, `change` edits every file (slice by slice)."""

    def __init__(self, folder: Path, volume: Volume) -> None:
        self.folder, self.volume = folder, volume
        write_series(volume, folder, "test")

    def files(self) -> list[Path]:
        """Its files in slice order."""
        z = {path: float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in sorted(self.folder.iterdir())}
        return sorted(z, key=lambda path: z[path])

    def change(self, change: Change, only: slice = slice(None)) -> None:
        """Call `change(dataset, k)` for the slices `only` and save them again."""
        for k, path in list(enumerate(self.files()))[only]:
            dataset = pydicom.dcmread(path)
            change(dataset, k)
            dataset.save_as(path)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Whole HU values on a plain axial grid of 0.5 x 0.75 x 2 mm, LPS order as scanners write it."""
    values = np.random.default_rng(5).integers(-900, 1200, (1, *SHAPE)).astype(np.float32)
    affine = np.diag([-0.5, -0.75, 2.0, 1.0])
    affine[:3, 3] = (40.0, 30.0, -100.0)
    return Series(tmp_path / "ct", Volume(values, Geometry(affine, SHAPE)))


def stored(dataset: Any) -> Any:
    """The stored numbers of a single-frame data set, to be changed and put back with `store`."""
    return np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).copy()


def store(dataset: Any, array: Any) -> None:
    dataset.PixelData = np.ascontiguousarray(array).tobytes()
