"""Labels from annotation tools: one file per tool's format, found through the table below.

Nothing is ever downloaded: images that an annotation only links to are named as missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from medseg.core.errors import FormatError, UsageError
from medseg.formats.annotations._files import Tree, copy_image
from medseg.formats.annotations._picture import BACKGROUND, IGNORE, Collection, Pending, Picture

__all__ = [
    "BACKGROUND", "IGNORE", "READERS", "WRITERS", "Collection", "Pending", "Picture", "Writer", "copy_image", "detect",
    "load", "writer",
]  # fmt: skip

# A module of this table offers recognises(tree) -> bool and find(tree) -> Collection.
READERS: dict[str, str] = {
    "labelme": "medseg.formats.annotations.labelme",
    "cvat": "medseg.formats.annotations.cvat",
    "supervisely": "medseg.formats.annotations.supervisely",
    "coco": "medseg.formats.annotations.coco",
    "voc": "medseg.formats.annotations.voc",
    "cityscapes": "medseg.formats.annotations.cityscapes",
    "instances": "medseg.formats.annotations.instances",
}

# A module of this table offers Writer(folder, polygons) with add(…) per picture and finish(classes).
WRITERS: dict[str, str] = {
    "labelme": "medseg.formats.annotations.labelme",
    "coco": "medseg.formats.annotations.coco",
}


class Writer(Protocol):
    """Writes label maps in one tool's format into a folder."""

    def add(self, name: str, image: Path, labels: NDArray[Any], names: Mapping[int, str]) -> Counter[str]:
        """Write a picture's label map [rows, columns], `names` by value; returns the number of shapes by class."""
        ...

    def finish(self, classes: Sequence[str]) -> None:
        """Write what is about all pictures; `classes` in the order of their values."""
        ...


def writer(name: str, folder: Path, polygons: bool = False) -> Writer:
    """The writer of a format. Raises UsageError for one that is not in the table."""
    if name not in WRITERS:
        raise UsageError(f"labels are not written as {name!r}; choose one of {', '.join(WRITERS)}")
    made: Writer = import_module(WRITERS[name]).Writer(folder, polygons)
    return made


def detect(source: Path) -> str | None:
    """The name of the format that a folder (or one annotation file) holds; None where it holds none.

    Raises FormatError where `source` is missing, UsageError where it holds several formats.
    """
    tree = Tree.of(source)
    found = [name for name in READERS if _module(name).recognises(tree)]
    if len(found) > 1 and "instances" in found:
        found.remove("instances")  # label pictures often lie beside the file that they were made from
    if len(found) > 1:
        raise UsageError(f"{source}: holds annotations of {' and of '.join(found)}; say which with --format")
    return found[0] if found else None


def load(source: Path, name: str) -> Collection:
    """The annotated pictures in `source`, read one by one when they are asked for.

    Raises UsageError for an unknown format, FormatError where `source` holds none of it.
    """
    if name not in READERS:
        raise UsageError(f"there is no annotation format {name!r}; there are {', '.join(READERS)}")
    collection: Collection = _module(name).find(Tree.of(source))
    if not collection.pictures:
        raise FormatError(source, f"holds no annotations of the format {name}")
    return collection


def _module(name: str) -> Any:
    return import_module(READERS[name])
