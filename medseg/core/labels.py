"""What the values of a label map mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Color = tuple[int, int, int]

# The value of voxels that neither train nor score, in every label map inside medseg.
IGNORE = 255

# Okabe & Ito's palette (2008): told apart by colour-blind readers too.
_PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (DICOM PS3.3 section 8.8), such as SCT 39607008 'Lung'."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Label:
    """One structure.

    name: as the user calls it; value: its number in medseg's label maps (1..254);
    sources: the values in the user's own files that mean it (empty: every value but 0);
    names: regular expressions for what DICOM SEG and RTSTRUCT call it (empty: its own name);
    mirror: the label it turns into when left and right are exchanged;
    category, type, modifier: codes for DICOM SEG (property category, type, laterality).
    """

    name: str
    value: int
    sources: tuple[int, ...] = ()
    mirror: str | None = None
    color: Color = (0, 0, 0)
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None
    names: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Whether a drawn structure of this name is this one: one of `names` fits all of it, whatever its case."""
        given = name.strip()
        if not self.names:
            return given.casefold() == self.name.casefold()
        return any(re.fullmatch(pattern, given, re.IGNORECASE) for pattern in self.names)


def default_color(value: int) -> Color:
    """A colour for the label of this value."""
    return _PALETTE[(value - 1) % len(_PALETTE)]


def mirrored_values(labels: Sequence[Label], size: int = 256) -> list[int]:
    """Table [size] that exchanges the values of labels which mirror into each other."""
    table = list(range(size))
    values = {label.name: label.value for label in labels}
    for label in labels:
        if label.mirror is not None:
            table[label.value] = values[label.mirror]
    return table
