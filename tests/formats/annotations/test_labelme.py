"""Labelme's JSON files, written key by key as Labelme 5.5 writes them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medseg.core.errors import FormatError
from medseg.formats.annotations import Picture, detect, load

Write = Callable[..., Path]
Read = Callable[[Path, str], dict[str, Picture]]


def shape(label: str, kind: str, points: list[list[float]], mask: str | None = None) -> dict[str, Any]:
    return {
        "label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {},
        "mask": mask,
    }  # fmt: skip


def write_json(path: Path, shapes: list[dict[str, Any]], **changes: Any) -> Path:
    raw = {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{path.stem}.png", "imageData": None,
        "imageHeight": 8, "imageWidth": 10,
    }  # fmt: skip
    path.write_text(json.dumps(raw | changes), encoding="utf-8")
    return path


def png_text(array: Any) -> str:
    stored = io.BytesIO()
    Image.fromarray(array).save(stored, format="PNG")
    return base64.b64encode(stored.getvalue()).decode("ascii")


def test_polygon_rectangle_and_circle_cover_the_pixels_under_their_outline(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    write_image(tmp_path / "a.png")
    shapes = [
        shape("square", "polygon", [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]),
        shape("box", "rectangle", [[8.0, 7.0], [6.0, 5.0]]),  # drawn from the lower right corner
        shape("disc", "circle", [[6.0, 2.0], [7.0, 2.0]]),
    ]
    write_json(tmp_path / "a.json", shapes)
    assert detect(tmp_path) == "labelme"
    picture = read_all(tmp_path, "labelme")["a"]
    assert picture.classes == ("square", "box", "disc")
    expected = [
        "..........",
        ".111..3...",
        ".111.333..",
        ".111..3...",
        "..........",
        "......222.",
        "......222.",
        "......222.",
    ]
    assert rows(picture) == expected


def rows(picture: Picture) -> list[str]:
    return ["".join("." if value == 0 else str(value) for value in row) for row in picture.labels[..., 0].tolist()]


@pytest.mark.parametrize("stored", ["1", "L"])
def test_a_mask_lies_with_its_first_pixel_on_its_first_point_and_is_cut_at_the_border(
    tmp_path: Path, write_image: Write, read_all: Read, stored: str
) -> None:
    write_image(tmp_path / "a.png")
    mask = np.array([[True, False], [False, True]])
    text = png_text(mask if stored == "1" else mask.astype(np.uint8) * 255)
    corners = ([[-1.0, 1.0], [0.0, 2.0]], [[4.0, 3.0], [5.0, 4.0]])
    write_json(tmp_path / "a.json", [shape("cell", "mask", points, text) for points in corners])
    labels = read_all(tmp_path, "labelme")["a"].labels[..., 0]
    assert np.argwhere(labels).tolist() == [[2, 0], [3, 4], [4, 5]]


def test_later_shapes_lie_over_earlier_ones(tmp_path: Path, write_image: Write, read_all: Read) -> None:
    write_image(tmp_path / "a.png")
    big, small = [[0.0, 0.0], [9.0, 7.0]], [[2.0, 2.0], [3.0, 3.0]]
    write_json(tmp_path / "a.json", [shape("organ", "rectangle", big), shape("hole", "rectangle", small)])
    picture = read_all(tmp_path, "labelme")["a"]
    assert (picture.labels == 2).sum() == 4 and (picture.labels == 1).sum() == 76
    assert picture.shapes == {"organ": 1, "hole": 1}


def test_points_and_lines_are_left_out_by_name(tmp_path: Path, write_image: Write, read_all: Read) -> None:
    write_image(tmp_path / "a.png")
    shapes = [
        shape("a", "point", [[1.0, 1.0]]),
        shape("b", "linestrip", [[1.0, 1.0], [2.0, 2.0]]),
        shape("c", "triangle", [[1.0, 1.0]]),
    ]
    write_json(tmp_path / "a.json", shapes)
    picture = read_all(tmp_path, "labelme")["a"]
    assert not picture.labels.any() and picture.shapes == {}
    assert [(finding.code, finding.values["class"]) for finding in picture.findings] == [
        ("unsupported-shape", "a"),
        ("unsupported-shape", "b"),
        ("unsupported-shape", "c"),
    ]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (shape("a", "polygon", [[1, 1], [2, 2]]), "2 points, but needs at least 3"),
        (shape("a", "polygon", []), "no points"),
        (shape("a", "polygon", [["x", 1], [2, 2], [3, 3]]), "no pairs of numbers"),
        (shape("a", "polygon", [[1e9, 1], [2, 2], [3, 3]]), "far outside"),
        (shape("a", "polygon", [[float("nan"), 1], [2, 2], [3, 3]]), "far outside"),
        (shape("a", "polygon", [[20, 20], [25, 20], [25, 25]]), "no pixel of the image"),
        (shape("a", "mask", [[1, 1], [2, 2]], "nonsense"), "no picture"),
        (shape("a", "mask", [[1, 1], [2, 2]], None), "no picture"),
        (shape("a", "mask", [[1, 1], [90, 90]], png_text(np.ones((90, 90), bool))), "far larger"),
        (shape("", "rectangle", [[1, 1], [2, 2]]), "no label"),
    ],
)
def test_a_broken_shape_is_told_and_the_others_are_painted(
    tmp_path: Path, write_image: Write, read_all: Read, broken: dict[str, Any], words: str
) -> None:
    write_image(tmp_path / "a.png")
    write_json(tmp_path / "a.json", [broken, shape("good", "rectangle", [[1, 1], [2, 2]])])
    picture = read_all(tmp_path, "labelme")["a"]
    (finding,) = picture.findings
    assert finding.code == "broken-shape" and words in finding.message
    assert picture.shapes == {"good": 1} and picture.labels.sum() == 4


def test_the_image_is_found_by_its_path_beside_the_source_or_in_the_file(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    inside, folder = write_image(tmp_path / "json/a.png"), tmp_path / "json"
    beside = write_image(tmp_path / "pictures/b.png")
    square = [shape("x", "rectangle", [[1, 1], [2, 2]])]
    write_json(folder / "a.json", square)
    write_json(folder / "b.json", square, imagePath="..\\pictures\\b.png")
    embedded = base64.b64encode(inside.read_bytes()).decode("ascii")
    write_json(folder / "c.json", square, imagePath="C:\\elsewhere\\c.png", imageData=embedded)
    pictures = read_all(folder, "labelme")
    assert pictures["a"].image == inside
    assert Path(str(pictures["b"].image)).resolve() == beside
    assert pictures["c"].image == inside.read_bytes()


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"imagePath": "gone.png"}, "missing-image", "gone.png"),
        ({"imagePath": "/etc/secret.png"}, "missing-image", "no such picture file"),
        ({"imagePath": "../../../../etc/passwd"}, "missing-image", "no such picture file"),
        ({"imageHeight": 9}, "grid-mismatch", "was drawn on 10x9 pixels, but a.png has 10x8"),
        ({"imageWidth": "wide"}, "unreadable", "where a number must"),
        ({"shapes": 5}, "unreadable", "no list of shapes"),
    ],
)
def test_a_file_that_does_not_fit_its_image_is_refused_in_a_sentence(
    tmp_path: Path, write_image: Write, changes: dict[str, Any], code: str, words: str
) -> None:
    write_image(tmp_path / "a.png")
    path = write_json(tmp_path / "a.json", [])
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    (pending,) = load(path, "labelme").pictures
    with pytest.raises(FormatError, match=words) as caught:
        pending.read()
    assert caught.value.code == code and "\n" not in str(caught.value)


def test_broken_json_is_refused_and_the_order_of_classes_comes_from_labels_txt(
    tmp_path: Path, write_image: Write
) -> None:
    write_image(tmp_path / "a.png")
    path = write_json(tmp_path / "a.json", [])
    path.write_text(path.read_text(encoding="utf-8")[:-5], encoding="utf-8")
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nliver\naorta\n", encoding="utf-8")
    collection = load(tmp_path, "labelme")
    assert collection.classes == ("liver", "aorta")
    with pytest.raises(FormatError, match="not valid JSON"):
        collection.pictures[0].read()
