"""Supervisely: a project folder with meta.json and, per dataset, img/ and ann/NAME.json.

Read are bitmap, polygon (with holes) and rectangle; points, lines, graphs and cuboids cover no area
and are left out by name. A bitmap is base64(zlib(PNG)), its mask the PNG's alpha channel, its first
pixel at `origin` [x, y]. Vertices are pixel centres and edges belong to the shape; so do the edges of
a hole to the hole. Objects are painted in the file's order, later ones over earlier ones.
"""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import FormatError
from medseg.formats.annotations._files import PICTURES, Tree, image_size, read_json, require_size
from medseg.formats.annotations._picture import Canvas, Collection, Mask, Pending, Picture
from medseg.formats.annotations._shapes import ShapeError, points_of, polygon_with_edge, rectangle_with_edge
from medseg.formats.quiet import quiet

_META = "meta.json"
_AREAS = ("bitmap", "polygon", "rectangle")
_NO_AREA = ("point", "line", "graph", "cuboid", "polyline")
_SPARE = 1 << 20  # bytes that a PNG may need beyond four a pixel


def recognises(tree: Tree) -> bool:
    """Whether there is a meta.json with folders ann/ below it."""
    if tree.only is not None:
        return tree.only.name == _META and bool(_annotations(tree))
    return any(file.name == _META for file in tree.files) and bool(_annotations(tree))


def find(tree: Tree) -> Collection:
    """Every annotation of every dataset in the project."""
    files = _annotations(tree)
    names = [_name(tree, file) for file in files]
    pictures = [Pending(name, partial(_read, tree, file)) for name, file in zip(names, files, strict=True)]
    return Collection("supervisely", tuple(pictures), _classes(tree))


def _annotations(tree: Tree) -> list[Path]:
    return [file for file in tree.files if file.parent.name == "ann" and file.suffix.lower() == ".json"]


def _classes(tree: Tree) -> tuple[str, ...]:
    meta = next((file for file in tree.files if file.name == _META), None)
    classes = read_json(meta).get("classes") if meta is not None else None
    listed = classes if isinstance(classes, list) else []
    return tuple(str(entry["title"]) for entry in listed if isinstance(entry, dict) and "title" in entry)


def _name(tree: Tree, path: Path) -> str:
    image = path.name[: -len(".json")]
    plain = image.rpartition(".")[0] if image.lower().endswith(PICTURES) else image
    return tree.relative(path.parent.parent / plain)


def _read(tree: Tree, path: Path) -> Picture:
    raw = read_json(path)
    name = path.name[: -len(".json")]
    image = _image(path.parent.parent / "img", name, path)
    size = image_size(image, path, upright=True)
    stated = raw.get("size")
    if isinstance(stated, dict):
        require_size((stated.get("height"), stated.get("width")), size, image, path)
    objects = raw.get("objects")
    if not isinstance(objects, list):
        raise FormatError(path, "has no list of objects")
    canvas = Canvas(size)
    for entry in objects:
        _paint(canvas, entry if isinstance(entry, dict) else {})
    return canvas.picture(image, upright=True)


def _image(folder: Path, name: str, annotation: Path) -> Path:
    """img/NAME; older exports leave the image's extension out of the annotation's name."""
    if (folder / name).is_file():
        return folder / name
    for extension in PICTURES:
        if (folder / f"{name}{extension}").is_file():
            return folder / f"{name}{extension}"
    raise FormatError(annotation, f"belongs to the image {name!r}, but img/ holds no such file", "missing-image")


def _paint(canvas: Canvas, entry: dict[str, Any]) -> None:
    name, kind = str(entry.get("classTitle") or "").strip(), str(entry.get("geometryType") or "")
    if not name:
        canvas.leave_out("broken-shape", "an object has no class")
    elif kind in _NO_AREA:
        canvas.leave_out("unsupported-shape", f"objects of the type {kind!r} cover no area", name)
    elif kind not in _AREAS:
        canvas.leave_out("unsupported-shape", f"objects of the type {kind!r} are not read", name)
    else:
        try:
            canvas.paint(name, *_mask(kind, entry, canvas.size))
        except ShapeError as error:
            canvas.leave_out("broken-shape", f"a {kind} cannot be painted: {error}", name)


def _mask(kind: str, entry: dict[str, Any], size: tuple[int, int]) -> tuple[Mask, tuple[int, int]]:
    if kind == "bitmap":
        bitmap = _part(entry, "bitmap")
        column, row = points_of([bitmap.get("origin")], size, least=1)[0].astype(int).tolist()
        return _bitmap(bitmap.get("data"), size), (row, column)
    outline = _part(entry, "points")
    if kind == "rectangle":
        return rectangle_with_edge(points_of(outline.get("exterior"), size, least=2), size), (0, 0)
    mask = polygon_with_edge(points_of(outline.get("exterior"), size), size)
    holes = outline.get("interior") or []
    if not isinstance(holes, list):
        raise ShapeError("its interior is no list of outlines")
    for hole in holes:
        mask = mask & ~polygon_with_edge(points_of(hole, size), size)
    return mask, (0, 0)


def _part(entry: dict[str, Any], key: str) -> dict[str, Any]:
    part = entry.get(key)
    if not isinstance(part, dict):
        raise ShapeError(f"it has no {key}")
    return part


def _bitmap(given: Any, size: tuple[int, int]) -> Mask:
    from PIL import Image

    try:
        unpacker = zlib.decompressobj()
        png = unpacker.decompress(base64.b64decode(str(given or "")), 4 * size[0] * size[1] + _SPARE)
    except (zlib.error, binascii.Error, ValueError):
        raise ShapeError("its data are no base64 of zlib") from None
    try:
        with quiet(), Image.open(io.BytesIO(png)) as picture:
            if picture.height > size[0] or picture.width > size[1]:
                raise ShapeError("its bitmap is larger than the image")
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            return np.asarray(picture.convert("RGBA").getchannel("A") if has_alpha else picture.convert("L")) > 0
    except ShapeError:
        raise
    except Exception as error:  # damaged pictures raise anything from SyntaxError to struct.error
        raise ShapeError("its bitmap is no PNG") from error
