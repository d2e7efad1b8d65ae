"""What the names of files say: stems, channels, and which label belongs to which image."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.core.case import Source

CHANNEL = re.compile(r"(?P<base>.+)_(?P<number>\d{4})")
IMAGE_WORDS = ("image", "images", "img", "scan", "volume", "vol", "orig", "raw", "ct", "mr", "mri", "pet", "t1", "t2")
LABEL_WORDS = (
    "mask", "masks", "label", "labels", "labelmap", "seg", "segmentation", "gt", "groundtruth", "annotation",
    "annotations", "manual", "manual1", "truth", "1stho",
)  # fmt: skip

_DOUBLE = (".gz", ".bz2")


def stem(path: Path) -> str:
    """The file name without its extension; of `x.nii.gz` and `x.ome.tif` that is `x`."""
    name = path.name
    for suffix in _DOUBLE:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    head, dot, tail = name.rpartition(".")
    if head and dot and not tail.isdigit():
        name = head
    return name[: -len(".ome")] if name.lower().endswith(".ome") else name


def case_name(source: Source, folder: Path) -> str:
    """The case that a scan below `folder` belongs to: its path without extension, `__` for each slash.

    A DICOM series is named by the folder that holds it, or by its file where there is only one.
    """
    path = source.path
    if path.is_dir() and (path == folder or len(source.files) == 1) and source.files:
        path = source.files[0] if len(source.files) == 1 else path
    try:
        parts = path.relative_to(folder).parts
    except ValueError:
        parts = (path.name,)
    if not parts:
        return source.name
    last = parts[-1] if path.is_dir() else stem(path)
    return flat_id("/".join([*parts[:-1], last]))


def flat_id(name: str) -> str:
    """A case id that can name a file: slashes become `__`."""
    return name.strip("/").replace("\\", "/").replace("/", "__")


def bare(name: str, words: tuple[str, ...]) -> str:
    """`name` without one of `words` at its end or beginning: `a_mask` and `mask-a` are both `a`."""
    pattern = "|".join(words)
    for expression in (rf"(?P<rest>.+)[_\-. ](?:{pattern})", rf"(?:{pattern})[_\-. ](?P<rest>.+)"):
        match = re.fullmatch(expression, name, flags=re.IGNORECASE)
        if match:
            return match["rest"]
    return name
