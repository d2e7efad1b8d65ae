"""Pascal VOC: SegmentationClass/*.png beside JPEGImages/, also as CVAT and Labelme export it.

Classes are told by the colours of VOC's palette, or of labelmap.txt (`name:r,g,b::`) where there is
one; grey masks hold the classes' numbers, whose names are those of class_names.txt (Labelme's
export), labelmap.txt or VOC's. The void colour (224, 224, 192) and the number 255 are not to be judged.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import FormatError
from medseg.formats.annotations._files import PICTURES, Tree, head, image_size, require_size
from medseg.formats.annotations._picture import BACKGROUND, IGNORE, Collection, Pending, Picture, from_values
from medseg.formats.checks import in_short, require_content
from medseg.formats.quiet import quiet

_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassRaw", "SegmentationClassAug")
_VOID, _VOID_COLOR = 255, (224, 224, 192)
_VOID_NAME = IGNORE[-1]
_VOID_NAMES = (*IGNORE, "ignored", "void")
Color = tuple[int, int, int]


def recognises(tree: Tree) -> bool:
    """Whether there is a folder SegmentationClass with pictures."""
    return bool(_masks(tree))


def find(tree: Tree) -> Collection:
    """Every mask in SegmentationClass, by its image in JPEGImages."""
    files = _masks(tree)
    pictures = [
        Pending(tree.relative(file.parent.parent / file.stem), partial(_read, tree, file, _numbered(file)))
        for file in files
    ]
    declared = [name for file in files[:1] for name in _numbered(file) if name.lower() not in BACKGROUND]
    return Collection("voc", tuple(pictures), tuple(name for name in declared if name.lower() not in _VOID_NAMES))


def _masks(tree: Tree) -> list[Path]:
    files = [file for file in tree.files if file.parent.name in _FOLDERS and file.suffix.lower() == ".png"]
    first = next((name for name in _FOLDERS if any(file.parent.name == name for file in files)), "")
    return [file for file in files if file.parent.name == first]


def _numbered(mask: Path) -> tuple[str, ...]:
    """The names of the classes 0, 1, 2 …"""
    root = mask.parent.parent
    if (root / "labelmap.txt").is_file():
        return tuple(name for name, _ in _labelmap(root / "labelmap.txt"))
    if (root / "class_names.txt").is_file():
        names = [line.strip() for line in head(root / "class_names.txt").splitlines() if line.strip()]
        return tuple(name for name in names if name.lower() not in IGNORE)
    return _CLASSES


def _labelmap(path: Path) -> list[tuple[str, Color]]:
    rows: list[tuple[str, Color]] = []
    for line in head(path).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, color = line.split(":")[:2]
            red, green, blue = (int(part) for part in color.split(","))
        except ValueError:
            raise FormatError(path, f"the line {line.strip()!r} is not name:red,green,blue::") from None
        rows.append((name.strip(), (red, green, blue)))
    return rows


def _read(tree: Tree, path: Path, numbered: tuple[str, ...]) -> Picture:
    root = path.parent.parent
    image = _image(tree, path)
    numbers, colors = _pixels(path)
    require_size(numbers.shape[:2], image_size(image, path), image, path)
    listed = (root / "labelmap.txt").is_file()
    names = dict(enumerate(numbered)) | {_VOID: _VOID_NAME}
    names = {value: _VOID_NAME if name.lower() in _VOID_NAMES else name for value, name in names.items()}
    if colors is None or ((root / "class_names.txt").is_file() and not listed):
        return from_values(image, numbers, names, [_VOID_NAME])
    painted = {name: voc_color(value) for value, name in enumerate(numbered)}
    table = dict(_labelmap(root / "labelmap.txt")) if listed else painted
    by_color = {color: _VOID_NAME if name.lower() in _VOID_NAMES else name for name, color in table.items()}
    return _from_colors(image, colors, {_VOID_COLOR: _VOID_NAME} | by_color)


def _image(tree: Tree, path: Path) -> Path:
    root = path.parent.parent
    for folder in (root / "JPEGImages", root / "images", root):
        for extension in (".jpg", *PICTURES):
            if (folder / f"{path.stem}{extension}").is_file():
                return folder / f"{path.stem}{extension}"
    raise FormatError(path, "there is no image of its name in JPEGImages", "missing-image")


def _pixels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Numbers [rows, columns], and colours [rows, columns, 3] where the mask has any."""
    from PIL import Image

    require_content(path)
    try:
        with quiet(), Image.open(path) as picture:
            if picture.mode in ("L", "1"):
                return np.asarray(picture.convert("L")), None
            numbers = np.asarray(picture) if picture.mode == "P" else np.asarray(picture.convert("L"))
            return numbers, np.asarray(picture.convert("RGB"))
    except Exception as error:  # damaged pictures raise anything from SyntaxError to struct.error
        raise FormatError(path, f"cannot be read as a mask ({in_short(error)})") from error


def _from_colors(image: Path, colors: NDArray[np.uint8], names: dict[Color, str]) -> Picture:
    packed = colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    by_number = {red << 16 | green << 8 | blue: name for (red, green, blue), name in names.items()}
    return from_values(image, packed, by_number, [_VOID_NAME], _color_text)


def _color_text(packed: int) -> str:
    return f"colour {packed >> 16},{packed >> 8 & 255},{packed & 255}"


def voc_color(number: int) -> Color:
    """VOC's colour of a class: the bits of its number dealt out to red, green and blue, highest first."""
    red = green = blue = 0
    for place in range(8):
        bits = number >> (3 * place)
        red |= (bits & 1) << (7 - place)
        green |= (bits >> 1 & 1) << (7 - place)
        blue |= (bits >> 2 & 1) << (7 - place)
    return red, green, blue
