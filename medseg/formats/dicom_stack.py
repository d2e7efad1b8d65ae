"""From frames in any order to one grid, or the reason why there is none.

Slices are ordered by their position along the slice normal; every gap is looked at. Slices that are
tilted or unevenly spaced are brought onto a rectilinear grid, kept as they are, or refused, as the
task's policy says. Positions are DICOM's: LPS+ mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Severity
from medseg.core.geometry import Geometry, GeometryError
from medseg.core.reading import POLICIES, Reading
from medseg.formats.dicom_frames import Frame
from medseg.formats.dicom_reslice import Reslicing, reslicing

Float = NDArray[np.float64]

# Direction cosines of one series differ by rounding only: 1e-3 moves a voxel 250 mm away by a quarter mm.
COSINE = 1e-3
_SPACING_RATIO = 1e-3
# A slice may lie this far from its place on a regular grid: headers round positions, some to 0.1 mm.
_OFF_GRID_MM = 0.1
_OFF_GRID_STEPS = 0.1
# The same across the normal, where a shift shows against the pixels.
_DRIFT_MM = 0.2
_DRIFT_PIXELS = 0.2
_SHOWN, _LISTED = 5, 1000
# No slice lies 100 m from the scanner, no pixel is a metre wide: such numbers are damage.
_FARTHEST_MM, _WIDEST_MM = 1e5, 1e3
# A rectilinear grid around tilted or uneven slices holds a few times their voxels at most.
_GROWTH = 8


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Frames in slice order with the grid of their volume: i along a row, j along a column, k along the normal.

    geometry is None where one of the findings is an error; reslicing tells how the slices lie in that
    grid where they are not its planes, None where they are.
    """

    frames: tuple[Frame, ...]
    geometry: Geometry | None
    findings: tuple[Finding, ...]
    reslicing: Reslicing | None = None


def stack(frames: Sequence[Frame], policy: Reading) -> Stack:
    """Order frames along their normal and put them on one grid, as far as `policy` allows."""
    if len(frames) == 1 and frames[0].position is None and frames[0].orientation is None:
        return _placeless(frames[0])
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
    found = [problem] if problem else _tilt(frames, positions, along, (row, column)) + _spacing(along, normal)
    found = [_judged(finding, along, policy) for finding in found]
    if any(finding.severity is Severity.ERROR for finding in found):
        return Stack(frames, None, tuple(found))
    if any(POLICIES.get(f.code) and f.values["policy"] == "repair" for f in found if f.severity is Severity.WARNING):
        spacing = frames[0].spacing or (1.0, 1.0)
        repair = reslicing(positions, (row, column, normal), spacing, frames[0].size)
        if math.prod(repair.grid.shape) > _GROWTH * len(frames) * math.prod(frames[0].size):
            return Stack(frames, None, tuple(_beyond_repair(finding) for finding in found))
        return Stack(frames, repair.grid, tuple(found), repair)
    through, unknown = _through(frames, positions, normal)
    geometry, broken = _grid(frames, (row, column, through))
    return Stack(frames, geometry, (*found, *unknown, *broken))


def _placeless(frame: Frame) -> Stack:
    """A picture (secondary capture, photograph, radiograph): no place in the body is known, as for any picture file."""
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    text = "a single image without a position in the body; it is taken as a picture"
    findings = [Finding("missing-geometry", Severity.WARNING, text)]
    if frame.spacing is None:
        findings.append(Finding("unknown-spacing", Severity.INFO, "it has no PixelSpacing; pixels count as 1 mm"))
    geometry = Geometry.from_spacing((between_rows, between_columns, 1.0), (*frame.size, 1))
    return Stack((frame,), geometry, tuple(findings))


def _judged(finding: Finding, along: Float, policy: Reading) -> Finding:
    """A finding about tilt or distances as the policy weighs it: an error where the series is refused."""
    if finding.code not in POLICIES or finding.severity is Severity.INFO:
        return finding
    widest, action = float(np.diff(along).max()), policy.policy(finding.code)
    message, severity = finding.message, Severity.WARNING
    if finding.code != "gantry-tilt" and widest > policy.largest_gap:
        message, severity, action = (
            f"{message}; {widest:g} mm is more than the {policy.largest_gap:g} mm that reading.largest_gap allows",
            Severity.ERROR,
            "refuse",
        )
    elif action == "refuse":
        severity = Severity.ERROR
    else:
        done = "they were resampled onto a rectilinear grid" if action == "repair" else "they are taken as they are"
        message = f"{message}; {done}"
    return Finding(finding.code, severity, message, {**finding.values, "policy": action})


def _beyond_repair(finding: Finding) -> Finding:
    if finding.code not in POLICIES or finding.severity is not Severity.WARNING:
        return finding
    message = f"{finding.message.partition(';')[0]}, too far to be true: a grid around them would be mostly empty"
    return Finding(finding.code, Severity.ERROR, message, {**finding.values, "policy": "refuse"})


def clusters(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames that share a position, in the order in which the positions first occur."""
    places: dict[tuple[float, ...], list[Frame]] = {}
    # To a hundredth of a pixel: finer than any step between slices, coarser than rounding.
    grains = [0.01 * min(f.spacing) if f.spacing and min(f.spacing) > 0 else 0.01 for f in frames]
    placed = np.array([frame.position or (np.nan,) * 3 for frame in frames]).reshape(-1, 3)
    keys = np.rint(placed / np.array(grains)[:, None]).tolist()
    for frame, key in zip(frames, keys, strict=True):
        places.setdefault(tuple(key) if frame.position else (), []).append(frame)
    return list(places.values())


def _error(code: str, message: str, **values: Any) -> Finding:
    return Finding(code, Severity.ERROR, message, values)


def _warning(code: str, message: str, **values: Any) -> Finding:
    return Finding(code, Severity.WARNING, message, values)


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
        if not (lengths < 10 * COSINE and abs(np.dot(row, column)) < 10 * COSINE):
            return _error(
                "bad-geometry", f"ImageOrientationPatient {frame.orientation} is no pair of square unit vectors"
            )
        if not 0 < min(frame.spacing or (0,)) <= max(frame.spacing or (0,)) <= _WIDEST_MM:
            return _error("bad-geometry", f"PixelSpacing {frame.spacing} is no pixel's size")
        if np.abs(frame.position or ()).max() > _FARTHEST_MM:
            return _error("bad-geometry", f"ImagePositionPatient {frame.position} is no place in a scanner")
    return None


def _mixed(frames: Sequence[Frame]) -> Finding | None:
    cosines = np.array([frame.orientation for frame in frames])
    if np.abs(cosines - cosines[0]).max() > COSINE:
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
    """Several images at one position that nothing tells apart (what does was split before, see dicom_volumes)."""
    if len(places) == len(frames):
        return None
    crowded = [place for place in places if len(place) > 1]
    values = {"positions": len(places), "images": len(frames)}
    if len(places) == 1:
        text = f"holds {len(frames)} images at one position, so it is no volume"
        return _error("multi-volume", text, **values)
    text = (
        f"{len(crowded)} of {len(places)} positions have more than one image, which no header value sorts into volumes"
    )
    return _error("duplicate-position", text, **values)


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
    return [_warning("gantry-tilt", text, degrees=degrees, mm=float(drift[-1]))]


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
        where = (along[n] + smallest * m for n in wide for m in range(1, round(float(multiples[n]))))
        values["positions_mm"] = [round(float(position), 3) for position in islice(where, _LISTED)]
        return [_warning("missing-slices", text, missing=missing, **values)]
    shown = ", ".join(f"{g:g}" for g in values["gaps_mm"][:_SHOWN])
    others = " and others" if len(values["gaps_mm"]) > _SHOWN else ""
    text = f"slices are spaced unevenly: distances of {shown} mm{others}"
    return [_warning("uneven-spacing", text, **values)]


def _through(frames: Sequence[Frame], positions: Float, normal: Float) -> tuple[Float, tuple[Finding, ...]]:
    """The step (mm, LPS+) from slice to slice: along the normal, but for tilted slices that are taken as they are."""
    if len(frames) > 1:
        step: Float = (positions[-1] - positions[0]) / (len(positions) - 1)
        upright = normal * float(step @ normal)
        # What `_tilt` lets pass is rounding; a grid that is square on paper should be square.
        allowed = min(_DRIFT_MM, _DRIFT_PIXELS * min(frames[0].spacing or (1.0,)))
        drifted = np.linalg.norm(step - upright) * (len(positions) - 1) > allowed
        return step if drifted else upright, ()
    if frames[0].thickness is not None:
        return normal * frames[0].thickness, ()
    text = "a single slice without SliceThickness; 1 mm is assumed"
    return normal, (Finding("unknown-spacing", Severity.WARNING, text),)


def _grid(frames: Sequence[Frame], axes: tuple[Float, Float, Float]) -> tuple[Geometry | None, tuple[Finding, ...]]:
    row, column, through = axes
    between_rows, between_columns = frames[0].spacing or (0.0, 0.0)
    affine = np.eye(4)
    # Going along a row (i) crosses columns, so the columns' distance belongs to the row's direction.
    affine[:3, :3] = np.stack([row * between_columns, column * between_rows, through], axis=1)
    affine[:3, 3] = frames[0].position
    rows, columns = frames[0].size
    try:
        return Geometry.from_lps(affine, (columns, rows, len(frames))), ()
    except GeometryError as error:
        return None, (_error("bad-geometry", f"its position in space is unusable: {error}"),)
