"""Blocks of probabilities, most of them in memory or, where there are many labels, in a file without a name.

What the windows still add to grows with the number of labels, while a scan's other arrays do not. So
only a fixed number of bytes of it is held in memory; the blocks that were not touched for longest go
to a scratch file, which is deleted as soon as it is opened, so that nothing stays behind however the
process ends. Nothing is rounded: the file holds float32 as memory does.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from io import FileIO
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.core.errors import UsageError

Place = tuple[int, int, int]
Cuts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

# /tmp is in memory on many systems, /var/tmp is for what is large (Filesystem Hierarchy Standard 5.15).
_SCRATCH = Path("/var/tmp")


class Cells:
    """Float32 blocks between `cuts` [I, J, K axis]: block (a, b, c) holds voxels cuts[0][a]..cuts[0][a + 1], ….

    A block lies as [L, i, j, k], so that one label is read in one go. budget: bytes held in memory (None: no
    limit). Raises UsageError where the disk is too full for the rest.
    """

    def __init__(self, cuts: Cuts, labels: int, device: torch.device, budget: int | None = None) -> None:
        self.cuts, self.labels, self.device, self.budget = cuts, labels, device, budget
        self._held: OrderedDict[Place, Tensor] = OrderedDict()  # by last use; each at the start of a buffer
        self._size = labels * prod(int(max(np.diff(axis))) for axis in cuts)  # of a buffer, and of a slot
        self._buffers: list[Tensor] = []  # free ones
        self._file: FileIO | None = None
        self._slots: dict[Place, int] = {}
        self._free: list[int] = []
        self._slots_made = 0

    def shape(self, place: Place) -> Place:
        """Voxels of a block along I, J, K."""
        i, j, k = (axis[n + 1] - axis[n] for axis, n in zip(self.cuts, place, strict=True))
        return i, j, k

    def open(self, place: Place) -> Tensor:
        """A block to change in place, as a view [L, i, j, k]; zero when it is new."""
        known = place in self._held or place in self._slots
        block = self._load(place)
        if not known:
            block.zero_()
        return block.view(self.labels, *self.shape(place))

    def read(self, place: Place, label: int) -> NDArray[np.float32]:
        """The numbers of one label in a block [i, j, k]."""
        held = self._held.get(place)
        if held is not None:
            array: NDArray[np.float32] = held.view(self.labels, *self.shape(place))[label].cpu().numpy()
            return array
        out = np.empty(self.shape(place), dtype=np.float32)
        self._read(self._slots[place], label * out.nbytes, out)
        return out

    def drop(self, place: Place) -> None:
        """Forget a block."""
        held = self._held.pop(place, None)
        if held is not None:
            self._buffers.append(_whole(held))
        if place in self._slots:
            self._free.append(self._slots.pop(place))

    def clear(self) -> None:
        """Forget everything and give the disk space back."""
        self._held.clear()
        self._buffers.clear()
        self._slots.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    # ---- memory and file --------------------------------------------------------------------

    def _load(self, place: Place) -> Tensor:
        """A block in memory, its numbers [n], as the last one used."""
        if place in self._held:
            self._held.move_to_end(place)
            return self._held[place]
        block = self._buffer(place)
        slot = self._slots.pop(place, None)
        if slot is not None:
            self._read(slot, 0, block.numpy())
            self._free.append(slot)
        self._held[place] = block
        return block

    def _buffer(self, place: Place) -> Tensor:
        """Room for a block [n]; where the budget is used up, another block goes to the file for it."""
        full = self.budget is not None and 4 * self._size * (len(self._held) + 1) > self.budget
        if full and self._held and not self._buffers:
            self._evict()
        # Buffers of one size, used again and again: what comes and goes in all sizes would tear memory to pieces.
        whole = self._buffers.pop() if self._buffers else torch.empty(self._size, device=self.device)
        return whole[: self.labels * prod(self.shape(place))]

    def _evict(self) -> None:
        place, block = self._held.popitem(last=False)
        slot = self._free.pop() if self._free else self._slots_made
        self._slots_made = max(self._slots_made, slot + 1)
        try:
            if self._file is None:
                self._file = _scratch()
            self._file.seek(4 * self._size * slot)
            rest = block.numpy().data.cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise UsageError(
                f"the disk does not hold the probabilities of {self.labels} labels ({error.strerror}); make room in "
                f"{_folder()}"
            ) from error
        self._slots[place] = slot
        self._buffers.append(_whole(block))

    def _read(self, slot: int, offset: int, out: NDArray[np.float32]) -> None:
        file = cast(FileIO, self._file)  # there is one, for what has a slot was written
        file.seek(4 * self._size * slot + offset)
        rest = out.data.cast("B")
        while rest:
            count = file.readinto(rest)
            if not count:
                raise UsageError("the scratch file of this prediction ended too early; predict this scan again")
            rest = rest[count:]


def _whole(block: Tensor) -> Tensor:
    """The buffer at whose start a block lies."""
    buffer = torch.empty(0, device=block.device)
    return buffer.set_(block.untyped_storage())


def _folder() -> str:
    return str(_SCRATCH) if _SCRATCH.is_dir() else tempfile.gettempdir()


def _scratch() -> FileIO:
    """An unbuffered file without a name, which goes when it is closed, or when the process dies."""
    return tempfile.TemporaryFile(prefix="medseg-", dir=_folder(), buffering=0)
