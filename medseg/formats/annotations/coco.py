"""COCO instances: JSON with images, categories and annotations (https://cocodataset.org/#format-data).

Read are polygons and run lengths, compressed or not, through pycocotools and therefore under its
pixel rule. Annotations that are only a box are left out. Crowd regions (`iscrowd`) hold objects that
nobody told apart: they are not to be judged, so they become the ignore label, and lie under all
others. COCO knows no drawing order: annotations are painted in the file's order, later ones over
earlier ones.
Where files named instances_*.json lie beside other COCO files (stuff, keypoints, captions), only
those are read.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Severity
from medseg.core.errors import FormatError, UsageError
from medseg.core.files import write_json
from medseg.formats.annotations._files import Tree, copy_image, head, image_size, read_json, require_size
from medseg.formats.annotations._outlines import pieces
from medseg.formats.annotations._picture import IGNORE, Canvas, Collection, Mask, Pending, Picture
from medseg.formats.annotations._shapes import ShapeError, mask_from_runs, points_of, polygons_by_area

_LISTS = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')
_MARKS = re.compile(r'"(file_name|image_id|supercategory|coco_url|category_id)"\s*:')
_SPLIT = re.compile(r"instances_(.+)")
_CROWD = IGNORE[-1]
_Id = int | str | None


def recognises(tree: Tree) -> bool:
    """Whether some JSON file has COCO's lists."""
    return any(_is_coco(text) for text in tree.heads(".json"))


def find(tree: Tree) -> Collection:
    """The images of every COCO file. Raises FormatError where all of them are broken."""
    files = [file for file in tree.annotations(".json") if _is_coco(head(file)) or file == tree.only]
    instances = [file for file in files if file.name.startswith("instances")]
    pictures: list[Pending] = []
    classes: dict[str, None] = {}
    problems: list[FormatError] = []
    for file in instances or files:
        try:
            names, found = _pictures(tree, file, prefix=len(instances or files) > 1)
        except FormatError as error:
            problems.append(error)
            continue
        classes |= dict.fromkeys(names)
        pictures += found
    if problems and not pictures:
        raise problems[0]
    findings = [Finding(problem.code, Severity.ERROR, str(problem)) for problem in problems]
    return Collection("coco", tuple(pictures), tuple(classes), tuple(findings))


def _is_coco(text: str) -> bool:
    return bool(_LISTS.search(text) and _MARKS.search(text))


def _pictures(tree: Tree, path: Path, prefix: bool) -> tuple[list[str], list[Pending]]:
    raw = read_json(path)
    if any("segments_info" in entry for entry in _entries(raw, "annotations", path)):
        raise FormatError(path, "is COCO panoptic, which is not read; export COCO instances")
    names = {_id(entry, "id"): str(entry.get("name", entry.get("id"))) for entry in _entries(raw, "categories", path)}
    by_image: defaultdict[_Id, list[dict[str, Any]]] = defaultdict(list)
    for annotation in _entries(raw, "annotations", path):
        by_image[_id(annotation, "image_id")].append(annotation)
    pictures = []
    for entry in _entries(raw, "images", path):
        name = PurePosixPath(str(entry.get("file_name") or entry.get("id")).replace("\\", "/"))
        folder = f"{_split(path)}/" if prefix else ""
        read = partial(_read, tree, path, entry, by_image[_id(entry, "id")], names)
        pictures.append(Pending(f"{folder}{name.with_suffix('')}", read))
    return list(names.values()), pictures


def _entries(raw: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = raw.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FormatError(path, f"its {key!r} is no list of entries")
    return entries


def _id(entry: dict[str, Any], key: str) -> _Id:
    """A number or text that things are told apart by; None where something else stands there."""
    value = entry.get(key)
    return value if isinstance(value, int | str) else None


def _split(path: Path) -> str:
    """train of instances_train.json and of train/_annotations.coco.json."""
    match = _SPLIT.fullmatch(path.stem)
    return match[1] if match else path.parent.name if path.stem.startswith("_") else path.stem


def _read(
    tree: Tree, path: Path, entry: dict[str, Any], annotations: list[dict[str, Any]], names: dict[_Id, str]
) -> Picture:
    split = _split(path)
    bases = [path.parent, path.parent.parent, tree.root]
    folders = [folder for base in bases for folder in (base / "images" / split, base / split, base / "images", base)]
    image = tree.image(str(entry.get("file_name") or ""), folders, path)
    size = image_size(image, path)
    require_size((entry.get("height"), entry.get("width")), size, image, path)
    canvas = Canvas(size)
    for annotation in sorted(annotations, key=lambda annotation: not annotation.get("iscrowd")):
        name = names.get(_id(annotation, "category_id"), "")
        crowd = bool(annotation.get("iscrowd")) and name.lower() not in IGNORE
        _paint(canvas, annotation.get("segmentation"), name, crowd)
    return canvas.picture(image)


def _paint(canvas: Canvas, segmentation: Any, name: str, crowd: bool) -> None:
    if not name:
        canvas.leave_out("broken-shape", "an annotation's category is not in the list of categories")
    elif not segmentation:
        canvas.leave_out("unsupported-shape", "an annotation has no segmentation (only a box)", name)
    else:
        try:
            canvas.paint(_CROWD if crowd else name, _mask(segmentation, canvas.size))
        except ShapeError as error:
            canvas.leave_out("broken-shape", f"an annotation cannot be painted: {error}", name)
            return
        if crowd:
            canvas.leave_out("crowd", "a crowd region is not to be judged", name)


def _mask(segmentation: Any, size: tuple[int, int]) -> Mask:
    if isinstance(segmentation, dict):
        if list(segmentation.get("size") or ()) != list(size):
            raise ShapeError(f"its run lengths are for {segmentation.get('size')} rows and columns, not {list(size)}")
        counts = segmentation.get("counts")
        return mask_from_runs(run_lengths(counts) if isinstance(counts, str) else counts, size)
    if not isinstance(segmentation, list):
        raise ShapeError("its segmentation is neither polygons nor run lengths")
    outlines = segmentation if isinstance(segmentation[0], list) else [segmentation]
    pairs = [_pairs(outline) for outline in outlines]
    return polygons_by_area([points_of(outline, size) for outline in pairs], size)


def _pairs(outline: Any) -> list[Any]:
    if not isinstance(outline, list) or len(outline) % 2:
        raise ShapeError("a polygon has an odd count of coordinates")
    return list(zip(outline[::2], outline[1::2], strict=True))


def run_lengths(text: str) -> list[int]:
    """The run lengths in COCO's compressed text (six bits a character, differences to the last but one).

    pycocotools reads these too, but without a check of their sum it returns memory that it never wrote.
    Raises ShapeError where the text is damaged.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ShapeError("its compressed run lengths are damaged")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ShapeError("its compressed run lengths are cut off")
    return counts


class Writer:
    """Writes label maps as COCO instances: annotations/instances_default.json and images/.

    Every connected piece becomes an annotation with compressed run lengths; pieces that are not to be
    judged become crowd regions of the category `__ignore__`.
    """

    def __init__(self, folder: Path, polygons: bool = False) -> None:
        """Raises UsageError for `polygons`: under COCO's pixel rule they would not keep the pixels."""
        if polygons:
            raise UsageError("--polygons is for labelme: COCO's polygons would not give the same pixels back")
        self._folder = folder
        self._images: list[dict[str, Any]] = []
        self._annotations: list[tuple[str, dict[str, Any]]] = []

    def add(self, name: str, image: Path, labels: NDArray[Any], names: Mapping[int, str]) -> Counter[str]:
        """Add one picture's label map [rows, columns]; returns the number of annotations by class."""
        from pycocotools import mask as coco_mask

        (self._folder / "images").mkdir(exist_ok=True)
        copied = copy_image(image, self._folder / "images" / name, "drop")
        number, before = len(self._images) + 1, len(self._annotations)
        height, width = labels.shape
        self._images.append({"id": number, "file_name": copied.name, "height": height, "width": width})
        for piece in pieces(labels):
            full = np.zeros(labels.shape, dtype=np.uint8, order="F")
            (top, left), (rows, columns) = piece.corner, piece.mask.shape
            full[top : top + rows, left : left + columns] = piece.mask
            runs = coco_mask.encode(full)
            annotation = {
                "id": len(self._annotations) + 1,
                "image_id": number,
                "segmentation": {"size": [height, width], "counts": runs["counts"].decode("ascii")},
                "area": int(piece.mask.sum()),
                "bbox": [left, top, columns, rows],
                "iscrowd": int(names[piece.value].lower() in IGNORE),
            }
            self._annotations.append((names[piece.value], annotation))
        return Counter(name for name, _ in self._annotations[before:])

    def finish(self, classes: Sequence[str]) -> None:
        """Write the file; categories are numbered in the order of `classes`."""
        used = dict.fromkeys([*classes, *(name for name, _ in self._annotations)])
        numbers = {name: number for number, name in enumerate(used, start=1)}
        raw = {
            "images": self._images,
            "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
            "annotations": [annotation | {"category_id": numbers[name]} for name, annotation in self._annotations],
        }
        write_json(self._folder / "annotations" / "instances_default.json", raw)
