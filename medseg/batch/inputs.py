"""What a series' files hold, as one hash: read once, and again only where a file was touched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg.batch.ledger import Fact, path_hash
from medseg.core.case import Source

_HEADERS = frozenset({".mhd", ".nhdr"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """hash: of the contents of all files and of what of them belongs to the series; facts: of each file."""

    hash: str
    facts: tuple[Fact, ...]


def hash_inputs(source: Source, known: Mapping[str, Fact]) -> Inputs:
    """Hash a series' files; those as `known` has them (size, time and inode) are not read again.

    Raises OSError where a file is gone or cannot be read.
    """
    facts = tuple(_fact(file, known.get(path_hash(file))) for file in files_of(source))
    parts = [source.format, repr(source.frames), *(fact.sha256 for fact in facts)]
    return Inputs(hashlib.sha256("\n".join(parts).encode()).hexdigest(), facts)


def unchanged(source: Source, known: Mapping[str, Fact]) -> bool:
    """Whether size, time and inode of all files are those `known`; no file is read."""
    try:
        return all(_is_as(known.get(path_hash(file)), file.stat()) for file in files_of(source))
    except OSError:
        return False


def files_of(source: Source) -> tuple[Path, ...]:
    """The files of a series in their order; of a folder that is listed as broken, none.

    The pixels of a .mhd or .nhdr lie in a file beside it: whatever shares its name counts.
    """
    files = tuple(file for file in (source.files or (source.path,)) if not file.is_dir())
    if source.path.suffix.lower() not in _HEADERS:
        return files
    stem = f"{source.path.stem}."
    beside = sorted(file for file in source.path.parent.iterdir() if file.name.startswith(stem) and file.is_file())
    return (*files, *(file for file in beside if file not in files))


def signature(source: Source, untimed: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a series' files: what a series that is still arriving changes.

    untimed: a folder whose files' times mean nothing.
    """
    listed = []
    for file in files_of(source):
        try:
            stat = file.stat()
        except OSError:
            listed.append((str(file), -1, 0))
            continue
        listed.append((str(file), stat.st_size, 0 if file.is_relative_to(untimed) else stat.st_mtime_ns))
    return tuple(sorted(listed))


def _is_as(fact: Fact | None, stat: os.stat_result) -> bool:
    return fact is not None and (fact.size, fact.mtime_ns, fact.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _fact(file: Path, known: Fact | None) -> Fact:
    stat = file.stat()
    if known is not None and _is_as(known, stat):
        return known
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Fact(path_hash(file), stat.st_size, stat.st_mtime_ns, stat.st_ino, digest)
