"""Everything that moves voxels, drawn once and applied in one resampling of image and labels together."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from medseg.augment.elastic import require_engine, warp_torch
from medseg.augment.warp import Warp
from medseg.core.errors import PlanError
from medseg.core.geometry import Flips, Shape, Triple
from medseg.core.labels import IGNORE
from medseg.core.plan import AugmentSpec

Float = NDArray[np.float64]
_LATERAL = 0  # the canonical axis from left to right


@dataclass(frozen=True, slots=True, eq=False)
class SpatialDraw:
    """What was drawn for one sample; the same draw gives the same bits again.

    matrix: rotation times scale [d, d], in mm; displacement: [d, n, …] in mm along the canonical axes
    at the nodes of a grid that spans the patch, or None; flips: canonical axes reversed; d is 2 or 3.
    """

    matrix: Float
    displacement: Float | None = None
    flips: Flips = (False, False, False)
    cubic: bool = False
    engine: str = "torch"

    @property
    def ndim(self) -> int:
        return len(self.matrix)

    @property
    def only_flips(self) -> bool:
        """Whether voxels stay on the grid, so that nothing needs interpolating."""
        return self.displacement is None and bool((self.matrix == np.eye(self.ndim)).all())


@dataclass(frozen=True, slots=True, eq=False)
class SpatialContext:
    """What sampling has to know of the cases.

    spacing: mm of the prepared grid along i, j, k (2D: k is not used);
    mirror: table [256] uint8 that exchanges labels which mirror into each other, or None;
    lateral: the axis whose reversal does that.
    """

    spacing: Triple
    mirror: torch.Tensor | None = None
    lateral: int = 0


def draw_spatial(spec: AugmentSpec, ndim: int, spacing: Triple, patch: Shape, rng: np.random.Generator) -> SpatialDraw:
    """Draw one sample's rotation, scale, displacements and flips.

    spacing in mm, patch in voxels (2D: K = 1 and only the plane moves). Raises PlanError for settings
    that cannot work, MissingDependencyError where the elastic engine is not installed.
    """
    _check(spec, ndim)
    chances = rng.random(6)
    matrix = np.eye(ndim)
    if spec.rotation > 0 and chances[0] < spec.rotation_probability:
        matrix = rotation(np.radians(rng.uniform(-spec.rotation, spec.rotation, 3 if ndim == 3 else 1)))
    if spec.scale > 0 and chances[1] < spec.scale_probability:
        matrix = matrix * rng.uniform(1 - spec.scale, 1 + spec.scale)
    displacement = None
    if spec.elastic_sigma > 0 and chances[2] < spec.elastic_probability:
        displacement = rng.normal(0.0, spec.elastic_sigma, (ndim, *[spec.elastic_points] * ndim))
    i, j, k = (axis in spec.flips and axis < ndim and chances[3 + axis] < 0.5 for axis in range(3))
    return SpatialDraw(
        matrix, displacement, (bool(i), bool(j), bool(k)), spec.interpolation == "cubic", spec.elastic_engine
    )


def sample_patch(
    image: torch.Tensor,
    label: torch.Tensor,
    center: Triple,
    patch: Shape,
    draw: SpatialDraw | None,
    context: SpatialContext,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A training sample, straight from the whole case in one resampling.

    image [C, I, J, K] float32, label [I, J, K] uint8; center: voxel that becomes the patch's middle,
    snapped so that without a draw (or with flips alone) the patch is an exact crop. Outside the scan
    the image goes on with its border values and the label is IGNORE. 2D draws move the plane of the
    slice that center[2] names. A left-right flip exchanges the labels of `context.mirror`.

    Returns image [C, *patch] float32 and label [*patch] int64, on the case's device.
    """
    start = [floor(c - (p - 1) / 2) for c, p in zip(center, patch, strict=True)]
    if draw is None:
        pixels, values = _crop(image, label, start, patch)
        return pixels, values.long()
    if draw.only_flips:
        pixels, values = _crop(image, label, start, patch)
        turned = [axis for axis, flip in enumerate(draw.flips) if flip]
        if turned:
            pixels, values = pixels.flip([axis + 1 for axis in turned]), values.flip(turned)
    else:
        pixels, values = _warped(image, label, start, patch, draw, context.spacing)
    if draw.flips[context.lateral] and context.mirror is not None:
        values = context.mirror[values.long()]
    return pixels, values.long()


def _warped(
    image: torch.Tensor, label: torch.Tensor, start: list[int], patch: Shape, draw: SpatialDraw, spacing: Triple
) -> tuple[torch.Tensor, torch.Tensor]:
    warp = _warp(start, patch, draw, spacing)
    # Without displacements there is nothing elastic to do; the affine part is the same in every engine.
    engine = warp_torch if draw.displacement is None else require_engine(draw.engine)
    if draw.ndim == 3:
        return engine(image, label, warp)
    if patch[2] != 1:
        raise PlanError(f"a 2D patch is one slice thick, not {patch[2]}")
    place = min(max(start[2], 0), label.shape[2] - 1)
    pixels, values = engine(image[..., place], label[..., place], warp)
    if place != start[2]:
        values = torch.full_like(values, IGNORE)
    return pixels[..., None], values[..., None]


def _warp(start: list[int], patch: Shape, draw: SpatialDraw, spacing: Triple) -> Warp:
    """The draw, which is in mm about the patch's middle, as a map from patch voxels to case voxels."""
    d = draw.ndim
    mm = np.asarray(spacing[:d])
    flip = np.where(draw.flips[:d], -1.0, 1.0)
    matrix = (draw.matrix * flip) * mm / mm[:, None]  # voxels -> mm -> flipped -> rotated, scaled -> voxels
    middle = (np.asarray(patch[:d]) - 1) / 2
    offset = np.asarray(start[:d]) + middle - matrix @ middle
    nodes = None if draw.displacement is None else draw.displacement / mm.reshape(-1, *[1] * d)
    return Warp(tuple(patch[:d]), matrix, offset, nodes, draw.cubic)


def _crop(
    image: torch.Tensor, label: torch.Tensor, start: list[int], patch: Shape
) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels start..start+patch, border values and IGNORE outside; always new memory."""
    inner, around, blank = [], [], []
    for a, p, n in zip(start, patch, label.shape, strict=True):
        first, last = min(max(a, 0), n - 1), min(max(a + p, 1), n)
        inner.append(slice(first, last))
        before = min(max(first - a, 0), p - 1)
        around.append((before, p - before - (last - first)))
        blank.append(a >= n or a + p <= 0)  # the patch misses the scan altogether
    pixels, values = image[(slice(None), *inner)], label[tuple(inner)]
    if not any(side for pair in around for side in pair) and not any(blank):
        return pixels.clone(memory_format=torch.contiguous_format), values
    sides = [side for pair in reversed(around) for side in pair]
    pixels = F.pad(pixels[None], sides, mode="replicate")[0]
    values = torch.full_like(F.pad(values, sides), IGNORE) if any(blank) else F.pad(values, sides, value=IGNORE)
    return pixels, values


def rotation(angles: NDArray[np.float64]) -> Float:
    """Rotation by one angle in the plane [2, 2], or about the axes i, then j, then k [3, 3]; radians."""
    if len(angles) == 1:
        c, s = np.cos(angles[0]), np.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _check(spec: AugmentSpec, ndim: int) -> None:
    if ndim not in (2, 3):
        raise PlanError(f"ndim must be 2 or 3, not {ndim}")
    if not 0 <= spec.scale < 1:
        raise PlanError(f"augment.scale must lie within 0..1 (without 1), not {spec.scale:g}")
    if any(axis not in (0, 1, 2) for axis in spec.flips):
        raise PlanError(f"augment.flips names axes 0, 1 and 2 only, not {list(spec.flips)}")
    if spec.elastic_sigma > 0 and spec.elastic_probability > 0:
        if spec.elastic_points < 2:
            raise PlanError(f"augment.elastic_points must be at least 2, not {spec.elastic_points}")
        require_engine(spec.elastic_engine)
