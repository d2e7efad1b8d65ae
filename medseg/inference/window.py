"""The sliding window: a network that sees patches answers for a whole scan.

Windows cover the scan evenly and overlap; each answer counts most at its centre (Gaussian weights,
Isensee et al., Nature Methods 18:203, 2021). The sum of the weights over a regular grid of windows
is a product of three one-dimensional sums, so it takes no volume of its own. `sliding_window` keeps
the probabilities of the whole volume, L x volume in float32; `slabs.segment` only those that
windows still add to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations, product
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from medseg.core.errors import UsageError
from medseg.core.plan import Plan
from medseg.nets import margin

Network = Callable[[Tensor], Tensor]
Place = tuple[int, int, int]

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

    Of plans with instances they are those of `with_interiors`: the last one is no label of its own.

    network: [B, C, *patch] -> logits, in evaluation mode, on `device`; precision: autocast type
    (None leaves the caller's autocast as it is); mirror: for plan.window.flips, the label that each
    label becomes when left and right are exchanged (`core.labels.mirrored_values`).

    Scans smaller than the patch are padded with their border (mirrored for networks that lose a
    margin). 2D plans go slice by slice over K. Windows at or below plan.window.skip_below are
    background and are not computed. Where a GPU's memory does not hold a batch, it is halved.
    Raises UsageError where it does not hold a single window.
    """
    return whole(Engine(network, plan, device, precision, tuple(mirror) if mirror else None), image)


def whole(engine: Engine, image: Tensor) -> Tensor:
    """What `sliding_window` gives, of an engine."""
    axes = axes_of(engine.plan, (image.shape[1], image.shape[2], image.shape[3]))
    labels = engine.plan.network.out_channels
    with torch.inference_mode():
        canvas = _Whole(axes, labels, home(engine.device, labels * image[0].numel() * 4))
        cover(engine, image, axes, canvas)
        return canvas.finish()


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A network and how it is asked: the arguments of `sliding_window`, which explains them.

    head: where given, the network's last layer, which works voxel by voxel ([F, …] -> [L, …]): `network`
    then gives the features [B, F, *patch] before it, and the logits of all labels never exist for a whole window.
    """

    network: Network
    plan: Plan
    device: torch.device
    precision: torch.dtype | None = None
    mirror: tuple[int, ...] | None = None
    head: Network | None = None


class Canvas(Protocol):
    """Where the windows' weighted answers add up."""

    def add(self, place: Place, answer: Answer, share: float) -> None:
        """Add `share` of an answer for the window at `place`."""

    def add_background(self, place: Place) -> None:
        """Add a window that is background, and was not computed."""

    def settle(self, place: Place) -> None:
        """All windows up to that at `place` are in; those that follow start there or further along the swept axis."""


def cover(engine: Engine, image: Tensor, axes: tuple[Axis, ...], canvas: Canvas, sweep: int = 0) -> None:
    """Put the answers for all windows of an image [C, I, J, K] on a canvas, ascending along the axis `sweep`.

    Raises UsageError where the GPU's memory does not hold a single window.
    """
    windows = _windows(image, axes, engine.plan.window.skip_below, sweep)
    given = engine.precision
    with torch.autocast(engine.device.type, given, given != torch.float32) if given else nullcontext():
        _compute(engine, windows, canvas)


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
class Axis:
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


def axes_of(plan: Plan, shape: tuple[int, int, int]) -> tuple[Axis, ...]:
    """How the plan's windows cover a prepared image of this shape."""
    margins = (*margin(plan.network), 0)[:3]
    reflect = plan.window.mirror or max(margins) > 0
    return tuple(
        _axis(size, patch - 2 * lost, lost, plan, reflect)
        for size, patch, lost in zip(shape, plan.patch, margins, strict=True)
    )


def _axis(size: int, window: int, lost: int, plan: Plan, reflect: bool) -> Axis:
    places = starts(size, window, plan.window.overlap)
    weights = profile(window, plan.window.sigma)
    before, after = lost - places[0], max(0, places[-1] + window + lost - size)
    table = np.pad(np.arange(size), (before, after), mode="reflect" if reflect else "edge")
    axis = Axis(size, window, places, lost, weights, torch.zeros(size), torch.from_numpy(table), before)
    for start in places:
        there, here = axis.writes(start)
        axis.total[there] += weights[here]
    return axis


def window_weights(axes: tuple[Axis, ...], device: torch.device) -> Tensor:
    """What every voxel of a window's answer counts [I, J, K]."""
    i, j, k = (axis.weights.to(device) for axis in axes)
    return i[:, None, None] * j[:, None] * k


class _Whole:
    """A canvas of the whole volume: float32 [L, I, J, K]."""

    def __init__(self, axes: tuple[Axis, ...], labels: int, home: torch.device) -> None:
        self.axes = axes
        self.scores = torch.zeros((labels, *(axis.size for axis in axes)), dtype=torch.float32, device=home)
        self.weights = window_weights(axes, home)

    def add(self, place: Place, answer: Answer, share: float) -> None:
        there, here = self._parts(place)
        probabilities = answer.probabilities(here).to(self.scores.device)
        self.scores[:, *there].addcmul_(probabilities, self.weights[here], value=share)

    def add_background(self, place: Place) -> None:
        there, here = self._parts(place)
        self.scores[0][there].add_(self.weights[here])

    def settle(self, place: Place) -> None:
        """Nothing is given away before the end."""

    def finish(self) -> Tensor:
        for axis, shape in zip(self.axes, ((-1, 1, 1), (-1, 1), (-1,)), strict=True):
            self.scores.div_(axis.total.to(self.scores.device).reshape(shape))
        return self.scores.cpu()

    def _parts(self, place: Place) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        parts = [axis.writes(start) for axis, start in zip(self.axes, place, strict=True)]
        return tuple(there for there, _ in parts), tuple(here for _, here in parts)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the network said of one window, in its own precision, as the scan lies.

    raw: logits [L, I, J, K], or features [F, I, J, K] where the engine has a head; exchange: the label
    that each label becomes, where the window was shown with left and right exchanged.
    """

    raw: Tensor
    engine: Engine
    exchange: Tensor | None = None

    def probabilities(self, part: tuple[slice, ...]) -> Tensor:
        """Softmax over the labels [L, i, j, k] in a part of the window, float32 (see `with_interiors`)."""
        raw = self.raw[:, *part]
        logits = raw if self.engine.head is None else self.engine.head(raw)
        found = torch.softmax(logits.float(), dim=0)
        if self.engine.plan.instances is not None:
            return with_interiors(found)
        return found if self.exchange is None else found.index_select(0, self.exchange)


def with_interiors(classes: Tensor) -> Tensor:
    """Probabilities of background, interior and border [3, …] -> of background and object, and of an interior.

    An object is its interior and its border, so the second is never below the third: what wins among all
    three is what wins between background and object.
    """
    background, interior, border = classes.unbind(0)
    return torch.stack([background, interior + border, interior])


def _ask(engine: Engine, windows: Tensor, flipped: tuple[int, ...]) -> list[Answer]:
    """The answers for windows [B, C, I, J, K], shown with some axes flipped."""
    plan, dims = engine.plan, [axis + 2 for axis in flipped]
    windows = windows.to(engine.device)
    x = windows.flip(dims) if dims else windows
    raw = engine.network(x) if plan.ndim == 3 else engine.network(x[..., 0])[..., None]
    if dims:
        raw = raw.flip(dims)
    exchange = None
    if engine.mirror is not None and plan.augment.lateral in flipped:
        exchange = torch.tensor(engine.mirror[: plan.network.out_channels], device=engine.device)
    return [Answer(one, engine, exchange) for one in raw]


def _flips(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """Every combination of the axes that training flipped; only the identity where that is not wanted."""
    axes = sorted({axis for axis in plan.augment.flips if axis < plan.ndim}) if plan.window.flips else []
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))


def _windows(
    image: Tensor, axes: tuple[Axis, ...], skip_below: float | None, sweep: int
) -> Iterator[tuple[Place, Tensor | None]]:
    """All windows [C, I, J, K], those of one start along `sweep` after the other; None for background."""
    order = (sweep, *(a for a in range(3) if a != sweep))
    for chosen in product(*(axes[a].starts for a in order)):
        i, j, k = (chosen[order.index(a)] for a in range(3))
        place = (i, j, k)
        window = _read(image, [axis.reads(start) for axis, start in zip(axes, place, strict=True)])
        empty = skip_below is not None and float(window[0].max()) <= skip_below
        yield place, None if empty else window


def _read(image: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """image[:, rows0][:, :, rows1][..., rows2], copying no more than the window."""
    lowest = [int(r.min()) for r in rows]
    for dim, (r, low) in enumerate(zip(rows, lowest, strict=True), start=1):
        image = image.narrow(dim, low, int(r.max()) - low + 1)
    for dim, (r, low) in enumerate(zip(rows, lowest, strict=True), start=1):
        if image.shape[dim] != len(r):  # padded: some voxels are read more than once
            image = image.index_select(dim, r.to(image.device) - low)
    return image


def _compute(engine: Engine, windows: Iterator[tuple[Place, Tensor | None]], canvas: Canvas) -> None:
    flips = _flips(engine.plan)
    batch = max(1, engine.plan.window.batch)
    waiting: list[tuple[Place, Tensor]] = []
    for place, window in windows:
        if window is None:
            canvas.add_background(place)
        else:
            waiting.append((place, window))
        if len(waiting) >= batch:
            for flipped in flips:
                batch = _answer(engine, waiting, canvas, flipped, batch)
            waiting.clear()
        if not waiting:
            canvas.settle(place)
    for flipped in flips:
        batch = _answer(engine, waiting, canvas, flipped, batch)


def _answer(
    engine: Engine, waiting: list[tuple[Place, Tensor]], canvas: Canvas, flipped: tuple[int, ...], batch: int
) -> int:
    """Put the answers for all windows that wait on the canvas; returns the batch that the memory holds."""
    share = 1 / len(_flips(engine.plan))
    done = 0
    while done < len(waiting):
        chunk = waiting[done : done + batch]
        try:
            answers = _ask(engine, torch.stack([window for _, window in chunk]), flipped)
        except torch.OutOfMemoryError as error:
            if batch == 1:
                shape = "×".join(str(n) for n in chunk[0][1].shape[1:])
                raise UsageError(
                    f"the GPU's memory does not hold one window of {shape} voxels; use --device cpu"
                ) from error
            batch //= 2
            _free(engine.device)
            continue
        for (place, _), answer in zip(chunk, answers, strict=True):
            canvas.add(place, answer, share)
        done += len(chunk)
    return batch


def home(device: torch.device, needed: int) -> torch.device:
    """The GPU itself where `needed` bytes take at most a quarter of its free memory, else the CPU."""
    if device.type == "cuda" and 4 * needed <= torch.cuda.mem_get_info(device)[0]:
        return device
    return torch.device("cpu")


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
