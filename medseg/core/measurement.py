"""What is measured in one structure of a label map: plain numbers, ready for JSON, CSV and DICOM SR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of an image's values. name: as people write it; ucum: its code in UCUM, as DICOM wants it."""

    name: str
    ucum: str


HOUNSFIELD = Unit("HU", "[hnsf'U]")
SUV = Unit("SUVbw", "g/ml{SUVbw}")
NO_UNIT = Unit("", "1")


@dataclass(frozen=True, slots=True)
class Spread:
    """How the values of the voxels inside a structure spread; sd is that of the population (divided by N)."""

    mean: float
    sd: float
    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One structure of one scan.

    label, value: its name and number; side: left, right, or empty where the task does not say; voxels:
    how many; volume_ml: their volume; longest_mm: the largest distance between two points of its
    surface; longest_axial_mm: the same within one slice of the grid axis nearest to head-feet; both
    None where there is no voxel. Millilitres and millimetres are None where the scan's spacing is
    unknown (pictures). spreads: one per channel, empty where there is no voxel; unit: of the values.
    """

    label: str
    value: int
    side: str
    voxels: int
    volume_ml: float | None
    longest_mm: float | None
    longest_axial_mm: float | None
    spreads: tuple[Spread, ...]
    unit: Unit

    def plain(self, channels: int = 1) -> Mapping[str, Any]:
        """One flat row: the same keys for every label of a scan; None where nothing can be said.

        With several channels the keys of the values end in the channel's number, from 1.
        """
        row: dict[str, Any] = {
            "label": self.label,
            "value": self.value,
            "side": self.side,
            "voxels": self.voxels,
            "volume_ml": _rounded(self.volume_ml),
            "longest_mm": _rounded(self.longest_mm),
            "longest_axial_mm": _rounded(self.longest_axial_mm),
            "unit": self.unit.name,
        }
        for channel in range(channels):
            spread = self.spreads[channel] if channel < len(self.spreads) else None
            suffix = f"_{channel + 1}" if channels > 1 else ""
            for key in ("mean", "sd", "p5", "p50", "p95"):
                row[key + suffix] = None if spread is None else _rounded(getattr(spread, key))
        return row


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
