"""The distances between the voxels of a TIFF stack, as ImageJ and OME write them.

ImageJ: lines `unit=` and `spacing=` in ImageDescription, resolution tags in pixels per unit (ij.io.FileSaver,
https://imagej.net/ij/developer/source/); OME: PhysicalSizeX/Y/Z (https://docs.openmicroscopy.org/ome-model/).
The resolution tags alone are about print, and taken for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medseg.core.case import Finding, Severity
from medseg.core.geometry import Triple
from medseg.formats.lengths import millimetres

_TIME = "T"

_Sizes = tuple[float | None, float | None, float | None]


def stack_spacing(file: Any, pages: str) -> tuple[Triple | None, tuple[Finding, ...]]:
    """mm between (rows, columns, pages) of an open tifffile.TiffFile; `pages`: the name of that axis (Z, T, …).

    None where the file does not state all three (finding unknown-spacing, INFO).
    """
    stated, assumed = _imagej(file) if file.is_imagej else (_ome(file.ome_metadata) if file.is_ome else None, False)
    if stated is None:
        return None, (_unknown("the stack states no distances between its voxels (neither ImageJ's nor OME's)"),)
    x, y, z = stated
    if x is None or y is None:
        return None, (_unknown("the stack states the size of its pixels in no unit of length"),)
    if z is None or pages == _TIME:
        return None, (_unknown("the stack states the size of its pixels, but no distance between its pages"),)
    if assumed:
        return (y, x, z), (_unknown(f"the stack states no distance between its pages; ImageJ's, {z:g} mm, is taken"),)
    return (y, x, z), ()


def imagej_tags(spacing: Triple) -> dict[str, Any]:
    """What tifffile.imwrite needs to state mm between (rows, columns, pages) in a stack, in ImageJ's words."""
    y, x, z = (1000.0 * size for size in spacing)
    return {"imagej": True, "resolution": (1 / x, 1 / y), "metadata": {"unit": "um", "spacing": z}}


def _unknown(message: str) -> Finding:
    return Finding("unknown-spacing", Severity.INFO, message)


def _imagej(file: Any) -> tuple[_Sizes, bool]:
    """(x, y, z) in mm, and whether z is ImageJ's default: it leaves out a spacing of one unit."""
    said: Mapping[str, Any] = file.imagej_metadata or {}
    unit = said.get("unit")
    tags = file.pages.first.tags
    x = _size(_per_pixel(tags, "XResolution"), unit)
    y = _size(_per_pixel(tags, "YResolution"), said.get("yunit", unit))
    z = _size(said.get("spacing", 1.0), said.get("zunit", unit))
    return (x, y, z), "spacing" not in said


def _per_pixel(tags: Any, name: str) -> float | None:
    """Units per pixel; the tag holds pixels per unit as a fraction."""
    tag = tags.get(name)
    if tag is None:
        return None
    pixels, units = tag.value
    return float(units) / float(pixels) if pixels else None


def _ome(text: str) -> _Sizes | None:
    """(x, y, z) in mm of the only image in an OME header; None where there are several or none."""
    import tifffile

    image = tifffile.xml2dict(text).get("OME", {}).get("Image")
    pixels = image.get("Pixels") if isinstance(image, dict) else None
    if not isinstance(pixels, dict):
        return None
    x, y, z = (_size(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XYZ")
    return None if x is None and y is None and z is None else (x, y, z)


def _size(value: Any, unit: Any) -> float | None:
    """A length in mm, None where it is none; ImageJ's own depths may be negative."""
    scale = millimetres(str(unit))
    if scale is None or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
        return None
    return abs(float(value)) * scale
