"""Zip archives of scans, unpacked into a folder of our own and never out of it."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from medseg.core.errors import FormatError
from medseg.formats.checks import in_short, require_content

_LARGEST = 256 << 30  # bytes of everything in one archive, unpacked
# Pixels seldom shrink to a fiftieth; a thousandth is a bomb.
_RATIO = 1000
_FREE = 1.1  # of what will be written must be free on the disk


def is_archive(path: Path) -> bool:
    """Whether a file is named as a zip archive."""
    return path.suffix.lower() == ".zip"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into `folder`, which is made.

    Entries that would land elsewhere (absolute paths, '..', links) are never written.
    Raises FormatError where the archive is damaged, encrypted, implausibly large, unsafe or does not fit the disk.
    """
    require_content(archive)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            _check(archive, entries, folder)
            for entry, target in _targets(archive, entries, folder):
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise FormatError(archive, f"cannot be unpacked ({in_short(error)})") from error
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma", "bz2"):
            raise FormatError(archive, f"its compressed data are damaged ({in_short(error)})") from error
        raise


def _check(archive: Path, entries: list[zipfile.ZipInfo], folder: Path) -> None:
    if any(entry.flag_bits & 1 for entry in entries):
        raise FormatError(archive, "is encrypted; unpack it first", "unsupported-syntax")
    size = sum(entry.file_size for entry in entries)
    packed = max(1, archive.stat().st_size)
    if size > _LARGEST or size > _RATIO * packed + (1 << 20):
        raise FormatError(archive, f"claims to hold {size >> 20} MiB in {packed >> 10} KiB, which cannot be scans")
    if size * _FREE > shutil.disk_usage(folder).free:
        raise FormatError(archive, f"needs {size >> 20} MiB to be unpacked, which are not free beside the results")


def _targets(archive: Path, entries: list[zipfile.ZipInfo], folder: Path) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        kind = entry.external_attr >> 28  # the file type of unix modes
        unsafe = name.is_absolute() or ".." in name.parts or PureWindowsPath(entry.filename).drive or kind == 0xA
        if unsafe:
            raise FormatError(archive, f"holds the unsafe entry {entry.filename!r}; it was not unpacked", "unreadable")
        yield entry, folder.joinpath(*name.parts)
