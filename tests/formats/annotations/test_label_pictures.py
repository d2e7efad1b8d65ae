"""Pascal VOC, Cityscapes and instance maps: label pictures whose numbers or colours mean something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg.core.errors import FormatError, UsageError
from medseg.formats.annotations import Picture, detect, load
from medseg.formats.annotations.voc import voc_color

Write = Callable[..., Path]
Read = Callable[[Path, str], dict[str, Picture]]

NUMBERS = np.array([[0, 1, 2], [15, 20, 255]], dtype=np.uint8)


def save(path: Path, array: Any, palette: list[int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if palette is not None:
        picture.putpalette(palette)
    picture.save(path)
    return path


def named(picture: Picture) -> list[list[str]]:
    names = ["-", *picture.classes]
    return [[names[value] for value in row] for row in picture.labels[..., 0].tolist()]


@pytest.fixture
def voc(tmp_path: Path, write_image: Write) -> Path:
    write_image(tmp_path / "VOC/JPEGImages/2007_000001.png", 2, 3)
    return tmp_path / "VOC"


def test_voc_colours_are_those_of_the_published_palette() -> None:
    assert [voc_color(number) for number in (0, 1, 2, 15, 20, 255)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (192, 128, 128),
        (0, 64, 128),
        (224, 224, 192),
    ]


@pytest.mark.parametrize("kind", ["palette", "grey", "colour"])
def test_voc_masks_are_read_from_palettes_numbers_and_colours(voc: Path, read_all: Read, kind: str) -> None:
    palette = [part for number in range(256) for part in voc_color(number)]
    path = voc / "SegmentationClass/2007_000001.png"
    if kind == "colour":
        save(path, np.array([[voc_color(int(v)) for v in row] for row in NUMBERS], dtype=np.uint8))
    else:
        save(path, NUMBERS, palette if kind == "palette" else None)
    assert detect(voc) == "voc"
    picture = read_all(voc, "voc")["2007_000001"]
    assert named(picture) == [["-", "aeroplane", "bicycle"], ["person", "tvmonitor", "__ignore__"]]
    assert picture.unknown == {"__ignore__"} and not picture.findings


def test_voc_labelmap_names_the_colours_and_unknown_colours_are_told(voc: Path, read_all: Read) -> None:
    (voc / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nliver:250,0,0::\nvoid:1,2,3::\n", encoding="utf-8"
    )
    colours = [[[0, 0, 0], [250, 0, 0], [1, 2, 3]], [[9, 9, 9], [0, 0, 0], [250, 0, 0]]]
    save(voc / "SegmentationClass/2007_000001.png", np.array(colours, dtype=np.uint8))
    assert load(voc, "voc").classes == ("liver",)
    picture = read_all(voc, "voc")["2007_000001"]
    assert named(picture) == [["-", "liver", "__ignore__"], ["colour 9,9,9", "-", "liver"]]
    assert picture.unknown == {"__ignore__", "colour 9,9,9"}
    assert [finding.code for finding in picture.findings] == ["undeclared-label"]


def test_labelmes_voc_export_has_its_own_class_names(voc: Path, read_all: Read) -> None:
    (voc / "class_names.txt").write_text("_background_\ncell\n", encoding="utf-8")
    palette = [part for number in range(256) for part in voc_color(number)]
    save(voc / "SegmentationClassPNG/2007_000001.png", np.array([[0, 1, 1], [0, 0, 2]], dtype=np.uint8), palette)
    assert named(read_all(voc, "voc")["2007_000001"]) == [["-", "cell", "cell"], ["-", "-", "number 2"]]


@pytest.mark.parametrize(
    ("mask", "labelmap", "words"),
    [
        (np.zeros((3, 3), np.uint8), "", "drawn on 3x3 pixels, but 2007_000001.png has 3x2"),
        (NUMBERS, "background:0,0\n", "is not name:red,green,blue"),
    ],
)
def test_voc_masks_that_do_not_fit_are_refused(voc: Path, mask: Any, labelmap: str, words: str) -> None:
    save(voc / "SegmentationClass/2007_000001.png", mask)
    if labelmap:
        (voc / "labelmap.txt").write_text(labelmap, encoding="utf-8")
    with pytest.raises(FormatError, match=words):
        load(voc, "voc").pictures[0].read()


CITY = "gtFine/train/aachen/aachen_000000_000019_gtFine_"


@pytest.fixture
def city(tmp_path: Path, write_image: Write) -> Path:
    write_image(tmp_path / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png", 1, 4)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("labelIds", np.array([[7, 26, 26, 3]], np.uint8)),
        ("instanceIds", np.array([[7, 26001, 26002, 3]], np.uint16)),
        ("labelTrainIds", np.array([[0, 13, 13, 255]], np.uint8)),
        ("color", np.array([[[128, 64, 128], [0, 0, 142], [0, 0, 142], [0, 0, 0]]], np.uint8)),
    ],
)
def test_cityscapes_numbers_and_colours_have_the_published_names(
    city: Path, read_all: Read, kind: str, array: Any
) -> None:
    save(city / f"{CITY}{kind}.png", array)
    assert detect(city) == "cityscapes"
    (picture,) = read_all(city, "cityscapes").values()
    (row,) = named(picture)
    assert row[:3] == ["road", "car", "car"] and row[3] in picture.unknown


def test_of_several_cityscapes_label_pictures_the_label_ids_are_read(city: Path, read_all: Read) -> None:
    save(city / f"{CITY}labelTrainIds.png", np.full((1, 4), 255, np.uint8))
    save(city / f"{CITY}labelIds.png", np.full((1, 4), 24, np.uint8))
    (picture,) = read_all(city, "cityscapes").values()
    assert named(picture) == [["person"] * 4]


def objects(count: int, size: int = 12) -> Any:
    array = np.zeros((size, size), dtype=np.uint16)
    array.ravel()[: 2 * count : 2] = np.arange(1, count + 1)
    return array


@pytest.mark.parametrize("layout", ["masks/{}.tif", "{}_cp_masks.tif", "{}_masks.png", "labels/{}_label.png"])
def test_instance_maps_lie_beside_their_images(tmp_path: Path, write_image: Write, read_all: Read, layout: str) -> None:
    for name, count in (("a", 9), ("b", 20)):
        write_image(tmp_path / ("images" if "/" in layout else ".") / f"{name}.png", 12, 12)
        path = tmp_path / layout.format(name)
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".tif":
            tifffile.imwrite(path, objects(count))
        else:
            save(path, objects(count))
    assert detect(tmp_path) == "instances"
    pictures = {name.rpartition("/")[2]: picture for name, picture in read_all(tmp_path, "instances").items()}
    assert [pictures[name].shapes for name in "ab"] == [{"object": 9}, {"object": 20}]
    assert np.array_equal(pictures["a"].instances[..., 0], objects(9))
    assert np.array_equal(pictures["a"].labels[..., 0], objects(9) > 0)


def test_label_maps_of_a_few_classes_are_not_taken_for_instance_maps(tmp_path: Path, write_image: Write) -> None:
    for name, count in (("a", 2), ("b", 3)):
        write_image(tmp_path / f"images/{name}.png", 12, 12)
        save(tmp_path / f"masks/{name}.png", objects(count))
    assert detect(tmp_path) is None
    assert len(load(tmp_path, "instances").pictures) == 2


def test_unknown_formats_and_folders_of_several_formats_are_refused_by_name(city: Path, write_image: Write) -> None:
    with pytest.raises(UsageError, match=r"'yolo'; there are labelme, cvat"):
        load(city, "yolo")
    save(city / f"{CITY}labelIds.png", np.zeros((1, 4), np.uint8))
    save(city / "SegmentationClass/x.png", np.zeros((1, 4), np.uint8))
    with pytest.raises(UsageError, match="voc and of cityscapes; say which with --format"):
        detect(city)
    with pytest.raises(FormatError, match="no annotations of the format coco"):
        load(city, "coco")
    with pytest.raises(FormatError, match="no such file or folder"):
        detect(city / "gone")
