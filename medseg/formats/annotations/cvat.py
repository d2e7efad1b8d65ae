"""CVAT for images 1.1: one XML file for all images (https://docs.cvat.ai/docs/other/xml_format).

Read are polygon, box, ellipse (both also turned) and mask; polylines, points, cuboids and skeletons
cover no area and are left out by name. Coordinates are pixel edges; pixels whose centre lies inside
belong to a shape (COCO's rule, which CVAT's own export follows). Shapes are painted by z_order, then
in the file's order; later ones lie over earlier ones. Videos (tracks) are refused.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.case import Finding, Severity
from medseg.core.errors import FormatError
from medseg.formats.annotations._files import Tree, head, image_size, require_size
from medseg.formats.annotations._picture import Canvas, Collection, Mask, Pending, Picture
from medseg.formats.annotations._shapes import (
    Points,
    ShapeError,
    ellipse_by_area,
    mask_from_runs,
    points_of,
    polygons_by_area,
    turned_box,
)
from medseg.formats.checks import in_short, require_content

_AREAS = ("polygon", "box", "ellipse", "mask")
_NO_AREA = ("polyline", "points", "cuboid", "skeleton")


def recognises(tree: Tree) -> bool:
    """Whether some XML file is CVAT's."""
    return any(_is_cvat(text) for text in tree.heads(".xml"))


def find(tree: Tree) -> Collection:
    """The images of every CVAT file. Raises FormatError where all of them are broken or hold videos."""
    files = [file for file in tree.annotations(".xml") if _is_cvat(head(file)) or file == tree.only]
    pictures: list[Pending] = []
    classes: dict[str, None] = {}
    problems: list[FormatError] = []
    for file in files:
        try:
            root = _parse(file)
        except FormatError as error:
            problems.append(error)
            continue
        classes |= dict.fromkeys(name.text.strip() for name in root.iterfind(".//labels/label/name") if name.text)
        images = root.findall("image")
        pictures += [Pending(_name(element), partial(_read, tree, file, element)) for element in images]
        if root.find("track") is not None:
            problems.append(FormatError(file, "holds video tracks; export it as 'CVAT for images 1.1'"))
    if problems and not pictures:
        raise problems[0]
    findings = [Finding(problem.code, Severity.ERROR, str(problem)) for problem in problems]
    return Collection("cvat", tuple(pictures), tuple(classes), tuple(findings))


def _is_cvat(text: str) -> bool:
    return "<annotations" in text and ("<image" in text or "<track" in text or "<meta" in text)


class _Plain(ET.TreeBuilder):
    """Refuses document types: annotations have none, and their entities can grow without bound."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError(f"it declares a document type ({name}), which no CVAT export does")


def _parse(path: Path) -> ET.Element:
    require_content(path)
    parser = ET.XMLParser(target=_Plain())
    try:
        return ET.parse(path, parser).getroot()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise FormatError(path, f"is not valid XML ({in_short(error)})") from error


def _name(element: ET.Element) -> str:
    name = str(Path(_wanted(element)).with_suffix("")) if _wanted(element) else "image"
    subset = element.get("subset")
    return f"{subset}/{name}" if subset else name


def _wanted(element: ET.Element) -> str:
    return element.get("name", "").replace("\\", "/")


def _read(tree: Tree, path: Path, element: ET.Element) -> Picture:
    subset = element.get("subset") or "."
    bases = [path.parent, path.parent / "images", tree.root, tree.root / "images"]
    folders = [*(base / subset for base in bases), *bases]
    image = tree.image(_wanted(element), folders, path)
    size = image_size(image, path, upright=True)
    require_size((element.get("height"), element.get("width")), size, image, path)
    canvas = Canvas(size)
    for shape in sorted(element, key=_z_order):
        _paint(canvas, shape)
    return canvas.picture(image, upright=True)


def _z_order(shape: ET.Element) -> float:
    try:
        return float(shape.get("z_order", 0))
    except ValueError:
        return 0.0


def _paint(canvas: Canvas, shape: ET.Element) -> None:
    name = shape.get("label", "").strip()
    if shape.tag in _NO_AREA:
        canvas.leave_out("unsupported-shape", f"shapes of the type {shape.tag!r} cover no area", name)
    elif shape.tag == "tag":
        canvas.leave_out("unsupported-shape", "a tag names the whole image and no area", name, Severity.INFO)
    elif shape.tag not in _AREAS:
        canvas.leave_out("unsupported-shape", f"shapes of the type {shape.tag!r} are not read", name)
    elif not name:
        canvas.leave_out("broken-shape", f"a {shape.tag} has no label")
    else:
        try:
            canvas.paint(name, *_mask(shape, canvas.size))
        except ShapeError as error:
            canvas.leave_out("broken-shape", f"a {shape.tag} cannot be painted: {error}", name)


def _mask(shape: ET.Element, size: tuple[int, int]) -> tuple[Mask, tuple[int, int]]:
    if shape.tag == "mask":
        return _stored_mask(shape, size)
    if shape.tag == "ellipse":
        cx, cy, rx, ry, degrees = _numbers(shape, "cx", "cy", "rx", "ry", "rotation")
        return ellipse_by_area((cx, cy), (rx, ry), degrees, size), (0, 0)
    return polygons_by_area([_outline(shape, size)], size), (0, 0)


def _outline(shape: ET.Element, size: tuple[int, int]) -> Points:
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair.strip()]
        return points_of(pairs, size)
    left, top, right, bottom, degrees = _numbers(shape, "xtl", "ytl", "xbr", "ybr", "rotation")
    box = turned_box(np.array([left, top]), np.array([right, bottom]), degrees)
    return points_of(box, size)


def _stored_mask(shape: ET.Element, size: tuple[int, int]) -> tuple[Mask, tuple[int, int]]:
    """The run lengths go along the rows: those of COCO on the transposed mask."""
    left, top, width, height = (int(value) for value in _numbers(shape, "left", "top", "width", "height"))
    if not (0 < width <= 2 * size[1] and 0 < height <= 2 * size[0]):
        raise ShapeError(f"its size of {width}x{height} pixels does not fit the image")
    try:
        counts: Any = [int(count) for count in shape.get("rle", "").split(",")]
    except ValueError:
        raise ShapeError("its run lengths are no whole numbers") from None
    return mask_from_runs(counts, (width, height)).T, (top, left)


def _numbers(shape: ET.Element, *names: str) -> list[float]:
    try:
        values = [float(shape.get(name, "0" if name == "rotation" else "")) for name in names]
    except ValueError:
        raise ShapeError(f"{', '.join(names)} are not all numbers") from None
    if not np.isfinite(values).all() or np.abs(values).max() > 1e9:
        raise ShapeError(f"{', '.join(names)} are not all finite numbers")
    return values
