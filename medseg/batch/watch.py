"""Scans that are still arriving: a series has no end marker, so it is taken when it has been quiet for a while."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medseg.batch.inputs import signature
from medseg.core.case import Source

Signature = tuple[tuple[str, int, int], ...]
Snapshot = frozenset[tuple[str, int, int]]


@dataclass(slots=True)
class Arrivals:
    """When each series last changed: its files, their sizes or times.

    quiet_for: seconds without a change after which a series counts as whole; clock: monotonic seconds;
    unpacked: where archives are unpacked anew at every look, so that times mean nothing.
    """

    quiet_for: float
    clock: Callable[[], float]
    unpacked: Path
    seen: dict[str, tuple[Signature, float]] = field(default_factory=dict)
    taken: dict[str, Signature] = field(default_factory=dict)

    def quiet(self, sources: Iterable[Source]) -> list[Source]:
        """The series that have been quiet for long enough and were not taken as they are now."""
        now = self.clock()
        ready = []
        for source in sources:
            mark = signature(source, self.unpacked)
            last, since = self.seen.get(source.name, (None, now))  # a folder that cannot be read has no files at all
            if mark != last:
                self.seen[source.name] = (mark, now)
            elif now - since >= self.quiet_for and self.taken.get(source.name) != mark:
                ready.append(source)
        return ready

    def take(self, sources: Iterable[Source]) -> None:
        """Note that these series are dealt with, as they were when they were last looked at."""
        self.taken |= {source.name: self.seen[source.name][0] for source in sources}

    def put_back(self, name: str) -> None:
        """The series changed meanwhile: wait for quiet again."""
        self.taken.pop(name, None)
        self.seen.pop(name, None)


def snapshot(root: Path, leave_out: Path) -> Snapshot:
    """Names, sizes and times of all files below `root` but those in `leave_out`; no file is opened."""
    return frozenset(_files(root, str(leave_out.resolve())))


def _files(root: Path, leave_out: str) -> Iterator[tuple[str, int, int]]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if os.path.realpath(Path(folder, name)) != leave_out]
        for name in names:
            path = Path(folder, name)
            try:
                stat = path.stat()
            except OSError:
                continue  # gone again
            yield str(path), stat.st_size, stat.st_mtime_ns
