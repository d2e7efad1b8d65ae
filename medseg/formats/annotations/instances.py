"""Instance maps of ImageJ, StarDist, Cellpose and the like: a picture of numbers, one per object, beside each image.

Either two folders (images/ and masks/, labels/, instances/ or labelmaps/) with equal names, or one
folder where the map is called as the image with _masks, _cp_masks, _label, _labels or _instances
behind it. Every object belongs to one class, `object`; its numbers are kept. TIFF stacks are read too.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import FormatError
from medseg.formats.annotations._files import PICTURES, Tree
from medseg.formats.annotations._picture import Collection, Pending, Picture

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw")
_MAP_FOLDERS = ("masks", "mask", "labels", "label", "instances", "labelmaps", "cp_masks")
_SUFFIX = re.compile(r"(?P<base>.+?)[_\-. ](?:cp_masks|masks?|labels?|instances|labelmap|lbl)", re.IGNORECASE)
_LOOKED_AT = 6  # maps, to tell whether they count objects
_MANY = 8  # as many classes may well be classes
_CLASS = "object"


def recognises(tree: Tree) -> bool:
    """Whether there are label pictures beside images that count objects: 1 … n, another n in each."""
    pairs = _pairs(tree) if tree.only is None else []
    tops, counted = set(), 0
    for _, path in pairs[:: max(1, len(pairs) // _LOOKED_AT)]:
        try:
            present = np.unique(_numbers(path))
        except FormatError:
            continue
        present = present[present > 0]
        if present.size:
            tops.add(int(present[-1]))
            counted += int(present[-1]) == present.size
    return len(tops) > 1 and max(tops) > _MANY and counted > 0


def find(tree: Tree) -> Collection:
    """Every image with an instance map."""
    pictures = [
        Pending(tree.relative(image)[: -len(image.suffix)], partial(_read, image, path)) for image, path in _pairs(tree)
    ]
    return Collection("instances", tuple(pictures), (_CLASS,))


def _pairs(tree: Tree) -> list[tuple[Path, Path]]:
    """(image, map) for every image that has a map; sorted by the image's path."""
    files = [file for file in tree.files if file.suffix.lower() in PICTURES]
    by_stem = {(file.parent, file.stem): file for file in files}
    pairs: dict[Path, Path] = {}
    for file in files:
        match = _SUFFIX.fullmatch(file.stem)
        stems = [file.stem, *([match["base"]] if match else [])]
        if file.parent.name.lower() in _MAP_FOLDERS:
            folders = [file.parent.parent / name for name in _folders_beside(file.parent)]
        else:
            folders, stems = [file.parent], stems[1:]
        image = next((by_stem[key] for folder in folders for stem in stems if (key := (folder, stem)) in by_stem), None)
        if image is not None:
            pairs[image] = file
    return sorted(pairs.items())


def _folders_beside(folder: Path) -> list[str]:
    return [child.name for child in sorted(folder.parent.iterdir()) if child.name.lower() in _IMAGE_FOLDERS]


def _numbers(path: Path) -> NDArray[np.int32]:
    """Object numbers [rows, columns, pages]."""
    from medseg import formats

    array: NDArray[np.int32] = formats.read_labels(formats.source_of(path)).array
    if array.min() < 0:
        raise FormatError(path, "holds numbers below zero, so it is no instance map", "not-a-label-map")
    return array


def _read(image: Path, path: Path) -> Picture:
    numbers = _numbers(path)
    count = int(np.unique(numbers[numbers > 0]).size)
    return Picture(
        image=image,
        labels=(numbers > 0).astype(np.int32),
        classes=(_CLASS,),
        shapes={_CLASS: count} if count else {},
        instances=numbers,
    )
