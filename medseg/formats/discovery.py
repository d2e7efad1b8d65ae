"""Finding scans in folders and giving each a name that is its own."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medseg.core.case import Finding, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.identifiers import Identifiers
from medseg.core.reading import refused_by_all
from medseg.formats.archives import is_archive, unpack

# Longest first, so that .nii.gz counts as one extension.
EXTENSIONS: dict[str, str] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".tif": "image",
    ".tiff": "image",
    ".bmp": "image",
    ".gif": "image",
    ".ppm": "image",
    ".pgm": "image",
    ".dicom": "dicom",
    ".dcm": "dicom",
    ".ima": "dicom",
}
# What is written for a scan: its name and one of these.
_OUTPUT_SUFFIXES = (".nii.gz", ".png", ".tif", ".seg.dcm")


def find_sources(root: Path, unpack_to: Path | None = None, keep_identifiers: bool = False) -> list[Source]:
    """Every scan below `root`, sorted by name; see `medseg.formats.discover`."""
    if not root.exists():
        raise FormatError(root, "there is no such file or folder")
    archives = [path for path in ([root] if root.is_file() else _files(root)) if is_archive(path)]
    found = [] if archives == [root] else _found(root)
    for archive in archives:
        found += _in_archive(archive, root, unpack_to)
    if not keep_identifiers:
        identifiers = Identifiers.among(source for source, _ in found)
        found = [(replace(source, name=identifiers.mask(source.name)), extension) for source, extension in found]
    return sorted(_uniquely_named(found, root), key=lambda source: source.name)


def _found(root: Path) -> list[tuple[Source, str]]:
    """The scans in a file or below a folder, archives aside, each with the extension of its file."""
    if root.is_file():
        return [(source, extension_of(root)) for source in _sources_in_file(root)]
    found: list[tuple[Source, str]] = []
    maybe_dicom: list[Path] = []
    for path in _files(root):
        extension = extension_of(path)
        if is_archive(path):
            continue
        if EXTENSIONS.get(extension, "dicom") == "dicom":
            maybe_dicom.append(path)
        else:
            found.append((_file_source(path, extension, root), extension))
    if maybe_dicom:
        from medseg.formats.dicom_index import find_series

        found += [(source, extension_of(source.path)) for source in find_series(maybe_dicom, root)]
    return found


def _in_archive(archive: Path, root: Path, unpack_to: Path | None) -> list[tuple[Source, str]]:
    """The scans in an archive, under its name; the archive itself with the reason where there is no getting at them."""
    relative = archive.name if archive == root else archive.relative_to(root).as_posix()
    name = relative[: -len(archive.suffix)]
    try:
        if unpack_to is None:
            raise FormatError(archive, "is an archive; unpack it first", "unsupported-syntax")
        # A folder of the archive's own, still telling its name in sentences about the files in it.
        folder = unpack_to / hashlib.sha256(relative.encode()).hexdigest()[:8] / archive.name
        unpack(archive, folder)
    except FormatError as error:
        problem = Finding(error.code, Severity.ERROR, error.reason)
        return [(Source(archive, (archive,), "archive", name, findings=(problem,)), archive.suffix)]
    return [(replace(source, name=f"{name}/{source.name}"), extension) for source, extension in _found(folder)]


def one_source(path: Path) -> Source:
    """The one scan that a file or folder holds; see `medseg.formats.source_of`."""
    if not path.exists():
        raise FormatError(path, "there is no such file or folder")
    sources = _sources_in_file(path) if path.is_file() else find_sources(path)
    usable = [source for source in sources if refused_by_all(source) is None] or sources
    if len(usable) == 1:
        return usable[0]
    kind = "file" if path.is_file() else "folder"
    if not usable:
        raise FormatError(path, f"this {kind} holds no scan (DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF)")
    names = ", ".join(source.name for source in usable[:3])
    raise FormatError(path, f"this {kind} holds {len(usable)} scans ({names}, …); name one of them", "multi-volume")


def _sources_in_file(path: Path) -> list[Source]:
    extension = extension_of(path)
    if EXTENSIONS.get(extension, "dicom") != "dicom":
        return [_file_source(path, extension, path.parent)]
    from medseg.formats.dicom_index import sources_of_file

    return sources_of_file(path, path.name[: len(path.name) - len(extension)])


def extension_of(path: Path) -> str:
    """The extension as this package counts it, in lower case ('' where there is none that it knows)."""
    name = path.name.lower()
    return next((extension for extension in EXTENSIONS if name.endswith(extension) and name != extension), "")


def _file_source(path: Path, extension: str, root: Path) -> Source:
    relative = path.relative_to(root).as_posix()
    return Source(path, (path,), EXTENSIONS[extension], relative[: len(relative) - len(extension)])


def _files(root: Path) -> Iterator[Path]:
    """Files below `root` in a fixed order, hidden ones left out. Links to folders are followed, each folder once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _uniquely_named(found: Sequence[tuple[Source, str]], root: Path) -> list[Source]:
    """Make names unique: first with the source's extension, then with a hash of its relative path.

    Names that differ only in case, or in how an accented letter is encoded, count as equal, as they
    are on common file systems.
    """
    plain = Counter(_folded(source.name) for source, _ in found)
    names = [
        source.name + _written_extension(source, extension) if plain[_folded(source.name)] > 1 else source.name
        for source, extension in found
    ]
    base, length = list(names), 8
    while length <= 64 and (clashing := _clashing(names)):
        for n in clashing:
            names[n] = f"{base[n]}-{_digest(found[n][0], root)[:length]}"
        length += 8
    return [replace(source, name=name) for (source, _), name in zip(found, names, strict=True)]


def _clashing(names: Sequence[str]) -> list[int]:
    """The places of names that another has, too, or whose output file would stand where a folder must."""
    counts = Counter(_folded(name) for name in names)
    folders = {_folded(str(parent)) for name in names for parent in PurePosixPath(name).parents}
    return [
        n
        for n, name in enumerate(names)
        if counts[_folded(name)] > 1 or any(_folded(name) + suffix in folders for suffix in _OUTPUT_SUFFIXES)
    ]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _written_extension(source: Source, extension: str) -> str:
    return source.path.name[len(source.path.name) - len(extension) :] if source.path.is_file() else ""


def _digest(source: Source, root: Path) -> str:
    paths = (source.path, *source.files)
    relative = [(path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths]
    return hashlib.sha256("\n".join(relative).encode()).hexdigest()
