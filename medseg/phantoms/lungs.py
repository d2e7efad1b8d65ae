"""The lungs: their shape between cage, mediastinum and diaphragm, and the trees of vessels and bronchi in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.phantoms.body import Shell
from medseg.phantoms.fields import Array, Point, Space, capsule, over, soft
from medseg.phantoms.organs import Mediastinum
from medseg.phantoms.patient import Patient, Side


@dataclass(frozen=True, slots=True, eq=False)
class Lung:
    """depth: mm below the lung's surface (negative outside); occupancy: 0..1; fluid: 0..1, pleural fluid beside it."""

    side: Side
    depth: Array
    occupancy: Array
    fluid: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A branching tree: `nodes` [n, 3] mm, `parent` of each node, `radius` mm of the branch to its parent."""

    nodes: NDArray[np.float64]
    parent: NDArray[np.int64]
    radius: NDArray[np.float64]


def shape_lungs(space: Space, patient: Patient, shell: Shell, mediastinum: Mediastinum, lift: Array) -> list[Lung]:
    """Both lungs: what is left inside the cage above the diaphragm and beside the mediastinum."""
    from scipy.ndimage import gaussian_filter

    # Rounding the gap fills the nooks between neighbouring vessels, where in life fat lies.
    width = [4.5 / s for s in space.geometry.spacing]
    gap = gaussian_filter(mediastinum.gap, width, truncate=2.0) - np.float32(1.0)
    roof = patient.height - 0.006 * (space.y + 0.25 * patient.half_depth) ** 2
    common = np.minimum(np.minimum(shell.cage - 2.5, gap), np.minimum(0.75 * lift, 0.8 * (roof - space.z)))
    lungs = []
    for side in (patient.left, patient.right):
        x = side.side * (space.x - 0.3 * patient.shift)
        apex = 0.007 * (x - 0.38 * patient.half_width) ** 2
        depth = np.minimum(common, np.minimum(x, 0.8 * (roof - apex - space.z)))
        depth = _largest_piece(depth)
        occupancy, fluid = soft(depth, space.edge), None
        if side.effusion:
            dry = occupancy
            depth = np.minimum(depth, _above_fluid(space, patient, side))
            occupancy = soft(depth, space.edge)
            fluid = dry - occupancy
        lungs.append(Lung(side=side, depth=depth, occupancy=occupancy, fluid=fluid))
    return lungs


def _largest_piece(depth: Array) -> Array:
    """Without the islands that the cutting left behind great vessels."""
    from scipy.ndimage import label

    pieces, count = label(depth > 0.0)
    if count > 1:
        sizes = np.bincount(pieces.ravel())[1:]
        islands = (pieces > 0) & (pieces != int(np.argmax(sizes)) + 1)
        depth = np.where(islands, np.float32(-2.0), depth)
    return depth


def _above_fluid(space: Space, patient: Patient, side: Side) -> Array:
    """A little fluid settles behind and below the lung of a patient who lies on the back."""
    level = -patient.half_depth - 0.4 * patient.kyphosis + side.effusion
    return np.asarray(space.y - level - 12.0 * soft(40.0 - space.z, 80.0), dtype=np.float32)


def grow_tree(lung: Lung, space: Space, hilum: Point, branches: int, rng: np.random.Generator) -> Tree:
    """A tree from the hilum to `branches` random places of the lung.

    Every place is joined to the node that makes the shortest way back to the hilum (a minimal
    spanning tree with a cost for detours; Cuntz et al., PLoS Comput Biol 2010); radii follow
    Murray's law: the cube of a branch is the sum of the cubes beyond it.
    """
    voxels = np.flatnonzero(lung.depth > 2.0)
    if len(voxels) < 50:
        return Tree(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros(0))
    chosen = voxels[rng.integers(0, len(voxels), branches)]
    places = np.stack([axis.ravel()[chosen] for axis in (space.x, space.y, space.z)], axis=1).astype(np.float64)
    places = places[np.argsort(np.linalg.norm(places - hilum, axis=1), kind="stable")]
    size = 2 * branches + 1
    nodes, parent, way = np.zeros((size, 3)), np.zeros(size, dtype=np.int64), np.zeros(size)
    nodes[0], parent[0], count = hilum, -1, 1
    jitter = rng.normal(size=(branches, 3))
    for number, place in enumerate(places):
        reach = np.linalg.norm(nodes[:count] - place, axis=1)
        best = int(np.argmin(reach + 0.45 * way[:count]))
        middle = 0.5 * (nodes[best] + place) + 0.07 * reach[best] * jitter[number]
        for point, before in ((middle, best), (place, count)):
            nodes[count], parent[count] = point, before
            way[count] = way[before] + float(np.linalg.norm(point - nodes[before]))
            count += 1
    leaves = np.zeros(count)
    leaves[2::2] = 1.0
    for node in range(count - 1, 0, -1):
        leaves[parent[node]] += leaves[node]
    return Tree(nodes[:count], parent[:count], leaves ** (1 / 2.8))


def paint_tree(cover: Array, space: Space, tree: Tree, scale: float, share: float) -> None:
    """Paint coverage 1 along branches of radius `scale` * tree.radius (at most 6 mm), or the inner `share` of it."""
    edge = space.edge
    for node in range(len(tree.nodes) - 1, 0, -1):
        start, end = tree.nodes[tree.parent[node]], tree.nodes[node]
        radius = min(scale * float(tree.radius[node]), 6.0) * share
        ends = (_point(start), _point(end))
        if (box := space.box(ends, radius + edge)) is None:
            continue
        # A branch thinner than a voxel fills it in part only.
        thin = min(1.0, (2.0 * radius / edge) ** 2)
        over(cover[box], thin * soft(capsule(space, ends, (max(radius, 0.5 * edge),) * 2, box), edge), 1.0)


def fissures(lung: Lung, space: Space, patient: Patient) -> Array:
    """Signed mm from the oblique fissure: positive in front of and above it."""
    slope = 0.75 + lung.side.fissure
    middle = 0.36 * patient.height
    return np.asarray((space.z - middle) * np.float32(0.8) + slope * space.y - 4.0 * np.sin(space.x * np.float32(0.04)))


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
