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

    While it is open, a block lies as [i, j, k, L], as channels-last networks answer; closed, as
    [L, i, j, k], so that one label is read in one go. budget: bytes held in memory (None: no limit).
    Raises UsageError where the disk is too full for the rest.
    """

    def __init__(self, cuts: Cuts, labels: int, device: torch.device, budget: int | None = None) -> None:
        self.cuts, self.labels, self.device, self.budget = cuts, labels, device, budget
        self._held: OrderedDict[Place, Tensor] = OrderedDict()
        self._bytes = 0
        self._slots: dict[Place, int] = {}
        self._free: list[int] = []
        self._slot_bytes = 4 * labels * prod(max(np.diff(axis)) for axis in cuts)
        self._slots_made = 0
        self._file: FileIO | None = None
        self._closed: set[Place] = set()

    def shape(self, place: Place) -> Place:
        """Voxels of a block along I, J, K."""
        i, j, k = (axis[n + 1] - axis[n] for axis, n in zip(self.cuts, place, strict=True))
        return i, j, k

    def open(self, place: Place) -> Tensor:
        """An open block to add to, as a view [L, i, j, k]; zero when it is new."""
        block = self._take(place)
        if block is None:
            block = torch.zeros((*self.shape(place), self.labels), device=self.device)
        self._hold(place, block)
        return block.permute(3, 0, 1, 2)

    def close_block(self, place: Place, total: Tensor) -> Tensor:
        """Divide an open block by `total` [i, j, k]; returns it [L, i, j, k]."""
        given = self._take(place)
        if given is None:
            given = torch.zeros((*self.shape(place), self.labels), device=self.device)
        block = given.permute(3, 0, 1, 2) / total
        block = block.contiguous()
        self._closed.add(place)
        self._hold(place, block)
        return block

    def read(self, place: Place, label: int) -> NDArray[np.float32]:
        """The probabilities of one label in a closed block [i, j, k]."""
        held = self._held.get(place)
        if held is not None:
            array: NDArray[np.float32] = held[label].cpu().numpy()
            return array
        out = np.empty(self.shape(place), dtype=np.float32)
        self._read(self._slots[place], label * out.nbytes, out)
        return out

    def drop(self, place: Place) -> None:
        """Forget a block."""
        held = self._held.pop(place, None)
        if held is not None:
            self._bytes -= held.numel() * 4
        slot = self._slots.pop(place, None)
        if slot is not None:
            self._free.append(slot)
        self._closed.discard(place)

    def clear(self) -> None:
        """Forget everything and give the disk space back."""
        self._held.clear()
        self._slots.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    # ---- memory and file --------------------------------------------------------------------

    def _take(self, place: Place) -> Tensor | None:
        held = self._held.pop(place, None)
        if held is not None:
            self._bytes -= held.numel() * 4
            return held
        slot = self._slots.pop(place, None)
        if slot is None:
            return None
        out = np.empty((*self.shape(place), self.labels), dtype=np.float32)
        self._read(slot, 0, out)
        self._free.append(slot)
        return torch.from_numpy(out)

    def _hold(self, place: Place, block: Tensor) -> None:
        """Keep a block in memory as the last one used; others go to the file where there is no room."""
        size = block.numel() * 4
        while self.budget is not None and self._held and self._bytes + size > self.budget:
            self._evict()
        self._held[place] = block
        self._bytes += size

    def _evict(self) -> None:
        place, block = self._held.popitem(last=False)
        self._bytes -= block.numel() * 4
        slot = self._free.pop() if self._free else self._new_slot()
        try:
            if self._file is None:
                self._file = _scratch()
            self._file.seek(slot * self._slot_bytes)
            rest = block.numpy().data.cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise UsageError(
                f"the disk does not hold the probabilities of {self.labels} labels ({error.strerror}); make room in "
                f"{_folder()}"
            ) from error
        self._slots[place] = slot

    def _new_slot(self) -> int:
        self._slots_made += 1
        return self._slots_made - 1

    def _read(self, slot: int, offset: int, out: NDArray[np.float32]) -> None:
        file = cast(FileIO, self._file)  # there is one, for what has a slot was written
        file.seek(slot * self._slot_bytes + offset)
        rest = out.data.cast("B")
        while rest:
            count = file.readinto(rest)
            if not count:
                raise UsageError("the scratch file of this prediction ended too early; predict this scan again")
            rest = rest[count:]


def _folder() -> str:
    return str(_SCRATCH) if _SCRATCH.is_dir() else tempfile.gettempdir()


def _scratch() -> FileIO:
    """An unbuffered file without a name, which goes when it is closed, or when the process dies."""
    return tempfile.TemporaryFile(prefix="medseg-", dir=_folder(), buffering=0)
