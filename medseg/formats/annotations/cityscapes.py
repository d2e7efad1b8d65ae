"""Cityscapes: gtFine/SPLIT/CITY/*_gtFine_{labelIds,instanceIds,labelTrainIds,color}.png beside leftImg8bit/.

Of several label pictures of one image the first of that list is read. Numbers and colours are those
of the data set's own scripts; its void classes (unlabelled, ego vehicle, out of roi, static …) are
not to be judged, and neither is whatever its training numbers leave out.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import FormatError
from medseg.formats.annotations._files import PICTURES, Tree, image_size, require_size
from medseg.formats.annotations._picture import IGNORE, Collection, Pending, Picture, from_values
from medseg.formats.checks import in_short, require_content
from medseg.formats.quiet import quiet

_FILE = re.compile(r"(?P<base>.+)_(?:gtFine|gtCoarse)_(?P<kind>labelIds|instanceIds|labelTrainIds|color)\.png")
_KINDS = ("labelIds", "instanceIds", "labelTrainIds", "color")
_INSTANCES = 1000  # instanceIds: class * 1000 + number of the object
_VOID = IGNORE[-1]
_VOID_CLASSES = ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground")

# id, name, training id (255: left out), colour; from the data set's published table of labels.
_LABELS: tuple[tuple[int, str, int, tuple[int, int, int]], ...] = (
    (0, "unlabeled", 255, (0, 0, 0)),
    (1, "ego vehicle", 255, (0, 0, 0)),
    (2, "rectification border", 255, (0, 0, 0)),
    (3, "out of roi", 255, (0, 0, 0)),
    (4, "static", 255, (0, 0, 0)),
    (5, "dynamic", 255, (111, 74, 0)),
    (6, "ground", 255, (81, 0, 81)),
    (7, "road", 0, (128, 64, 128)),
    (8, "sidewalk", 1, (244, 35, 232)),
    (9, "parking", 255, (250, 170, 160)),
    (10, "rail track", 255, (230, 150, 140)),
    (11, "building", 2, (70, 70, 70)),
    (12, "wall", 3, (102, 102, 156)),
    (13, "fence", 4, (190, 153, 153)),
    (14, "guard rail", 255, (180, 165, 180)),
    (15, "bridge", 255, (150, 100, 100)),
    (16, "tunnel", 255, (150, 120, 90)),
    (17, "pole", 5, (153, 153, 153)),
    (18, "polegroup", 255, (153, 153, 153)),
    (19, "traffic light", 6, (250, 170, 30)),
    (20, "traffic sign", 7, (220, 220, 0)),
    (21, "vegetation", 8, (107, 142, 35)),
    (22, "terrain", 9, (152, 251, 152)),
    (23, "sky", 10, (70, 130, 180)),
    (24, "person", 11, (220, 20, 60)),
    (25, "rider", 12, (255, 0, 0)),
    (26, "car", 13, (0, 0, 142)),
    (27, "truck", 14, (0, 0, 70)),
    (28, "bus", 15, (0, 60, 100)),
    (29, "caravan", 255, (0, 0, 90)),
    (30, "trailer", 255, (0, 0, 110)),
    (31, "train", 16, (0, 80, 100)),
    (32, "motorcycle", 17, (0, 0, 230)),
    (33, "bicycle", 18, (119, 11, 32)),
)  # fmt: skip


def recognises(tree: Tree) -> bool:
    """Whether there are files named as Cityscapes names its label pictures."""
    return bool(_files(tree))


def find(tree: Tree) -> Collection:
    """Every labelled image, by the best of its label pictures."""
    best: dict[tuple[Path, str], tuple[int, Path]] = {}
    for file, match in _files(tree):
        rank = _KINDS.index(match["kind"])
        key = (file.parent, match["base"])
        best[key] = min(best.get(key, (rank, file)), (rank, file))
    pictures = [
        Pending(tree.relative(folder / base), partial(_read, tree, path, base, _KINDS[rank]))
        for (folder, base), (rank, path) in best.items()
    ]
    classes = tuple(name for _, name, _, _ in _LABELS if name not in _VOID_CLASSES)
    return Collection("cityscapes", tuple(pictures), classes)


def _files(tree: Tree) -> list[tuple[Path, re.Match[str]]]:
    matches = ((file, _FILE.fullmatch(file.name)) for file in tree.files)
    return [(file, match) for file, match in matches if match]


def _read(tree: Tree, path: Path, base: str, kind: str) -> Picture:
    image = _image(tree, path, base)
    values = _pixels(path, kind)
    require_size(values.shape, image_size(image, path), image, path)
    return from_values(image, values, _names(kind, values), [_VOID, *_VOID_CLASSES])


def _image(tree: Tree, path: Path, base: str) -> Path:
    for extension in PICTURES:
        for stem in (f"{base}_leftImg8bit", base):
            found = tree.pictures.get(f"{stem}{extension}", [])
            if len(found) == 1:
                return found[0]
            for file in found:  # equal names in several splits
                if file.parent.parts[-2:] == path.parent.parts[-2:]:
                    return file
    raise FormatError(path, f"there is no image {base}_leftImg8bit", "missing-image")


def _pixels(path: Path, kind: str) -> NDArray[np.int32]:
    """Numbers [rows, columns]: class ids, training ids, or colours packed into one number."""
    from PIL import Image

    require_content(path)
    try:
        with quiet(), Image.open(path) as picture:
            values = np.asarray(picture.convert("RGB") if kind == "color" else picture).astype(np.int32)
    except Exception as error:  # damaged pictures raise anything from SyntaxError to struct.error
        raise FormatError(path, f"cannot be read as a label picture ({in_short(error)})") from error
    if kind == "color":
        return values @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    if values.ndim != 2:
        raise FormatError(path, "is a colour picture, whose colours name no label values", "not-a-label-map")
    return np.where(values >= _INSTANCES, values // _INSTANCES, values) if kind == "instanceIds" else values


def _names(kind: str, values: NDArray[np.int32]) -> dict[int, str]:
    if kind == "color":
        names: dict[int, str] = {}
        for _, name, _, (red, green, blue) in _LABELS:
            names.setdefault(red << 16 | green << 8 | blue, name)
        return names
    if kind == "labelTrainIds":
        trained = {trained: name for _, name, trained, _ in _LABELS if trained != 255}
        return {int(value): trained.get(int(value), _VOID) for value in np.unique(values)}
    return {number: name for number, name, _, _ in _LABELS}
