"""Labelme (wkentaro's): one JSON file per image.

Read are polygon, rectangle, oriented_rectangle, circle and mask; points and lines cover no area and
are left out by name. Pixels are those of Labelme's own export: outlines are drawn with Pillow through
pixel centres, edges included; a mask (PNG) lies with its first pixel on its first point. Shapes are
painted in the file's order, later ones over earlier ones.
Other Labelme files that are used: `labels.txt` or `class_names.txt` for the order of the classes.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import FormatError
from medseg.core.files import write_json, write_text
from medseg.formats.annotations._files import Tree, copy_image, head, image_size, read_json, require_size
from medseg.formats.annotations._outlines import nested, pieces
from medseg.formats.annotations._picture import BACKGROUND, IGNORE, Canvas, Collection, Mask, Pending, Picture
from medseg.formats.annotations._shapes import (
    ShapeError,
    circle_with_edge,
    points_of,
    polygon_with_edge,
    rectangle_with_edge,
)
from medseg.formats.quiet import quiet

_MARKS = re.compile(r'"(imagePath|imageData|imageHeight|version|flags)"\s*:')
_SHAPES = re.compile(r'"shapes"\s*:')
_CLASS_LISTS = ("labels.txt", "class_names.txt")
_NO_AREA = ("point", "points", "line", "linestrip")
_VERSION = "5.5.0"  # of Labelme, the first whose files look like this
_NOTHING, _IGNORED = BACKGROUND[1], IGNORE[-1]
_LEAST = {"rectangle": 2, "circle": 2, "mask": 1}


def recognises(tree: Tree) -> bool:
    """Whether some JSON file has Labelme's keys."""
    return any(_is_labelme(text) for text in tree.heads(".json"))


def find(tree: Tree) -> Collection:
    """Every Labelme JSON file; other JSON files are passed over."""
    files = [file for file in tree.annotations(".json") if _is_labelme(head(file)) or file == tree.only]
    pictures = [Pending(tree.relative(file)[: -len(".json")], partial(_read, tree, file)) for file in files]
    return Collection("labelme", tuple(pictures), _classes(tree))


def _is_labelme(text: str) -> bool:
    return bool(_SHAPES.search(text) and _MARKS.search(text))


def _classes(tree: Tree) -> tuple[str, ...]:
    for name in _CLASS_LISTS:
        if (tree.root / name).is_file():
            lines = head(tree.root / name).splitlines()
            named = [line.strip() for line in lines if line.strip()]
            return tuple(name for name in named if name.lower() not in (*BACKGROUND, *IGNORE))
    return ()


def _read(tree: Tree, path: Path) -> Picture:
    raw = read_json(path)
    image = _image(tree, path, raw)
    size = image_size(image, path, upright=True)
    require_size((raw.get("imageHeight"), raw.get("imageWidth")), size, image, path)
    shapes = raw.get("shapes")
    if not isinstance(shapes, list):
        raise FormatError(path, "has no list of shapes")
    canvas = Canvas(size)
    for shape in shapes:
        _paint(canvas, shape if isinstance(shape, dict) else {})
    return canvas.picture(image, upright=isinstance(image, Path))


def _image(tree: Tree, path: Path, raw: dict[str, Any]) -> Path | bytes:
    embedded = raw.get("imageData")
    try:
        return tree.image(str(raw.get("imagePath") or ""), [path.parent], path)
    except FormatError:
        if not embedded:
            raise
    try:
        return base64.b64decode(str(embedded))
    except (ValueError, binascii.Error) as error:
        raise FormatError(path, "its imageData is no base64") from error


def _paint(canvas: Canvas, shape: dict[str, Any]) -> None:
    name = str(shape.get("label") or "").strip()
    kind = str(shape.get("shape_type") or "polygon")
    if not name:
        canvas.leave_out("broken-shape", "a shape has no label")
    elif kind in _NO_AREA:
        canvas.leave_out("unsupported-shape", f"shapes of the type {kind!r} cover no area", name)
    elif kind not in ("polygon", "oriented_rectangle", *_LEAST):
        canvas.leave_out("unsupported-shape", f"shapes of the type {kind!r} are not read", name)
    else:
        try:
            canvas.paint(name, *_mask(kind, shape, canvas.size))
        except ShapeError as error:
            canvas.leave_out("broken-shape", f"a {kind} cannot be painted: {error}", name)


def _mask(kind: str, shape: dict[str, Any], size: tuple[int, int]) -> tuple[Mask, tuple[int, int]]:
    points = points_of(shape.get("points"), size, _LEAST.get(kind, 3))
    if kind == "mask":
        column, row = points[0].astype(int).tolist()
        return _stored_mask(shape.get("mask"), size), (row, column)
    if kind == "rectangle":
        return rectangle_with_edge(points, size), (0, 0)
    if kind == "circle":
        return circle_with_edge(points, size), (0, 0)
    return polygon_with_edge(points, size), (0, 0)


def _stored_mask(given: Any, size: tuple[int, int]) -> Mask:
    from PIL import Image

    try:
        with quiet(), Image.open(io.BytesIO(base64.b64decode(str(given or "")))) as picture:
            if picture.height > 2 * size[0] or picture.width > 2 * size[1]:
                raise ShapeError("its mask is far larger than the image")
            return np.asarray(picture.convert("L")) > 0
    except ShapeError:
        raise
    except Exception as error:  # damaged pictures raise anything from SyntaxError to struct.error
        raise ShapeError("its mask is no picture in base64") from error


class Writer:
    """Writes label maps as Labelme files: NAME.json beside a copy of each image, and labels.txt.

    Every connected piece becomes a shape of its own: a mask, or, with `polygons`, an outline; where a
    piece has holes, what lies in them follows it (`_background_` where that is nothing). Either way
    reading the files back gives the same pixels.
    """

    def __init__(self, folder: Path, polygons: bool = False) -> None:
        self._folder = folder
        self._polygons = polygons

    def add(self, name: str, image: Path, labels: NDArray[Any], names: Mapping[int, str]) -> Counter[str]:
        """Write one picture's label map [rows, columns]; returns the number of shapes by class."""
        copied = copy_image(image, self._folder / name, "drop")
        shapes = _outlines(labels, names) if self._polygons else _masks(labels, names)
        raw = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": copied.name,
            "imageData": None,
            "imageHeight": labels.shape[0],
            "imageWidth": labels.shape[1],
        }
        write_json(self._folder / f"{name}.json", raw)
        return Counter(str(shape["label"]) for shape in shapes if shape["label"] != _NOTHING)

    def finish(self, classes: Sequence[str]) -> None:
        """Write the list of classes that Labelme is started with (`labelme --labels labels.txt`)."""
        write_text(self._folder / _CLASS_LISTS[0], "\n".join([_IGNORED, _NOTHING, *classes]) + "\n")


def _masks(labels: NDArray[Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    from PIL import Image

    shapes = []
    for piece in pieces(labels):
        (top, left), (height, width) = piece.corner, piece.mask.shape
        stored = io.BytesIO()
        Image.fromarray(piece.mask).save(stored, format="PNG")
        points = [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]]
        shape = _shape(names[piece.value], "mask", points)
        shapes.append(shape | {"mask": base64.b64encode(stored.getvalue()).decode("ascii")})
    return shapes


def _outlines(labels: NDArray[Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [_shape(names[value] if value else _NOTHING, "polygon", points.tolist()) for value, points in nested(labels)]


def _shape(name: str, kind: str, points: list[list[float]]) -> dict[str, Any]:
    return {
        "label": name, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {},
        "mask": None,
    }  # fmt: skip
