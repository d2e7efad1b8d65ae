"""Supervisely projects: the golden bitmap of its documentation, polygons with holes, broken objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import FormatError
from medseg.formats.annotations import Picture, detect, load

Write = Callable[..., Path]
Read = Callable[[Path, str], dict[str, Picture]]

# From Supervisely's documentation of its objects: the mask 111 / 100 / 111.
GOLDEN = (
    "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44cOHAB6DqY0yORgq8YkAZ"
    "Bk9XP5d1TglNANAFGzA="
)


def project(folder: Path, objects: list[dict[str, Any]], name: str = "a.png.json") -> Path:
    classes = [{"title": title, "shape": "any", "color": "#00FF00"} for title in ("cell", "hole")]
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}), encoding="utf-8")
    raw = {"description": "", "tags": [], "size": {"height": 8, "width": 10}, "objects": objects}
    (folder / "ds0/ann").mkdir(parents=True, exist_ok=True)
    (folder / f"ds0/ann/{name}").write_text(json.dumps(raw), encoding="utf-8")
    return folder


def bitmap(data: str, origin: list[int]) -> dict[str, Any]:
    return {"classTitle": "cell", "geometryType": "bitmap", "tags": [], "bitmap": {"data": data, "origin": origin}}


def outline(kind: str, exterior: Any, interior: Any = ()) -> dict[str, Any]:
    points = {"exterior": exterior, "interior": interior}
    return {"classTitle": "cell", "geometryType": kind, "tags": [], "points": points}


def test_the_documented_bitmap_is_the_alpha_channel_at_its_origin(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    write_image(tmp_path / "ds0/img/a.png")
    project(tmp_path, [bitmap(GOLDEN, [4, 2])])
    assert detect(tmp_path) == "supervisely"
    assert load(tmp_path, "supervisely").classes == ("cell", "hole")
    labels = read_all(tmp_path, "supervisely")["ds0/a"].labels[..., 0]
    assert labels[2:5, 4:7].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 1]]
    assert labels.sum() == 7


def test_polygons_have_holes_and_rectangles_hold_both_corners(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    write_image(tmp_path / "ds0/img/a.png")
    ring = outline("polygon", [[0, 0], [4, 0], [4, 4], [0, 4]], [[[1, 1], [3, 1], [3, 3], [1, 3]]])
    project(tmp_path, [ring, outline("rectangle", [[6, 5], [7, 6]])], name="a.json")
    labels = read_all(tmp_path, "supervisely")["ds0/a"].labels[..., 0]
    assert labels[:5, :5].tolist() == [
        [1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1],
        [1, 0, 0, 0, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1],
    ]
    assert labels[5:7, 6:8].all() and labels.sum() == 20


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (bitmap("no base64!", [0, 0]), "no base64 of zlib"),
        (bitmap("eJwrTMwBAAJfAVg=", [0, 0]), "no base64 of zlib|no PNG"),
        (bitmap(GOLDEN, [0]), "no pairs of numbers"),
        (outline("polygon", [[1, 1], [2, 2]]), "2 points"),
        (outline("polygon", [[1, 1], [2, 2], [3, 1]], 5.0), "no list of outlines"),
        ({"classTitle": "cell", "geometryType": "bitmap"}, "no bitmap"),
        ({"geometryType": "bitmap"}, "no class"),
        (outline("line", [[1, 1], [2, 2]]), "cover no area"),
        (outline("alpha_mask", []), "not read"),
    ],
)
def test_a_broken_object_is_told_and_the_others_are_painted(
    tmp_path: Path, write_image: Write, read_all: Read, broken: dict[str, Any], words: str
) -> None:
    write_image(tmp_path / "ds0/img/a.png")
    project(tmp_path, [broken, outline("rectangle", [[0, 0], [1, 1]])])
    picture = read_all(tmp_path, "supervisely")["ds0/a"]
    (finding,) = picture.findings
    assert any(word in finding.message for word in words.split("|"))
    assert picture.shapes == {"cell": 1}


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    project(tmp_path, [])
    with pytest.raises(FormatError, match=r"'a.png', but img/ holds no such file"):
        load(tmp_path, "supervisely").pictures[0].read()
