"""Where every voxel of a patch is taken from: one affine map and one coarse grid of displacements.

    source voxel = offset + matrix @ o + displacement(o)        o = voxel of the patch

The displacement is the cubic B-spline that passes through the nodes of a coarse grid; the first and
last node of an axis lie on the centres of the patch's first and last voxel, and the spline is
mirrored there. This is elasticdeform's definition of the field (Ronneberger et al. 2015 deform with
such a grid), so both engines draw the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """A map from a patch of `shape` (d axes, d = 2 or 3) into the scan, in voxels.

    matrix [d, d], offset [d]; nodes: displacements [d, n, …] in source voxels, or None;
    cubic: cubic B-spline instead of linear interpolation of the image.
    """

    shape: tuple[int, ...]
    matrix: Float
    offset: Float
    nodes: Float | None = None
    cubic: bool = False

    def coordinates(self, device: torch.device) -> torch.Tensor:
        """Source voxel coordinates [d, *shape], float32."""
        d, last = len(self.shape), self.shape[-1]
        base = torch.zeros((d, *self.shape[:-1]), dtype=torch.float64)
        for axis, length in enumerate(self.shape[:-1]):
            steps = torch.arange(length, dtype=torch.float64).reshape([-1 if a == axis else 1 for a in range(d - 1)])
            base += torch.from_numpy(self.matrix[:, axis]).reshape(d, *[1] * (d - 1)) * steps
        base += torch.from_numpy(self.offset).reshape(d, *[1] * (d - 1))
        along = torch.from_numpy(np.outer(self.matrix[:, -1], np.arange(last)))  # [d, last]
        rest = prod(self.shape[:-1])
        rows = base.reshape(d, rest, 1).to(device, torch.float32)
        coordinates = rows + along.reshape(d, 1, last).to(device, torch.float32)
        if self.nodes is not None:
            coordinates += self._displacement(device)
        return coordinates.reshape(d, *self.shape)

    def _displacement(self, device: torch.device) -> torch.Tensor:
        """[d, product of all axes but the last, last]."""
        field = torch.from_numpy(np.asarray(self.nodes, dtype=np.float32)).to(device)
        d = len(self.shape)
        weights = [
            torch.from_numpy(spline_weights(length, field.shape[axis + 1])).to(device)
            for axis, length in enumerate(self.shape)
        ]
        # Half-precision products would move voxels: a caller's autocast must not reach in here.
        with torch.autocast(device.type, enabled=False):
            done = d
            for axis in range(d - 1):
                field = weights[axis] @ field.reshape(done, field.shape[axis + 1], -1)  # [done, p, rest]
                done *= self.shape[axis]
                field = field.reshape(d, *self.shape[: axis + 1], *self.nodes_shape[axis + 1 :])
            return field.reshape(d, -1, self.nodes_shape[-1]) @ weights[-1].T

    @property
    def nodes_shape(self) -> tuple[int, ...]:
        """Nodes per axis; empty where nothing is displaced."""
        return () if self.nodes is None else self.nodes.shape[1:]


@cache
def spline_weights(length: int, nodes: int) -> NDArray[np.float32]:
    """Matrix [length, nodes] of the cubic B-spline through `nodes` values, seen at `length` positions.

    Node 0 lies on position 0, the last node on the last position; mirrored at both ends.
    """
    at: Float = np.linspace(0.0, nodes - 1.0, length) if length > 1 else np.zeros(1)
    weights: NDArray[np.float32] = (_basis(at, nodes) @ spline_prefilter(nodes)).astype(np.float32)
    return weights


@cache
def spline_prefilter(length: int) -> Float:
    """Matrix [length, length] from samples to cubic B-spline coefficients, mirrored at both ends."""
    return np.asarray(np.linalg.inv(_basis(np.arange(length, dtype=np.float64), length)), dtype=np.float64)


def _basis(at: Float, nodes: int) -> Float:
    """Cubic B-spline basis [len(at), nodes], coefficients mirrored about the end nodes."""
    first = np.floor(at).astype(np.int64) - 1
    weights = np.zeros((len(at), nodes))
    rows = np.arange(len(at))
    for tap in range(4):
        distance = np.abs(at - (first + tap))
        near = 2 / 3 - distance**2 * (2 - distance) / 2
        far = np.maximum(0.0, 2 - distance) ** 3 / 6
        np.add.at(weights, (rows, _mirrored(first + tap, nodes)), np.where(distance < 1, near, far))
    return weights


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = np.abs(index) % period
    return np.where(index < length, index, period - index)
