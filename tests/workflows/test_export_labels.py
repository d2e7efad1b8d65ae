"""Label maps go to an annotation tool and come back pixel for pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import medseg
from medseg.core.errors import DataError, UsageError
from medseg.core.task import parse_task
from medseg.workflows.export_labels import ExportOptions, export_labels
from medseg.workflows.import_labels import import_labels

TASK = {
    "name": "t", "modality": "photo", "dimensions": 2, "ignore": 255,
    "labels": {"rim": {"sources": [3]}, "dot": {"sources": [7]}},
}  # fmt: skip
KINDS = [ExportOptions("labelme"), ExportOptions("labelme", polygons=True), ExportOptions("coco")]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Pictures whose labels have holes, islands in holes, single pixels, diagonals and ignored pixels."""
    rng = np.random.default_rng(1)
    for number in range(3):
        labels = np.zeros((20, 30), dtype=np.uint8)
        labels[2:14, 2:14] = 3
        labels[5:11, 5:11] = 0
        labels[7, 7] = 7
        labels[15:, 20:] = rng.choice([0, 3, 7, 255], (5, 10))
        for folder, array in (("images", rng.integers(0, 255, labels.shape, dtype=np.uint8)), ("labels", labels)):
            (tmp_path / f"data/{folder}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / f"data/{folder}/p{number}.png")
    return tmp_path / "data"


def same(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    pairs = [(np.asarray(Image.open(one / name)), np.asarray(Image.open(other / name))) for name in names]
    return bool(names) and all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("options", KINDS)
def test_with_a_task_export_and_import_give_the_same_pixels(
    dataset: Path, tmp_path: Path, options: ExportOptions
) -> None:
    task = parse_task(TASK, "test")
    result = export_labels(dataset / "labels", dataset / "images", tmp_path / "out", task, options)
    assert result.images == 3 and set(result.shapes) == {"rim", "dot", "__ignore__"}
    import_labels(tmp_path / "out", tmp_path / "back", task)
    assert same(dataset / "labels", tmp_path / "back/labels")
    assert (tmp_path / "back/images/p0.png").read_bytes() == (dataset / "images/p0.png").read_bytes()


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("named", [True, False])
def test_without_a_task_the_order_of_the_names_brings_the_values_back(
    dataset: Path, tmp_path: Path, options: ExportOptions, named: bool
) -> None:
    for path in (dataset / "labels").iterdir():
        array = np.asarray(Image.open(path))
        Image.fromarray(np.where(array == 255, 0, array)).save(path)  # 3 and 7 remain, with gaps between them
    if named:
        labels = {"background": 0, "z": 1, "b": 2, "a": 3, "u": 4, "v": 5, "w": 6, "c": 7}
        (dataset / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    result = export_labels(dataset / "labels", dataset / "images", tmp_path / "out", None, options)
    assert set(result.shapes) == ({"a", "c"} if named else {"label_3", "label_7"})
    import_labels(tmp_path / "out", tmp_path / "back")
    assert same(dataset / "labels", tmp_path / "back/labels")


def test_labelme_files_have_labelmes_keys_and_lie_beside_their_images(dataset: Path, tmp_path: Path) -> None:
    export_labels(dataset / "labels", dataset / "images", tmp_path / "out", parse_task(TASK, "test"))
    raw = json.loads((tmp_path / "out/p0.json").read_text(encoding="utf-8"))
    assert set(raw) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    assert (raw["imagePath"], raw["imageHeight"], raw["imageWidth"]) == ("p0.png", 20, 30)
    ring = next(shape for shape in raw["shapes"] if shape["label"] == "rim")
    assert ring["shape_type"] == "mask" and ring["points"] == [[2.0, 2.0], [13.0, 13.0]]
    assert (tmp_path / "out/labels.txt").read_text(encoding="utf-8").split() == [
        "__ignore__",
        "_background_",
        "rim",
        "dot",
    ]


def test_pycocotools_reads_the_coco_file(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_labels(dataset / "labels", dataset / "images", tmp_path / "out", parse_task(TASK, "test"), KINDS[2])
    coco = COCO(tmp_path / "out/annotations/instances_default.json")
    capsys.readouterr()
    assert {category["name"] for category in coco.loadCats(coco.getCatIds())} == {"rim", "dot", "__ignore__"}
    rims = coco.loadAnns(coco.getAnnIds(imgIds=[1], catIds=coco.getCatIds(catNms=["rim"])))
    truth = np.asarray(Image.open(dataset / "labels/p0.png")) == 3
    assert sum(entry["area"] for entry in rims) == truth.sum()
    assert {entry["iscrowd"] for entry in rims} == {0}
    assert {tuple(entry["bbox"]) for entry in rims} >= {(2, 2, 12, 12)}


def test_predictions_are_named_by_the_tasks_own_values_and_previews_are_passed_over(
    dataset: Path, tmp_path: Path
) -> None:
    (dataset / "labels/results.csv").write_text("file\n", encoding="utf-8")
    (dataset / "labels/previews").mkdir()
    for path in list((dataset / "labels").glob("*.png")):
        array = np.asarray(Image.open(path))
        Image.fromarray(np.select([array == 3, array == 7], [1, 2], 0).astype(np.uint8)).save(path)
        Image.new("RGB", (9, 9)).save(dataset / "labels/previews" / path.name)
    task = parse_task(TASK, "test")
    result = export_labels(dataset / "labels", dataset / "images", tmp_path / "out", task)
    assert set(result.shapes) == {"rim", "dot"} and not result.left_out


def test_instance_maps_of_a_nonzero_task_keep_touching_objects_apart(tmp_path: Path) -> None:
    numbers = np.zeros((6, 9), dtype=np.uint16)
    numbers[:, :3], numbers[:, 3:6] = 300, 4  # they touch
    for folder, array in (("images", numbers.astype(np.uint8)), ("labels", numbers)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / f"{folder}/a.png")
    result = export_labels(tmp_path / "labels", tmp_path / "images", tmp_path / "out", "cells_2d")
    assert list(result.shapes.values()) == [2] and len(result.shapes) == 1


def test_what_cannot_be_exported_is_told_and_the_others_go_on(dataset: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(dataset / "labels/p1.png")
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(dataset / "labels/p2.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(dataset / "labels/lonely.png")
    told: list[Any] = []
    result = export_labels(
        dataset / "labels", dataset / "images", tmp_path / "out", parse_task(TASK, "test"), listener=told.append
    )
    assert result.images == 1 and len(result.left_out) == 3
    text = "\n".join(result.left_out)
    assert "not one picture" in text and "undeclared label value 9" in text and "lonely" in text


def test_wrong_use_is_refused(dataset: Path, tmp_path: Path) -> None:
    labels, images = dataset / "labels", dataset / "images"
    for arguments, words in (
        ((labels, tmp_path / "gone", tmp_path / "out"), "there is no such folder"),
        ((labels, images, dataset), "not an empty folder"),
        ((labels, images, tmp_path / "out", None, ExportOptions("cvat")), "choose one of labelme, coco"),
        ((labels, images, tmp_path / "out", None, ExportOptions("coco", True)), "--polygons is for labelme"),
    ):
        with pytest.raises(UsageError, match=words):
            export_labels(*arguments)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no label map that can be exported"):
        export_labels(tmp_path / "none", images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_python_api_offers_it(dataset: Path, tmp_path: Path) -> None:
    options = medseg.ExportOptions(format="coco")
    result = medseg.export_labels(dataset / "labels", dataset / "images", tmp_path / "out", options=options)
    assert result.plain()["images"] == 3
