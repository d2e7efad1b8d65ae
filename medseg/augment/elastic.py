"""The engines that carry a `Warp` out: torch on any device, and elasticdeform on the CPU.

An engine takes an image [C, *source] float32, a label map [*source] uint8 and a warp, and gives the
patch of both: image interpolated with the border's value outside the scan, labels nearest with
IGNORE outside. Both resample the image once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import ceil
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from medseg.augment.warp import Warp, spline_prefilter
from medseg.core.errors import MissingDependencyError, PlanError
from medseg.core.labels import IGNORE

Patch = tuple[torch.Tensor, torch.Tensor]
Engine = Callable[[torch.Tensor, torch.Tensor, Warp], Patch]

# A cubic spline's coefficients feel a voxel so far away by less than 0.01 %.
_SPLINE_REACH = 8


def warp_torch(image: torch.Tensor, label: torch.Tensor, warp: Warp) -> Patch:
    """Resample with `grid_sample` on the image's device."""
    coordinates = warp.coordinates(image.device)
    flat = coordinates.flatten(1)
    lowest, highest = torch.stack([flat.amin(1), flat.amax(1)]).tolist()
    reach = _SPLINE_REACH if warp.cubic else 1
    start = [min(max(int(a) - reach, 0), n - 1) for a, n in zip(lowest, label.shape, strict=True)]
    stop = [min(max(ceil(b) + reach, 0), n - 1) + 1 for b, n in zip(highest, label.shape, strict=True)]
    region = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    picked = _nearest(label, coordinates)
    # Numbers near zero keep more of float32's digits than positions in a whole scan.
    local = coordinates - coordinates.new_tensor(start).reshape(-1, *[1] * len(start))
    part = image[(slice(None), *region)]
    return (_cubic if warp.cubic else _linear)(part, local), picked


def warp_elasticdeform(image: torch.Tensor, label: torch.Tensor, warp: Warp) -> Patch:
    """Resample with `elasticdeform.deform_grid` (van Tulder), affine part included.

    Raises MissingDependencyError where the package is not installed.
    """
    package = _elasticdeform()
    if warp.nodes is None:
        raise PlanError("the elasticdeform engine needs a displacement grid")
    flat = warp.coordinates(torch.device("cpu")).flatten(1).numpy()
    lowest = np.floor(flat.min(axis=1)).astype(int) - (_SPLINE_REACH if warp.cubic else 1)
    highest = np.ceil(flat.max(axis=1)).astype(int) + (_SPLINE_REACH if warp.cubic else 1)
    # deform_grid spans its input with the displacement grid. The patch is the first of `tiles`
    # equal parts of an input that holds every voxel needed, and the grid goes on mirrored, which
    # leaves the spline inside the patch as it is.
    steps = [max(p - 1, 1) for p in warp.shape]
    tiles = [max(1, ceil((b - a) / s)) for a, b, s in zip(lowest, highest, steps, strict=True)]
    more = [(0, (t - 1) * (n - 1)) for t, n in zip(tiles, warp.nodes_shape, strict=True)]
    nodes = np.pad(warp.nodes, [(0, 0), *more], mode="reflect")
    sizes = [t * s + 1 for t, s in zip(tiles, steps, strict=True)]
    start = [_start(int(a), int(b), size, n) for a, b, size, n in zip(lowest, highest, sizes, label.shape, strict=True)]
    pixels, values = _region(image, label, start, sizes)

    forward = np.linalg.inv(warp.matrix)  # deform_grid inverts what it is given
    affine = np.column_stack([forward, -forward @ (warp.offset - start)])
    axes = tuple(range(len(sizes)))
    moved = package.deform_grid(
        [pixels, values],
        nodes,
        order=[3 if warp.cubic else 1, 0],
        mode=["nearest", "constant"],
        cval=[0.0, IGNORE],
        crop=[slice(0, p) for p in warp.shape],
        axis=[tuple(a + 1 for a in axes), axes],
        affine=affine,
    )
    return torch.from_numpy(moved[0]).to(image.device), torch.from_numpy(moved[1]).to(image.device)


ELASTIC_ENGINES: dict[str, Engine] = {"torch": warp_torch, "elasticdeform": warp_elasticdeform}


def require_engine(name: str) -> Engine:
    """The engine of this name, ready to run.

    Raises PlanError for an unknown name, MissingDependencyError where its package is missing.
    """
    if name not in ELASTIC_ENGINES:
        raise PlanError(f"there is no elastic engine {name!r}; there are {', '.join(sorted(ELASTIC_ENGINES))}")
    if name == "elasticdeform":
        _elasticdeform()
    return ELASTIC_ENGINES[name]


def _elasticdeform() -> ModuleType:
    try:
        import elasticdeform
    except ImportError as error:  # also what its NumPy 1 wheel raises under NumPy 2
        raise MissingDependencyError(
            "elasticdeform is not installed; install it with: pip install --no-binary elasticdeform elasticdeform"
        ) from error
    package: ModuleType = elasticdeform
    return package


# ---- torch ------------------------------------------------------------------------------------


def _nearest(label: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """The label at the nearest voxel [*shape] uint8, IGNORE outside the scan."""
    index = coordinates.round().long()  # [d, *shape]
    flat = torch.zeros_like(index[0])
    outside = torch.zeros_like(index[0], dtype=torch.bool)
    for axis, n in enumerate(label.shape):
        inside = index[axis].clamp(0, n - 1)
        outside |= inside != index[axis]
        flat += inside * label.stride(axis)
    memory = label.as_strided((1 + sum((n - 1) * label.stride(a) for a, n in enumerate(label.shape)),), (1,))
    return memory[flat].masked_fill_(outside, IGNORE)


def _linear(image: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Image [C, *source] at voxel coordinates [d, *shape] -> [C, *shape], border values outside."""
    sizes = coordinates.new_tensor(image.shape[1:]).reshape(-1, *[1] * (coordinates.ndim - 1))
    grid = (coordinates * (2 / sizes) + (1 / sizes - 1)).flip(0)  # last axis first, as grid_sample wants it
    sampled = F.grid_sample(
        image[None], grid.movedim(0, -1)[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0]


def _cubic(image: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Cubic B-spline interpolation as 2^d weighted linear look-ups (Ruijters et al. 2008)."""
    d = coordinates.shape[0]
    sizes = coordinates.new_tensor(image.shape[1:]).reshape(-1, *[1] * d)
    at = coordinates.clamp(min=0).minimum(sizes - 1)
    f = at - at.floor()
    w0, w3 = (1 - f) ** 3 / 6, f**3 / 6
    w1, w2 = 2 / 3 - f**2 * (2 - f) / 2, 2 / 3 - (1 - f) ** 2 * (1 + f) / 2
    near, far = w0 + w1, w2 + w3
    places = (at.floor() - 1 + w1 / near, at.floor() + 1 + w3 / far)
    coefficients = _mirror_one(_coefficients(image))
    out = image.new_zeros((image.shape[0], *coordinates.shape[1:]))
    for corner in product((0, 1), repeat=d):
        place = torch.stack([places[side][axis] for axis, side in enumerate(corner)]) + 1
        weight = torch.stack([(near, far)[side][axis] for axis, side in enumerate(corner)]).prod(0)
        out += weight * _linear(coefficients, place)
    return out


def _coefficients(image: torch.Tensor) -> torch.Tensor:
    """Cubic B-spline coefficients [C, *source], mirrored at the borders."""
    with torch.autocast(image.device.type, enabled=False):
        for axis, n in enumerate(image.shape[1:], start=1):
            prefilter = torch.from_numpy(spline_prefilter(n).astype(np.float32)).to(image.device)
            image = torch.tensordot(prefilter, image, dims=([1], [axis])).movedim(0, axis)
    return image


def _mirror_one(image: torch.Tensor) -> torch.Tensor:
    """One more voxel at every border, mirrored about the border voxel's centre."""
    for axis, n in enumerate(image.shape[1:], start=1):
        second = min(1, n - 1)
        image = torch.cat([image.narrow(axis, second, 1), image, image.narrow(axis, n - 1 - second, 1)], dim=axis)
    return image


# ---- elasticdeform ----------------------------------------------------------------------------


def _start(lowest: int, highest: int, size: int, length: int) -> int:
    """Where an input of `size` voxels begins that holds lowest..highest and, if it can, lies in the scan."""
    return min(max(min(lowest, length - size), highest + 1 - size), max(lowest, highest + 1 - size))


def _region(
    image: torch.Tensor, label: torch.Tensor, start: list[int], sizes: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Voxels start..start+sizes: a view where they lie inside the scan, else border values and IGNORE."""
    if all(a >= 0 and a + size <= n for a, size, n in zip(start, sizes, label.shape, strict=True)):
        cut = tuple(slice(a, a + size) for a, size in zip(start, sizes, strict=True))
        return image[(slice(None), *cut)].cpu().numpy(), label[cut].cpu().numpy()
    wanted = [np.arange(a, a + size) for a, size in zip(start, sizes, strict=True)]
    index = [torch.from_numpy(np.clip(w, 0, n - 1)).to(image.device) for w, n in zip(wanted, label.shape, strict=True)]
    for axis, places in enumerate(index):
        image, label = image.index_select(axis + 1, places), label.index_select(axis, places)
    pixels, values = image.cpu().numpy(), label.cpu().numpy()
    for axis, (w, places) in enumerate(zip(wanted, index, strict=True)):
        values[(*[slice(None)] * axis, w != places.cpu().numpy())] = IGNORE
    return pixels, values
