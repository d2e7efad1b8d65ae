"""Which series of a scan folder a model is meant for; the others are listed, with the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from medseg.core.case import Source
from medseg.core.geometry import Geometry

CODE = "not-selected"
Plane = Literal["axial", "coronal", "sagittal"]
Range = tuple[float, float]

_PLANES: dict[str, Plane] = {
    "S": "axial",
    "I": "axial",
    "A": "coronal",
    "P": "coronal",
    "R": "sagittal",
    "L": "sagittal",
}
_DIRECTIONS = ("left-right", "back-front", "feet-head")


@dataclass(frozen=True, slots=True)
class Selection:
    """A task's rules for series; nothing is excluded by default.

    orientation: planes that a series may be acquired in (empty: any); pixel_spacing, slice_spacing:
    lowest and highest in mm, within a slice and between slices; min_coverage: mm that must be covered
    left-right, back-front and feet-head; min_slices: that a series must have. The rest are regular
    expressions, found anywhere, in upper or lower case: exclude_image_types in DICOM's Image Type
    (values joined by a backslash), include_descriptions (one must be found) and exclude_descriptions
    in the Series Description. What a format does not say is not judged: pictures have no plane and no
    mm, and only DICOM has image types and descriptions.
    """

    orientation: tuple[Plane, ...] = ()
    pixel_spacing: Range | None = None
    slice_spacing: Range | None = None
    min_coverage: tuple[float, float, float] | None = None
    min_slices: int = 1
    exclude_image_types: tuple[str, ...] = ()
    include_descriptions: tuple[str, ...] = ()
    exclude_descriptions: tuple[str, ...] = ()

    # Read by pydantic where a task file is checked: an unknown key is refused, as everywhere in it.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("pixel_spacing", "slice_spacing"):
            span = getattr(self, name)
            if span is not None and not 0 <= span[0] <= span[1]:
                raise ValueError(f"{name} is the lowest and the highest in mm, not {list(span)}")
        if self.min_slices < 1:
            raise ValueError(f"min_slices is a number of slices above 0, not {self.min_slices}")
        if self.min_coverage is not None and min(self.min_coverage) < 0:
            raise ValueError(f"min_coverage holds three lengths in mm, not {list(self.min_coverage)}")
        for name in ("exclude_image_types", "include_descriptions", "exclude_descriptions"):
            for pattern in getattr(self, name):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{name}: {pattern!r} is not a regular expression ({error})") from error

    def unfit_header(self, source: Source) -> str:
        """Why a series is not to be segmented, from its headers; '' where they say nothing against it."""
        if source.format != "dicom":
            return ""
        return self._unfit_words(source) or (self.unfit_grid(source.grid, picture=False) if source.grid else "")

    def _unfit_words(self, source: Source) -> str:
        wrong = _found(self.exclude_image_types, source.image_type)
        if wrong:
            return f"its image type matches {wrong!r}, which the task excludes"
        # The description itself is free text, which may name the patient.
        wrong = _found(self.exclude_descriptions, source.description)
        if wrong:
            return f"its series description matches {wrong!r}, which the task excludes"
        if self.include_descriptions and not _found(self.include_descriptions, source.description):
            return "its series description matches none of those the task includes"
        return ""

    def unfit_grid(self, geometry: Geometry, picture: bool) -> str:
        """Why a volume on this grid is not to be segmented; '' where nothing speaks against it."""
        slices = min(geometry.shape) if picture else geometry.shape[_through(geometry)]
        if slices < self.min_slices:
            return f"it has {slices} slices, fewer than the {self.min_slices} the task asks for"
        return "" if picture else self._unfit_place(geometry)

    def _unfit_place(self, geometry: Geometry) -> str:
        through = _through(geometry)
        plane = _PLANES[geometry.orientation[through]]
        if self.orientation and plane not in self.orientation:
            return f"it is {plane}, and the task is for {' or '.join(self.orientation)} series"
        within = [spacing for axis, spacing in enumerate(geometry.spacing) if axis != through]
        for what, span, values in (
            ("pixel spacing", self.pixel_spacing, within),
            ("slice spacing", self.slice_spacing, [geometry.spacing[through]]),
        ):
            if span is not None and not span[0] <= min(values) <= max(values) <= span[1]:
                given = "×".join(f"{value:.3g}" for value in values)
                return f"its {what} of {given} mm is outside the task's {span[0]:g} to {span[1]:g} mm"
        return self._unfit_extent(geometry)

    def _unfit_extent(self, geometry: Geometry) -> str:
        if self.min_coverage is None:
            return ""
        extent = geometry.reordered(*geometry.to_canonical()).extent
        for direction, covered, least in zip(_DIRECTIONS, extent, self.min_coverage, strict=True):
            if covered < least:
                return f"it covers {covered:.0f} mm {direction}, less than the {least:g} mm the task asks for"
        return ""


def _through(geometry: Geometry) -> int:
    """The axis across the slices: k, as DICOM has it, unless another is spaced more coarsely."""
    coarsest = max(range(3), key=lambda axis: geometry.spacing[axis])
    return coarsest if geometry.spacing[coarsest] > 1.01 * geometry.spacing[2] else 2


def _found(patterns: Sequence[str], text: str) -> str:
    return next((pattern for pattern in patterns if re.search(pattern, text, re.IGNORECASE)), "")
