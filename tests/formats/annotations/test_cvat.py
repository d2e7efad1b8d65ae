"""CVAT for images 1.1: as documented at docs.cvat.ai/docs/other/xml_format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import FormatError
from medseg.formats.annotations import Picture, detect, load

Write = Callable[..., Path]
Read = Callable[[Path, str], dict[str, Picture]]

# The mask of the documentation's example: 13 x 15 pixels.
RLE = "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"


def write_xml(folder: Path, shapes: str, size: tuple[int, int] = (8, 10), labels: str = "") -> Path:
    names = "".join(f"<label><name>{name}</name></label>" for name in labels.split())
    path = folder / "annotations.xml"
    path.write_text(
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><mode>annotation</mode><labels>{names}</labels></task></meta>
  <image id="0" name="a.png" width="{size[1]}" height="{size[0]}">
    {shapes}
  </image>
</annotations>
""",
        encoding="utf-8",
    )
    return path


def labels_of(folder: Path, read_all: Read) -> list[list[int]]:
    return read_all(folder, "cvat")["a"].labels[..., 0].tolist()


def test_the_documented_mask_lies_at_its_corner_row_by_row(tmp_path: Path, write_image: Write, read_all: Read) -> None:
    write_image(tmp_path / "images/a.png", 40, 50)
    place = 'left="7" top="8" width="13" height="15" z_order="0"'
    mask = f'<mask label="car" source="manual" occluded="0" rle="{RLE}" {place}>\n    </mask>'
    write_xml(tmp_path, mask, (40, 50), "car wheel")
    assert detect(tmp_path) == "cvat"
    assert load(tmp_path, "cvat").classes == ("car", "wheel")
    labels = np.array(labels_of(tmp_path, read_all))
    rows, columns = np.nonzero(labels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 22, 7, 19)
    assert np.flatnonzero(labels[8]).tolist() == [10, 11, 12, 13, 14]  # 3 off, 5 on
    assert np.flatnonzero(labels[9]).tolist() == list(range(9, 16))  # 7 off (5 of the first row), 7 on
    assert labels.sum() == sum(int(count) for count in RLE.split(",")[1::2])


def test_boxes_polygons_and_ellipses_take_the_pixels_whose_centres_they_hold(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    write_image(tmp_path / "a.png")
    shapes = """<box label="b" xtl="1.0" ytl="1.0" xbr="4.0" ybr="3.0" occluded="0" z_order="0"></box>
    <polygon label="p" points="5.00,0.00;9.00,0.00;9.00,2.00;5.00,2.00" occluded="0" z_order="0"></polygon>
    <ellipse label="e" cx="3.0" cy="6.0" rx="2.0" ry="1.0" occluded="0" z_order="0"></ellipse>
    <ellipse label="t" cx="8.0" cy="5.0" rx="2.0" ry="1.0" rotation="90.0" occluded="0" z_order="0"></ellipse>"""
    write_xml(tmp_path, shapes)
    assert labels_of(tmp_path, read_all) == [
        [0, 0, 0, 0, 0, 2, 2, 2, 2, 0],
        [0, 1, 1, 1, 0, 2, 2, 2, 2, 0],
        [0, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 4, 4, 0],
        [0, 0, 0, 0, 0, 0, 0, 4, 4, 0],
        [0, 3, 3, 3, 3, 0, 0, 4, 4, 0],
        [0, 3, 3, 3, 3, 0, 0, 4, 4, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_a_box_turns_clockwise_about_its_centre(tmp_path: Path, write_image: Write, read_all: Read) -> None:
    write_image(tmp_path / "a.png")
    write_xml(tmp_path, '<box label="b" xtl="1" ytl="3" xbr="7" ybr="5" rotation="90"/>')
    labels = np.array(labels_of(tmp_path, read_all))
    assert np.argwhere(labels).tolist() == [[row, column] for row in range(1, 7) for column in (3, 4)]


def test_the_higher_z_order_lies_in_front_whatever_the_order_in_the_file(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    write_image(tmp_path / "a.png")
    front = '<box label="front" xtl="1" ytl="1" xbr="3" ybr="3" z_order="2"/>'
    back = '<box label="back" xtl="0" ytl="0" xbr="10" ybr="8" z_order="1"/>'
    write_xml(tmp_path, front + back)
    picture = read_all(tmp_path, "cvat")["a"]
    counts = {name: int((picture.labels == value).sum()) for value, name in enumerate(picture.classes, start=1)}
    assert counts == {"front": 4, "back": 76}


def test_shapes_without_area_are_left_out_by_name(tmp_path: Path, write_image: Write, read_all: Read) -> None:
    write_image(tmp_path / "a.png")
    shapes = """<polyline label="line" points="1,1;2,2" z_order="0"/><points label="dots" points="1,1" z_order="0"/>
    <tag label="good" source="manual"/><skeleton label="s"/><cuboid label="c"/>"""
    write_xml(tmp_path, shapes)
    findings = read_all(tmp_path, "cvat")["a"].findings
    assert [(finding.values["class"], finding.severity) for finding in findings] == [
        ("line", "warning"),
        ("dots", "warning"),
        ("good", "info"),
        ("s", "warning"),
        ("c", "warning"),
    ]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ('<polygon label="a" points="1,1;2,2"/>', "2 points"),
        ('<polygon label="a" points="1,1;2;3,3"/>', "no pairs of numbers"),
        ('<polygon label="" points="1,1;5,1;5,5"/>', "no label"),
        ('<box label="a" xtl="1" ytl="1" xbr="x" ybr="3"/>', "not all numbers"),
        ('<box label="a" xtl="1" ytl="1" xbr="inf" ybr="3"/>', "not all finite"),
        ('<ellipse label="a" cx="3" cy="3" rx="0" ry="2"/>', "not above zero"),
        ('<ellipse label="a" cx="-90" cy="1e8" rx="3" ry="2"/>', "no pixel of the image"),
        ('<mask label="a" rle="1, 2" left="0" top="0" width="2" height="2"/>', "cover 3 pixels, but it must have 4"),
        ('<mask label="a" rle="1, -1, 4" left="0" top="0" width="2" height="2"/>', "cover no pixels"),
        ('<mask label="a" rle="a" left="0" top="0" width="2" height="2"/>', "no whole numbers"),
        ('<mask label="a" rle="0, 4" left="0" top="0" width="999999" height="999999"/>', "does not fit the image"),
    ],
)
def test_a_broken_shape_is_told_and_the_others_are_painted(
    tmp_path: Path, write_image: Write, read_all: Read, shape: str, words: str
) -> None:
    write_image(tmp_path / "a.png")
    write_xml(tmp_path, shape + '<box label="good" xtl="0" ytl="0" xbr="2" ybr="2"/>')
    picture = read_all(tmp_path, "cvat")["a"]
    (finding,) = picture.findings
    assert finding.code == "broken-shape" and words in finding.message
    assert picture.shapes == {"good": 1}


def test_images_of_equal_names_in_several_subsets_are_kept_apart(
    tmp_path: Path, write_image: Write, read_all: Read
) -> None:
    paths = [write_image(tmp_path / f"images/{subset}/a.png") for subset in ("Train", "Test")]
    images = "".join(
        f'<image id="0" name="a.png" subset="{subset}" width="10" height="8"><box label="x" xtl="0" ytl="0" '
        f'xbr="{number}" ybr="1"/></image>'
        for number, subset in enumerate(("Train", "Test"), start=1)
    )
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>", encoding="utf-8")
    pictures = read_all(tmp_path, "cvat")
    assert [pictures["Train/a"].image, pictures["Test/a"].image] == paths
    assert [int(pictures[name].labels.sum()) for name in ("Train/a", "Test/a")] == [1, 2]


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotations><image name="&b;"/></annotations>
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "document type"),
        ("<annotations><image name='a.png'>", "not valid XML"),
        ("<annotations><meta/><track id='0' label='x'/></annotations>", "video tracks"),
        ("<annotations><meta/></annotations>", "no annotations"),
    ],
)
def test_bombs_broken_files_and_videos_are_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=words) as caught:
        load(tmp_path, "cvat")
    assert "\n" not in str(caught.value)
