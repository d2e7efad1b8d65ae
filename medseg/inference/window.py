"""The sliding window: a network that sees patches answers for a whole scan.

Windows cover the scan evenly and overlap; each answer counts most at its centre (Gaussian weights,
Isensee et al., Nature Methods 18:203, 2021). The sum of the weights over a regular grid of windows
is a product of three one-dimensional sums, so it takes no volume of its own: memory is the
probabilities, L x volume in float32, and a few patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

import numpy as np
import torch
from torch import Tensor

from medseg.core.errors import UsageError
from medseg.core.plan import Plan
from medseg.nets import margin

Network = Callable[[Tensor], Tensor]
Place = tuple[int, ...]

# A window's weight never falls below this part of its peak on an axis: corners of the scan, which
# one window alone sees, still divide by something.
_LEAST_WEIGHT = 1e-3


def sliding_window(
    network: Network,
    image: Tensor,
    plan: Plan,
    device: torch.device,
    precision: torch.dtype | None = None,
    mirror: Sequence[int] | None = None,
) -> Tensor:
    """Softmax probabilities [L, I, J, K] (float32, on the CPU) of a prepared image [C, I, J, K].

    network: [B, C, *patch] -> logits, in evaluation mode, on `device`; precision: autocast type
    (None leaves the caller's autocast as it is); mirror: for plan.window.flips, the label that each
    label becomes when left and right are exchanged (`core.labels.mirrored_values`).

    Scans smaller than the patch are padded with their border (mirrored for networks that lose a
    margin). 2D plans go slice by slice over K. Windows at or below plan.window.skip_below are
    background and are not computed. Where a GPU's memory does not hold a batch, it is halved.
    Raises UsageError where it does not hold a single window.
    """
    axes = _axes(plan, (image.shape[1], image.shape[2], image.shape[3]))
    labels = plan.network.out_channels
    home = _home(device, labels * image[0].numel() * 4)
    ask = _Ask(
        network, plan.ndim, device, _flips(plan), tuple(mirror[:labels]) if mirror else None, plan.augment.lateral
    )
    autocast = torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)
    with torch.inference_mode():
        canvas = _Canvas(axes, labels, home)
        windows = _windows(image, axes, plan.window.skip_below, canvas)
        if precision is None:
            _compute(ask, windows, canvas, plan.window.batch)
        else:
            with autocast:
                _compute(ask, windows, canvas, plan.window.batch)
        return canvas.finish()


def starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """First voxels of windows that cover 0..size-1 evenly, neighbours sharing at least `overlap`.

    A single window that is larger than the axis stands centred on it, so it starts before voxel 0.
    """
    if size <= window:
        return (-((window - size) // 2),)
    step = min(window, max(1, int(window * (1 - overlap) + 1e-6)))
    count = -(-(size - window) // step) + 1
    return tuple(int(start) for start in np.linspace(0, size - window, count).round())


def profile(window: int, sigma: float) -> Tensor:
    """Weights [window] along one axis: a Gaussian of `sigma` windows around the middle, never zero."""
    if sigma <= 0:
        return torch.ones(window)
    place = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    return torch.exp(-0.5 * (place / (sigma * window)) ** 2).clamp_min(_LEAST_WEIGHT).float()


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """How windows cover one axis of the scan.

    size: voxels of the scan; window: voxels a window answers for, from each of `starts` on;
    weights [window]; total [size]: their sum over all windows; table: where the voxel `first` places
    before the scan's own, and those after it, are read from (border or mirror image).
    """

    size: int
    window: int
    starts: tuple[int, ...]
    margin: int
    weights: Tensor
    total: Tensor
    table: Tensor
    first: int

    def reads(self, start: int) -> Tensor:
        """The scan's voxels that make up the input of the window at `start`, with its margins."""
        begin = start - self.margin + self.first
        return self.table[begin : begin + self.window + 2 * self.margin]

    def writes(self, start: int) -> tuple[slice, slice]:
        """Which part of the scan the window answers for, and where that part lies in the window."""
        low, high = max(start, 0), min(start + self.window, self.size)
        return slice(low, high), slice(low - start, high - start)


def _axes(plan: Plan, shape: tuple[int, int, int]) -> tuple[_Axis, ...]:
    margins = (*margin(plan.network), 0)[:3]
    reflect = plan.window.mirror or max(margins) > 0
    return tuple(
        _axis(size, patch - 2 * lost, lost, plan, reflect)
        for size, patch, lost in zip(shape, plan.patch, margins, strict=True)
    )


def _axis(size: int, window: int, lost: int, plan: Plan, reflect: bool) -> _Axis:
    places = starts(size, window, plan.window.overlap)
    weights = profile(window, plan.window.sigma)
    before, after = lost - places[0], max(0, places[-1] + window + lost - size)
    table = np.pad(np.arange(size), (before, after), mode="reflect" if reflect else "edge")
    axis = _Axis(size, window, places, lost, weights, torch.zeros(size), torch.from_numpy(table), before)
    for start in places:
        there, here = axis.writes(start)
        axis.total[there] += weights[here]
    return axis


class _Canvas:
    """Where the weighted answers add up: float32 [L, I, J, K]."""

    def __init__(self, axes: tuple[_Axis, ...], labels: int, home: torch.device) -> None:
        self.axes = axes
        self.scores = torch.zeros((labels, *(axis.size for axis in axes)), dtype=torch.float32, device=home)
        i, j, k = (axis.weights.to(home) for axis in axes)
        self.weights = i[:, None, None] * j[:, None] * k  # [I, J, K] of one window

    def add(self, place: Place, probabilities: Tensor) -> None:
        """Add the answer [L, I, J, K] of the window at `place`."""
        there, here = self._parts(place)
        answer = probabilities[:, *here].to(self.scores.device)
        self.scores[:, *there].addcmul_(answer, self.weights[here])

    def add_background(self, place: Place) -> None:
        there, here = self._parts(place)
        self.scores[0][there].add_(self.weights[here])

    def finish(self) -> Tensor:
        for axis, shape in zip(self.axes, ((-1, 1, 1), (-1, 1), (-1,)), strict=True):
            self.scores.div_(axis.total.to(self.scores.device).reshape(shape))
        return self.scores.cpu()

    def _parts(self, place: Place) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        parts = [axis.writes(start) for axis, start in zip(self.axes, place, strict=True)]
        return tuple(there for there, _ in parts), tuple(here for _, here in parts)


@dataclass(frozen=True, slots=True)
class _Ask:
    """A question to the network: which axes are flipped in turn, and what labels then become."""

    network: Network
    ndim: int
    device: torch.device
    flips: tuple[tuple[int, ...], ...]
    mirror: tuple[int, ...] | None
    lateral: int

    def __call__(self, windows: Tensor) -> Tensor:
        """Windows [B, C, I, J, K] -> probabilities [B, L, I', J', K], averaged over the flips."""
        windows = windows.to(self.device)
        answer = sum(self._flipped(windows, flipped) for flipped in self.flips)
        return torch.as_tensor(answer) / len(self.flips)

    def _flipped(self, windows: Tensor, axes: tuple[int, ...]) -> Tensor:
        dims = [axis + 2 for axis in axes]
        x = windows.flip(dims) if dims else windows
        logits = self.network(x) if self.ndim == 3 else self.network(x[..., 0])[..., None]
        probabilities = torch.softmax(logits.float(), dim=1)
        if dims:
            probabilities = probabilities.flip(dims)
        if self.lateral in axes and self.mirror is not None:
            probabilities = probabilities[:, list(self.mirror)]
        return probabilities


def _flips(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """Every combination of the axes that training flipped; only the identity where that is not wanted."""
    axes = sorted({axis for axis in plan.augment.flips if axis < plan.ndim}) if plan.window.flips else []
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))


def _windows(
    image: Tensor, axes: tuple[_Axis, ...], skip_below: float | None, canvas: _Canvas
) -> Iterator[tuple[Place, Tensor]]:
    """The windows that have to be computed, [C, I, J, K] each; the others go to `canvas` as background."""
    for place in product(*(axis.starts for axis in axes)):
        window = _read(image, [axis.reads(start) for axis, start in zip(axes, place, strict=True)])
        if skip_below is not None and float(window[0].max()) <= skip_below:
            canvas.add_background(place)
        else:
            yield place, window


def _read(image: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """image[:, rows0][:, :, rows1][..., rows2], copying no more than the window."""
    lowest = [int(r.min()) for r in rows]
    for dim, (r, low) in enumerate(zip(rows, lowest, strict=True), start=1):
        image = image.narrow(dim, low, int(r.max()) - low + 1)
    for dim, (r, low) in enumerate(zip(rows, lowest, strict=True), start=1):
        if image.shape[dim] != len(r):  # padded: some voxels are read more than once
            image = image.index_select(dim, r.to(image.device) - low)
    return image


def _compute(ask: _Ask, windows: Iterator[tuple[Place, Tensor]], canvas: _Canvas, batch: int) -> None:
    batch = max(1, batch)
    while waiting := list(islice(windows, batch)):
        while waiting:
            chunk = waiting[:batch]
            try:
                answers = ask(torch.stack([window for _, window in chunk]))
            except torch.OutOfMemoryError as error:
                if batch == 1:
                    shape = "×".join(str(n) for n in chunk[0][1].shape[1:])
                    raise UsageError(
                        f"the GPU's memory does not hold one window of {shape} voxels; use --device cpu"
                    ) from error
                batch //= 2
                _free(ask.device)
                continue
            for (place, _), answer in zip(chunk, answers, strict=True):
                canvas.add(place, answer)
            waiting = waiting[batch:]


def _home(device: torch.device, needed: int) -> torch.device:
    """The GPU itself where the probabilities take at most a quarter of its free memory, else the CPU."""
    if device.type == "cuda" and 4 * needed <= torch.cuda.mem_get_info(device)[0]:
        return device
    return torch.device("cpu")


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
