"""Seeded phantoms: made-up chest CTs and microscopy pictures with their true labels.

They are what `sample_data/` holds, so that everything can be tried without anybody's data. One
seed gives one phantom, on every machine (up to single voxels at the edge of rounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg.core.events import Listener, silent
from medseg.core.volume import LabelMap, Volume


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A made-up scan and its true labels, on one grid."""

    volume: Volume
    labelmap: LabelMap


def chest(seed: int) -> Phantom:
    """A chest CT, int16 HU [1, I, J, K]; labels 1 left lung, 2 right lung. See `medseg.phantoms.thorax`."""
    from medseg.phantoms.thorax import paint_chest

    return paint_chest(seed)


def cells(seed: int) -> Phantom:
    """A microscopy picture, uint8 [C, 256, 256, 1]; every cell has its own label. See `medseg.phantoms.microscopy`."""
    from medseg.phantoms.microscopy import paint_cells

    return paint_cells(seed)


def write_samples(folder: Path, listener: Listener = silent) -> None:
    """Write all sample data below `folder`. See `medseg.phantoms.write`."""
    from medseg.phantoms.write import write_all

    write_all(folder, listener)
