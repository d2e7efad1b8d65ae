"""From frames in any order to one regular grid, or the reason why there is none.

Slices are ordered by their position along the slice normal; every gap is looked at. Positions are
DICOM's: LPS+ mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Severity
from medseg.core.geometry import Geometry, GeometryError
from medseg.formats.dicom_frames import Frame

Float = NDArray[np.float64]

# Direction cosines of one series differ by rounding only: 1e-3 moves a voxel 250 mm away by a quarter mm.
_COSINE = 1e-3
_SPACING_RATIO = 1e-3
# A slice may lie this far from its place on a regular grid: headers round positions, some to 0.1 mm.
_OFF_GRID_MM = 0.1
_OFF_GRID_STEPS = 0.1
# The same across the normal, where a shift shows against the pixels.
_DRIFT_MM = 0.2
_DRIFT_PIXELS = 0.2
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Frames in slice order with their grid: i along a row, j along a column, k along the normal.

    geometry is None where one of the findings is an error.
    """

    frames: tuple[Frame, ...]
    geometry: Geometry | None
    findings: tuple[Finding, ...]


def stack(frames: Sequence[Frame]) -> Stack:
    """Order frames along their normal and check that they make one regular, rectangular grid."""
    problem = _incomplete(frames) or _mixed(frames)
    if problem is not None:
        return Stack(tuple(frames), None, (problem,))
    row, column = _axes(frames[0])
    normal = np.cross(row, column)
    along = np.array([np.dot(frame.position or (), normal) for frame in frames])
    order = np.argsort(along, kind="stable")
    frames, along = tuple(frames[n] for n in order), along[order]
    positions = np.array([frame.position for frame in frames], dtype=np.float64)  # [K, 3]
    problem = _same_place(frames, clusters(frames))
    findings = [problem] if problem else _tilt(frames, positions, along, (row, column)) + _spacing(along, normal)
    if any(finding.severity is Severity.ERROR for finding in findings):
        return Stack(frames, None, tuple(findings))
    step, unknown = _step(frames, along)
    geometry, broken = _grid(frames, (row, column, normal), step)
    return Stack(frames, geometry, (*findings, *unknown, *broken))


def clusters(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames that share a position, in the order in which the positions first occur."""
    places: dict[tuple[float, ...], list[Frame]] = {}
    for frame in frames:
        # To a hundredth of a pixel: finer than any step between slices, coarser than rounding.
        grain = 0.01 * min(frame.spacing) if frame.spacing and min(frame.spacing) > 0 else 0.01
        places.setdefault(tuple(round(x / grain) for x in frame.position or ()), []).append(frame)
    return list(places.values())


def _error(code: str, message: str, **values: Any) -> Finding:
    return Finding(code, Severity.ERROR, message, values)


def _incomplete(frames: Sequence[Frame]) -> Finding | None:
    needed = {"position": "ImagePositionPatient", "orientation": "ImageOrientationPatient", "spacing": "PixelSpacing"}
    for attribute, keyword in needed.items():
        without = [frame for frame in frames if getattr(frame, attribute) is None]
        if without:
            count = f"{len(without)} of its {len(frames)} images have" if len(frames) > 1 else "it has"
            return _error("missing-geometry", f"{count} no {keyword}, so that the place in the body is unknown")
    for frame in frames:
        row, column = np.array(frame.orientation).reshape(2, 3)
        lengths = np.abs([np.linalg.norm(row) - 1, np.linalg.norm(column) - 1]).max()
        if not (lengths < 10 * _COSINE and abs(np.dot(row, column)) < 10 * _COSINE):
            return _error(
                "bad-geometry", f"ImageOrientationPatient {frame.orientation} is no pair of square unit vectors"
            )
        if min(frame.spacing or (0,)) <= 0:
            return _error("bad-geometry", f"PixelSpacing {frame.spacing} is not positive")
    return None


def _mixed(frames: Sequence[Frame]) -> Finding | None:
    cosines = np.array([frame.orientation for frame in frames])
    if np.abs(cosines - cosines[0]).max() > _COSINE:
        count = len({tuple(np.round(c, 2)) for c in cosines})
        return _error("mixed-orientation", f"one series holds images of {count} orientations", orientations=count)
    spacings = np.array([frame.spacing for frame in frames])
    if (np.abs(spacings - spacings[0]) > _SPACING_RATIO * spacings[0]).any():
        low, high = spacings.min(axis=0), spacings.max(axis=0)
        text = f"one series holds pixel spacings from {low[0]:g}x{low[1]:g} to {high[0]:g}x{high[1]:g} mm"
        return _error("mixed-pixel-spacing", text, low=low.tolist(), high=high.tolist())
    sizes = sorted({frame.size for frame in frames})
    if len(sizes) > 1:
        text = ", ".join(f"{rows}x{columns}" for rows, columns in sizes)
        return _error("mixed-size", f"one series holds images of different sizes ({text} pixels)", sizes=sizes)
    return None


def _axes(frame: Frame) -> tuple[Float, Float]:
    """Unit vectors (LPS+) along a row and along a column, made exactly square."""
    row, column = np.array(frame.orientation, dtype=np.float64).reshape(2, 3)
    row = row / np.linalg.norm(row)
    column = column - np.dot(column, row) * row
    return row, column / np.linalg.norm(column)


def _same_place(frames: Sequence[Frame], places: Sequence[Sequence[Frame]]) -> Finding | None:
    if len(places) == len(frames):
        return None
    crowded = [place for place in places if len(place) > 1]
    differing = _differing(crowded)
    counts = sorted({len(place) for place in places})
    by = f"; they differ in {', '.join(differing)}" if differing else ""
    values = {"positions": len(places), "images": len(frames), "differ": differing}
    if len(counts) == 1 or differing:
        many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        where = f"each of {len(places)} positions" if len(places) > 1 else "one position"
        message = f"holds {many} images at {where}, so it is more than one volume{by}"
        return _error("multi-volume", message, **values)
    message = f"{len(crowded)} of {len(places)} positions have more than one image, and they are not alike"
    return _error("duplicate-position", message, **values)


def _differing(crowded: Sequence[Sequence[Frame]]) -> list[str]:
    """The words for what differs between frames at one position."""
    words: list[str] = []
    for place in crowded:
        for word in dict.fromkeys(word for frame in place for word, _ in frame.stamps):
            values = {dict(frame.stamps).get(word) for frame in place}
            if len(values) > 1 and word not in words:
                words.append(word)
    return words


def _tilt(frames: Sequence[Frame], positions: Float, along: Float, axes: tuple[Float, Float]) -> list[Finding]:
    """Slices that drift across their normal: a tilted gantry where evenly, shifted slices where not."""
    moved = (positions - positions[0]) @ np.array(axes).T  # [K, 2]: mm along a row and along a column
    drift = np.linalg.norm(moved, axis=1)
    allowed = min(_DRIFT_MM, _DRIFT_PIXELS * min(frames[0].spacing or (1.0,)))
    if drift.max() <= allowed:
        return []
    length = along[-1] - along[0]
    straight = np.outer((along - along[0]) / length, moved[-1])
    if np.linalg.norm(moved - straight, axis=1).max() > allowed + 0.05 * drift.max():
        text = f"slices are shifted against each other by up to {drift.max():.2f} mm within their plane"
        return [_error("shifted-slices", text, mm=float(drift.max()))]
    degrees = float(np.degrees(np.arctan2(drift[-1], length)))
    text = f"the gantry was tilted by {degrees:.1f} degrees: slices drift by {drift[-1]:.1f} mm against their normal"
    return [_error("gantry-tilt", text, degrees=degrees, mm=float(drift[-1]))]


def _spacing(along: Float, normal: Float) -> list[Finding]:
    """Every gap between neighbouring slices is looked at; `along`: mm along the normal, ascending."""
    if len(along) < 3:
        return []
    gaps = np.diff(along)
    step = (along[-1] - along[0]) / (len(along) - 1)
    off = float(np.abs(along - (along[0] + step * np.arange(len(along)))).max())
    values: dict[str, Any] = {"gaps_mm": sorted({round(float(g), 3) for g in gaps}), "off_grid_mm": round(off, 4)}
    if off <= min(_OFF_GRID_MM, _OFF_GRID_STEPS * step):
        if off <= 0.01 * step:
            return []
        text = f"slice positions stray by up to {off:.3f} mm from even spacing of {step:.3f} mm"
        return [Finding("uneven-spacing", Severity.INFO, text, values)]
    smallest = float(gaps.min())
    multiples = gaps / smallest
    wide = np.flatnonzero(np.round(multiples) > 1)
    if np.abs(multiples - np.round(multiples)).max() < 0.1 and len(wide) <= len(gaps) / 2:
        missing = int(np.round(multiples[wide] - 1).sum())
        axis = "xyz"[int(np.abs(normal).argmax())]
        places = ", ".join(f"{along[n]:.1f}..{along[n + 1]:.1f}" for n in wide[:_SHOWN])
        count = "1 slice is missing" if missing == 1 else f"{missing} slices are missing"
        text = f"{count}: distances are {smallest:g} mm, but there are gaps at {axis} = {places} mm"
        return [_error("missing-slices", text, missing=missing, **values)]
    shown = ", ".join(f"{g:g}" for g in values["gaps_mm"][:_SHOWN])
    text = f"slices are spaced unevenly: distances of {shown} mm" + (
        " and others" if len(values["gaps_mm"]) > _SHOWN else ""
    )
    return [_error("uneven-spacing", text, **values)]


def _step(frames: Sequence[Frame], along: Float) -> tuple[float, tuple[Finding, ...]]:
    if len(frames) > 1:
        return float((along[-1] - along[0]) / (len(along) - 1)), ()
    if frames[0].thickness is not None:
        return frames[0].thickness, ()
    text = "a single slice without SliceThickness; 1 mm is assumed"
    return 1.0, (Finding("unknown-spacing", Severity.WARNING, text),)


def _grid(
    frames: Sequence[Frame], axes: tuple[Float, Float, Float], step: float
) -> tuple[Geometry | None, tuple[Finding, ...]]:
    row, column, normal = axes
    between_rows, between_columns = frames[0].spacing or (0.0, 0.0)
    affine = np.eye(4)
    # Going along a row (i) crosses columns, so the columns' distance belongs to the row's direction.
    affine[:3, :3] = np.stack([row * between_columns, column * between_rows, normal * step], axis=1)
    affine[:3, 3] = frames[0].position
    rows, columns = frames[0].size
    try:
        return Geometry.from_lps(affine, (columns, rows, len(frames))), ()
    except GeometryError as error:
        return None, (_error("bad-geometry", f"its position in space is unusable: {error}"),)
