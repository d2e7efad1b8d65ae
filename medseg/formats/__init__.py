"""Reading and writing scans: one file per format, found through the table below.

Every reader gives float32 volumes on the exact source grid and refuses by name what it cannot
read rightly; every writer is atomic.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from medseg.core.case import Scan, Source
from medseg.core.errors import FormatError
from medseg.core.reading import Reading, refused_by_all
from medseg.core.volume import LabelMap, Volume

# A module of this table offers read(source) -> Scan (dicom: read(source, policy)) and read_labels(source) -> LabelMap.
FORMATS: dict[str, str] = {
    "nifti": "medseg.formats.nifti",
    "itk": "medseg.formats.itk",
    "image": "medseg.formats.image",
    "dicom": "medseg.formats.dicom",
}


def discover(root: Path, unpack_to: Path | None = None, *, keep_identifiers: bool = False) -> list[Source]:
    """Every scan in a file or folder (any mix of formats, at any depth), sorted by name.

    unpack_to: a folder of the caller's where zip archives are unpacked, and which has to stay as long
    as the sources are used; without it an archive is a source that is refused. keep_identifiers:
    leave patients' names and ids, as DICOM headers tell them, in names made of paths.

    Names are unique, also where upper and lower case are one, and so are the output paths made of
    them. A file that claims to be a scan but is none is a Source too: it carries an error finding,
    or `read` refuses it. Unrelated files are left out. Raises FormatError where `root` is missing.
    """
    from medseg.formats.discovery import find_sources

    return find_sources(Path(root), unpack_to, keep_identifiers)


def source_of(path: Path) -> Source:
    """The one scan that `path` is: a file, or a folder that holds one scan (such as a DICOM series).

    Raises FormatError where there is none, or more than one.
    """
    from medseg.formats.discovery import one_source

    return one_source(Path(path))


def read(source: Source, policy: Reading | None = None) -> Scan:
    """Read a scan: float32 volume [C, I, J, K] on its exact grid, with all that is odd about it.

    policy: what is done about odd DICOM series (a task's `reading`); None is the safe default.
    Raises FormatError (path, reason, code) where it is broken or would come out wrong.
    """
    _refuse_known_errors(source)
    module = _module(source)
    # Only DICOM comes slice by slice, so only there is something to decide.
    scan: Scan = module.read(source, policy or Reading()) if source.format == "dicom" else module.read(source)
    return scan


def read_labels(source: Source) -> LabelMap:
    """Read a label map: int32 values [I, J, K] as the file has them, without names.

    Floats that hold whole numbers are accepted. Raises FormatError for anything else.
    """
    _refuse_known_errors(source)
    labelmap: LabelMap = _module(source).read_labels(source)
    return labelmap


def write_labelmap(labelmap: LabelMap, source: Source, stem: Path) -> Path:
    """Write a label map beside `stem` as suits its source, atomically; returns the file's path.

    Volumes become `stem` + .nii.gz (a NIfTI source's header, affine and codes are kept as they
    are), pictures .png, multi-page pictures .tif; uint8, or uint16 where values above 255 need it.
    Raises FormatError where the label map is not on the source's grid or holds values below zero.
    """
    if source.format == "image":
        from medseg.formats import image

        suffix = ".png" if labelmap.array.shape[2] == 1 else ".tif"
        path = stem.with_name(stem.name + suffix)
        image.write_labelmap(labelmap, source, path)
        return path
    from medseg.formats import nifti

    path = stem.with_name(stem.name + ".nii.gz")
    nifti.write_labelmap(labelmap, source, path)
    return path


def write_volume(volume: Volume, path: Path) -> None:
    """Write an image as .nii / .nii.gz (one channel) or as .png / .tif (1 or 3 channels), atomically.

    Raises FormatError where the suffix is another one or the format cannot hold the values.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from medseg.formats import nifti

        nifti.write_volume(volume, path)
    elif name.endswith((".png", ".tif", ".tiff")):
        from medseg.formats import image

        image.write_volume(volume, path)
    else:
        raise FormatError(path, "images are written as .nii.gz, .nii, .png or .tif", "unsupported-syntax")


def _module(source: Source) -> Any:
    name = FORMATS.get(source.format)
    if name is None:
        raise FormatError(source.path, f"unknown format {source.format!r}; there are {', '.join(FORMATS)}")
    return import_module(name)


def _refuse_known_errors(source: Source) -> None:
    problem = refused_by_all(source)
    if problem is not None:
        raise FormatError(source.path, problem.message, problem.code)
