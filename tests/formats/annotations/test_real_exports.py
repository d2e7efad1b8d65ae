"""Exports that the tools themselves, or the makers of their converters, wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.core.errors import FormatError
from medseg.formats.annotations import Picture, detect, load

pytestmark = pytest.mark.real_data
Read = Callable[[Path, str], dict[str, Picture]]


@pytest.fixture
def exports(shared_data: Path) -> Path:
    folder = shared_data / "annotation_exports"
    if not folder.is_dir():
        pytest.skip("the exports of annotation tools are not on this machine")
    return folder


def test_supervisely_bitmaps_are_exactly_the_nuclei(exports: Path, shared_data: Path, read_all: Read) -> None:
    source = exports / "supervisely_made_here"
    assert detect(source) == "supervisely"
    for name, picture in read_all(source, "supervisely").items():
        truth = np.asarray(Image.open(shared_data / f"nuclei_dsb2018/labels/{name.rpartition('/')[2]}.png"))
        bitmaps = picture.labels[..., 0] == picture.classes.index("nucleus") + 1
        assert np.array_equal(bitmaps, np.isin(truth, np.setdiff1d(truth[bitmaps], [0])))
        outlines = picture.labels[..., 0] == picture.classes.index("nucleus_poly") + 1
        nuclei = np.isin(truth, np.setdiff1d(truth[outlines], [0]))
        assert 2 * (outlines & nuclei).sum() / (outlines.sum() + nuclei.sum()) > 0.9  # rounded corners


def test_cvat_project_and_task_exports(exports: Path, read_all: Read) -> None:
    folder = exports / "datumaro/cvat_dataset/for_images"
    assert detect(folder / "export_project") == "cvat"
    pictures = read_all(folder / "export_project", "cvat")
    assert set(pictures) == {f"{subset}/img{n}" for subset in ("Train", "Test", "Validation") for n in (0, 1)}
    box = pictures["Train/img0"]
    assert np.argwhere(box.labels[..., 0]).tolist() == [[row, column] for row in (2, 3) for column in range(4)]
    assert [finding.values["class"] for finding in box.findings] == ["label2"]  # the polyline
    (polygon,) = np.argwhere(pictures["Train/img1"].labels[..., 0]).tolist()
    assert polygon == [3, 3]
    task = read_all(folder / "export_task", "cvat")
    assert task["img0"].shapes == {"label1": 1} and task["img1"].shapes == {}
    with pytest.raises(FormatError, match="video tracks"):
        load(exports / "datumaro/cvat_dataset/for_video", "cvat")


@pytest.mark.parametrize("layout", ["coco", "coco_instances", "coco_roboflow", "mmdet_coco"])
def test_coco_layouts(exports: Path, read_all: Read, layout: str) -> None:
    folder = exports / "datumaro/coco_dataset" / layout
    assert detect(folder) == "coco"
    pictures = read_all(folder, "coco")
    assert set(pictures) == {"train/a", "val/b"}
    assert [finding.code for finding in pictures["train/a"].findings] == ["unsupported-shape"]  # only a box
    labels = pictures["val/b"].labels[..., 0]
    assert pictures["val/b"].classes == ("__ignore__", "a")
    assert (labels[:, :2] > 0).all() and not labels[:, 2:].any() and (labels == 2).sum() == 2


def test_voc_and_cityscapes_samples(exports: Path, read_all: Read) -> None:
    voc = exports / "datumaro/voc_dataset/voc_dataset1"
    assert detect(voc) == "voc"
    (picture,) = read_all(voc, "voc").values()
    assert picture.classes == ("bicycle",) and picture.labels.all()
    city = exports / "datumaro/cityscapes_dataset/train_dataset"
    assert detect(city) == "cityscapes"
    pictures = {name.rpartition("_")[2]: picture for name, picture in read_all(city, "cityscapes").items()}
    assert pictures["000031"].classes == ("out of roi", "truck")
    assert pictures["000032"].labels[..., 0].tolist() == [[3, 3, 2, 1, 1]]  # train, wall, out of roi


def test_real_instance_maps_are_recognised_and_counted(shared_data: Path) -> None:
    folder = shared_data / "nuclei_dsb2018"
    assert detect(folder) == "instances"
    picture = load(folder, "instances").pictures[0].read()
    assert picture.shapes["object"] == int(picture.instances.max()) > 8
