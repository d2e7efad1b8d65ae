"""Writes the sample data: chest phantoms as NIfTI, two of them as DICOM series too, and cells as PNG."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from medseg.core.events import Listener, Message, Progress
from medseg.core.files import atomic, atomic_folder
from medseg.core.volume import LabelMap, Volume
from medseg.formats import write_volume
from medseg.phantoms import Phantom, cells, chest

# Seeds and file numbers are one: chest_01 is chest(1).
CHESTS = tuple(range(1, 18))
CHESTS_AS_DICOM = (5, 14)
CELLS = tuple(range(1, 17))


def write_all(folder: Path, listener: Listener) -> None:
    """Write every sample below `folder`: lung_ct/, lung_ct_dicom/ and cells_2d/ (see sample_data/README.md).

    The files are the same to the byte each time on one machine. Raises FormatError or OSError where
    a file cannot be written.
    """
    total = len(CHESTS) + len(CELLS)
    for done, seed in enumerate(CHESTS, start=1):
        phantom = chest(seed)
        write_chest(folder, seed, phantom)
        listener(Progress("samples", done, total))
    for done, seed in enumerate(CELLS, start=len(CHESTS) + 1):
        _write_cells(folder / "cells_2d", f"cells_{seed:02d}.png", cells(seed))
        listener(Progress("samples", done, total))
    listener(Message(f"Wrote {len(CHESTS)} chest CTs and {len(CELLS)} pictures of cells to {folder}"))


def write_chest(folder: Path, seed: int, phantom: Phantom) -> None:
    """Write one chest as NIfTI, and as a DICOM series too where it is among those."""
    name = f"chest_{seed:02d}"
    _write_nifti(phantom.volume, folder / "lung_ct" / "images" / f"{name}.nii.gz")
    _write_nifti(_as_volume(phantom.labelmap), folder / "lung_ct" / "labels" / f"{name}.nii.gz")
    if seed in CHESTS_AS_DICOM:
        from medseg.formats.dicom_write import write_series

        # As a whole folder, so that no slice of an older series stays among the new ones.
        with atomic_folder(folder / "lung_ct_dicom" / name) as series:
            write_series(phantom.volume, series, name)


def _write_cells(folder: Path, file: str, phantom: Phantom) -> None:
    write_volume(phantom.volume, folder / "images" / file)
    write_volume(_as_volume(phantom.labelmap), folder / "labels" / file)


def _as_volume(labelmap: LabelMap) -> Volume:
    return Volume(labelmap.array[None], labelmap.geometry)


def _write_nifti(volume: Volume, path: Path) -> None:
    """Gzip at the highest level without a time stamp, so that files are small and equal each time."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "volume.nii"
        write_volume(volume, plain)
        packed = gzip.compress(plain.read_bytes(), compresslevel=9, mtime=0)
    with atomic(path) as temporary:
        temporary.write_bytes(packed)
