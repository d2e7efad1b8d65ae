"""COCO instances: polygons, run lengths as pycocotools writes them, crowds, several files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from medseg.core.errors import FormatError
from medseg.formats.annotations import Picture, detect, load
from medseg.formats.annotations._shapes import ShapeError, mask_from_runs, polygons_by_area
from medseg.formats.annotations.coco import run_lengths

Write = Callable[..., Path]
Read = Callable[[Path, str], dict[str, Picture]]


def write_coco(path: Path, annotations: list[dict[str, Any]], file_name: str = "a.png") -> Path:
    raw = {
        "info": {}, "licenses": [],
        "images": [{"id": 5, "width": 10, "height": 8, "file_name": file_name, "license": 0, "coco_url": ""}],
        "categories": [{"id": 1, "name": "cell", "supercategory": ""}, {"id": 4, "name": "vessel"}],
        "annotations": [{"id": n, "image_id": 5, "iscrowd": 0} | entry for n, entry in enumerate(annotations)],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def of(category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"category_id": category, "segmentation": segmentation} | more


def test_polygons_and_both_kinds_of_run_lengths_are_read(tmp_path: Path, write_image: Write, read_all: Read) -> None:
    write_image(tmp_path / "images/train/a.png")
    disc = np.zeros((8, 10), dtype=np.uint8, order="F")
    disc[5:7, 6:9] = 1
    compressed = coco_mask.encode(disc)["counts"].decode("ascii")
    annotations = [
        of(1, [[0.0, 0.0, 3.0, 0.0, 3.0, 2.0, 0.0, 2.0], [0, 3, 1, 3, 1, 4, 0, 4]]),
        of(4, {"size": [8, 10], "counts": compressed}),
        of(4, {"size": [8, 10], "counts": [72, 8]}),  # down the columns: the last one
    ]
    write_coco(tmp_path / "annotations/instances_train.json", annotations)
    assert detect(tmp_path) == "coco"
    assert load(tmp_path, "coco").classes == ("cell", "vessel")
    picture = read_all(tmp_path, "coco")["a"]
    expected = np.zeros((8, 10), dtype=int)
    expected[:2, :3] = expected[3, 0] = 1
    expected[5:7, 6:9] = expected[:, 9] = 2
    assert np.array_equal(picture.labels[..., 0], expected)
    assert picture.shapes == {"cell": 1, "vessel": 2}


def test_a_crowd_is_not_to_be_judged_and_lies_under_everything(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    write_image(tmp_path / "a.png")
    annotations = [of(1, [[0, 0, 3, 0, 3, 2, 0, 2]]), of(4, {"size": [8, 10], "counts": [0, 80]}, iscrowd=1)]
    picture = read_all(write_coco(tmp_path / "_annotations.coco.json", annotations), "coco")["a"]
    assert picture.classes == ("__ignore__", "cell")
    assert (picture.labels == 2).sum() == 6 and (picture.labels == 1).sum() == 74
    assert [finding.code for finding in picture.findings] == ["crowd"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (of(1, {"size": [8, 10], "counts": [72, 7]}), "cover 79 pixels, but it must have 80"),
        (of(1, {"size": [8, 10], "counts": [72, -1, 9]}), "cover no pixels"),
        (of(1, {"size": [8, 11], "counts": [0, 88]}), "not [8, 10]"),
        (of(1, {"size": [8, 10], "counts": "garbage"}), "run lengths"),
        (of(1, {"size": [8, 10], "counts": "0ä"}), "damaged"),
        (of(1, {"size": [8, 10], "counts": "o"}), "cut off"),
        (of(1, [[1, 1, 2, 2]]), "2 points"),
        (of(1, [[1, 1, 2, 2, 3]]), "odd count"),
        (of(1, "text"), "neither polygons nor run lengths"),
        (of(1, []), "no segmentation"),
        (of(9, [[0, 0, 3, 0, 3, 2]]), "not in the list of categories"),
        (of({}, [[0, 0, 3, 0, 3, 2]]), "not in the list of categories"),
    ],
)
def test_a_broken_annotation_is_told_and_the_others_are_painted(
    tmp_path: Path, write_image: Write, read_all: Read, broken: dict[str, Any], words: str
) -> None:
    write_image(tmp_path / "a.png")
    write_coco(tmp_path / "labels.json", [broken, of(4, [[0, 0, 3, 0, 3, 2, 0, 2]])])
    picture = read_all(tmp_path, "coco")["a"]
    (finding,) = picture.findings
    assert words in finding.message
    assert picture.shapes == {"vessel": 1}


def test_several_files_keep_their_images_apart_and_only_instances_are_read_where_there_are_any(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    square = [of(1, [[0, 0, 3, 0, 3, 2, 0, 2]])]
    for split in ("train", "val"):
        write_image(tmp_path / f"{split}/a.png")
        write_coco(tmp_path / f"annotations/instances_{split}.json", square)
        write_coco(tmp_path / f"annotations/stuff_{split}.json", square)
    pictures = read_all(tmp_path, "coco")
    assert {name: picture.image for name, picture in pictures.items()} == {
        "train/a": tmp_path / "train/a.png",
        "val/a": tmp_path / "val/a.png",
    }


def test_panoptic_and_broken_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    write_coco(tmp_path / "p.json", [{"segments_info": []}])
    with pytest.raises(FormatError, match="panoptic"):
        load(tmp_path, "coco")
    (tmp_path / "p.json").write_text('{"images": [], "categories": [{"supercategory": ', encoding="utf-8")
    with pytest.raises(FormatError, match="not valid JSON"):
        load(tmp_path, "coco")


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)))
def test_compressed_run_lengths_are_those_of_pycocotools(mask: np.ndarray) -> None:
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode("ascii")
    counts = run_lengths(text)
    assert sum(counts) == mask.size
    assert np.array_equal(mask_from_runs(counts, mask.shape), mask > 0)


@given(st.text(max_size=30))
def test_any_text_gives_run_lengths_or_a_refusal(text: str) -> None:
    try:
        counts = run_lengths(text)
    except ShapeError:
        return
    assert all(isinstance(count, int) for count in counts)


@given(hnp.arrays(np.float64, (3, 2), elements=st.floats(-4, 16)))
def test_polygons_take_the_pixels_whose_centres_lie_well_inside(points: np.ndarray) -> None:
    """Half-plane test; a centre nearer than half a pixel to an edge may fall on either side."""
    mask = polygons_by_area([points], (12, 12))
    y, x = np.mgrid[:12, :12] + 0.5
    distances = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        length = np.hypot(*(end - start))
        if length < 1e-3:
            return
        distances.append(((end[0] - start[0]) * (y - start[1]) - (end[1] - start[1]) * (x - start[0])) / length)
    side = np.array(distances)
    well_inside = (side > 0.5).all(axis=0) | (side < -0.5).all(axis=0)
    assert mask[well_inside].all()
