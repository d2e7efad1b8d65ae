"""The inspection page: well formed, complete in itself, the worst first; thumbnails in true proportions and colours."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medseg.core.case import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.plan import ChannelStats, Fingerprint
from medseg.core.volume import LabelMap, Volume
from medseg.data.inspection import CaseRow, Inspection, LabelFacts
from medseg.evaluation.inspect_page import inspection_html, write_inspection
from medseg.evaluation.strips import Bar, Dot, Strip, bars, strips
from medseg.evaluation.thumbnail import thumbnail

_VOID = {"meta", "img", "br", "link", "input", "hr"}
ORANGE, BLUE = (230, 159, 0), (86, 180, 233)


class _Page(HTMLParser):
    """What a page refers to, whether its elements close, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def inspection() -> Inspection:
    label = LabelFacts("organ <1>", 1, 5000, 1234.5, 1, 5000.0)
    row = CaseRow(
        "a", "images/a.nii.gz", "nifti", "CT", 1, (50, 50, 20), (1.0, 1.0, 3.0), "RAS", (-1000.0, 900.0),
        (-990.0, -50.0, 400.0), "x", "a", ("train",), "labels/a.nii.gz", (0, 1), (label,),
    )  # fmt: skip
    info = Finding("derived", Severity.INFO, "images/b.nii.gz: computed from others")
    odd = replace(row, id="b", path="images/b.nii.gz", findings=(info,), spacing=(2.0, 2.0, 3.0))
    error = Finding("unreadable", Severity.ERROR, "images/c&d.nii.gz: is <no> scan")
    made_up = Finding("some-new-code", Severity.WARNING, "what nobody foresaw")
    broken = CaseRow("c&d", "images/c&d.nii.gz", findings=(error, made_up))
    whole = Finding("orientation", Severity.INFO, "in two ways")
    return Inspection("somewhere/cases", "folders", (row, odd, broken), ("a note",), (whole,), {"task": "lung"})


def png(color: tuple[int, int, int] = (1, 2, 3)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(file, format="PNG")
    return file.getvalue()


def test_the_page_is_well_formed_and_needs_no_other_file():
    text = inspection_html(inspection(), {"a": png(), "b": png()})
    page = _Page()
    page.feed(text)
    assert page.open == [] and len(page.references) == 2
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert "http" not in text and "organ &lt;1&gt;" in text and "<no>" not in text


def test_the_worst_case_comes_first_and_its_findings_are_told_without_its_own_path():
    text = inspection_html(inspection(), {})
    assert re.findall(r'<article data-level="(\w+)">', text) == ["error", "info", "clean"]
    assert "is &lt;no&gt; scan" in text and "images/c&amp;d.nii.gz: is" not in text
    assert text.index(">unreadable<") < text.index(">some-new-code<") < text.index(">derived<")


def test_headings_verdict_and_codes_are_there():
    text = inspection_html(inspection(), {})
    assert re.findall(r"<h2>(.+?)</h2>", text) == ["About the whole", "Findings", "How the cases spread", "Cases"]
    assert "exit code 1" in text and "Some cases cannot be used" in text and "1,234 ml" in text
    assert "See the messages of the cases." in text  # a code that the table does not know yet
    nothing = inspection_html(Inspection("empty", "scans", ()), {})
    assert "Nothing here is usable" in nothing and "<article" not in nothing


def test_the_trained_range_is_shaded():
    stats = ChannelStats(-900, -850, -800, -850, 10, -1000, 400)
    trained = Fingerprint(1, ((50, 50, 20),), ((1.0, 1.0, 3.0),), (stats,), {}, {"organ <1>": (900, 1000, 2000)}, 0.1)
    assert inspection_html(inspection(), {}, (), trained).count('class="trained"') == 5  # volume, intensity, three axes
    assert 'class="trained"' not in inspection_html(inspection(), {})


def test_both_files_are_written_and_are_the_same_twice(tmp_path: Path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_inspection(inspection(), folder, {"a": png()})
    for name in ("inspect.json", "inspect.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    plain = json.loads((tmp_path / "one/inspect.json").read_text("utf-8"))
    assert plain["exit_code"] == 1 and plain["codes"] == {
        "unreadable": 1, "some-new-code": 1, "derived": 1, "orientation": 0,
    }  # fmt: skip
    assert plain["spread"]["spacing_mm"]["R"] == {"min": 1.0, "median": 1.5, "max": 2.0}


# ---- plots ----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0], [0.0, 5.0], [0.01, 1.0, 1e5], [-5.0, 5.0], [1e-9, 2e-9]])
def test_strips_hold_every_case_inside_the_plot(values):
    svg = strips([Strip("a", [Dot(value, f"case {n}") for n, value in enumerate(values)])], "ml", "x")
    root = ElementTree.fromstring(svg)
    places = [float(dot.get("cx", "nan")) for dot in root.iter("circle")]
    assert len(places) == len(values) and all(169 <= x <= 811 for x in places) and places == sorted(places)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_bars_hold_every_case_inside_the_plot(scale):
    known = [Bar(-5.0, n, 10.0 * (scale if n == 3 else 1), f"case {n}") for n in range(4)]
    root = ElementTree.fromstring(bars(known, (0.0, 5.0), "x"))
    boxes = [box for box in root.iter("rect") if box.get("class") == "bar"]
    assert len(boxes) == 4
    assert all(float(box.get("y", "nan")) >= 9.9 for box in boxes)
    assert all(float(box.get("y", "nan")) + float(box.get("height", "nan")) <= 182 for box in boxes)


# ---- thumbnails -----------------------------------------------------------------------------


def shown(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def near(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture - np.array(color)).max(axis=-1) < 12


def test_planes_stand_side_by_side_at_true_proportions():
    geometry = Geometry.from_spacing((1, 1, 4), (40, 60, 20))
    volume = Volume(np.random.default_rng(0).normal(100, 30, (1, *geometry.shape)).astype(np.float32), geometry)
    height, width, _ = shown(thumbnail(volume, None)).shape
    assert height == pytest.approx(80 / (40 + 40 + 60) * (width - 12), abs=2)  # 80 mm high: 40, 40 and 60 mm wide


def test_labels_are_outlined_in_their_colours_through_the_widest_slice():
    geometry = Geometry.from_spacing((1, 1, 1), (40, 40, 40))
    array = np.zeros(geometry.shape, dtype=np.uint8)
    array[25:35, 5:15, 2:6], array[5:15, 5:15, 2:6] = 1, 2  # far from the middle
    volume = Volume(np.full((1, *geometry.shape), 50, np.float32), geometry)
    labels = (Label("a", 1, color=ORANGE), Label("b", 2, color=BLUE))
    picture = shown(thumbnail(volume, LabelMap(array, geometry, labels), labels))
    axial = picture[:, : picture.shape[1] // 3]
    orange, blue = near(axial, ORANGE), near(axial, BLUE)
    assert orange.any() and blue.any()
    # The patient's right (the larger x) is on the left; only the outline is drawn.
    assert np.argwhere(orange)[:, 1].mean() < np.argwhere(blue)[:, 1].mean()
    rows, columns = np.nonzero(orange)
    assert not orange[(rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2]


def test_a_colour_picture_keeps_its_colours():
    array = np.zeros((3, 50, 80, 1), dtype=np.float32)
    array[0], array[2] = 250, 120
    picture = shown(thumbnail(Volume(array, Geometry(np.eye(4), (50, 80, 1))), None))
    assert picture.shape[1] == 380 and picture.shape[0] == pytest.approx(380 * 50 / 80, abs=1)
    assert near(picture, (250, 0, 120)).all()


def test_one_slice_and_one_value_are_drawn_too():
    for shape in ((30, 30, 1), (5, 1, 40), (3, 3, 3)):
        geometry = (
            Geometry.from_spacing((-1, 1, 5), shape) if shape[2] == 1 else Geometry.from_spacing((1, 1, 5), shape)
        )
        assert shown(thumbnail(Volume(np.zeros((1, *shape), np.float32), geometry), None)).size
