"""The page of a report: well formed, nothing but itself, safe from the names of files, and what its plots show."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from medseg.core.report import Report
from medseg.evaluation.dotplot import dot_plot
from medseg.evaluation.report import build_report, case_table
from medseg.evaluation.report_page import Illustrations, Picture, report_html
from medseg.evaluation.score import CaseScores

_VOID = {"meta", "img", "br", "link", "input", "hr"}
_PNG = b"\x89PNG\r\n\x1a\n"  # the page embeds bytes, it does not look at them


class _Page(HTMLParser):
    """Collects what a page refers to, and whether its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _report(scores: list[CaseScores]) -> Report:
    context = {"predictions": "out", "references": "labels", "extra_predictions": ["d"], "where": Path("here")}
    return build_report(scores, "given", context, problems={"e": "there is no prediction for it"})


def test_the_page_is_well_formed_and_needs_no_other_file(toy_scores: list[CaseScores], tmp_path: Path) -> None:
    picture = tmp_path / "best.png"
    picture.write_bytes(_PNG)
    text = report_html(_report(toy_scores), Illustrations([Picture(picture, "Best: c", "mean Dice 0.900")], picture))
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.references) == 2 and all(ref.startswith("data:image/png;base64,") for ref in page.references)
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert "link" not in page.tags
    for shown in ("0.450", "Best: c", "absent in both", "review: odd", "there is no prediction for it", "Volume [ml]"):
        assert shown in text


def test_names_from_files_cannot_break_the_page(toy_scores: list[CaseScores]) -> None:
    strange = [dataclasses.replace(score, case=f"<script>{score.case}</script>&") for score in toy_scores]
    text = report_html(_report(strange), title="<b>")
    assert "<script>a" not in text and "&lt;script&gt;a" in text and "<title>&lt;b&gt;" in text


def test_pictures_are_measured_in_pixels(toy_scores: list[CaseScores]) -> None:
    flat = [dataclasses.replace(score, flat=True) for score in toy_scores]
    text = report_html(_report(flat))
    assert "Reference [pixels]" in text and "[ml]" not in text


def test_the_dot_plot_shows_every_case(toy_scores: list[CaseScores]) -> None:
    svg = dot_plot(case_table(_report(toy_scores)), ["one", "two"])
    drawing = ElementTree.fromstring(svg)
    assert len(list(drawing.iter("circle"))) == 3  # two of label one, one of label two
    crosses = [path for path in drawing.iter("path") if path.get("class") == "cross"]
    assert len(crosses) == 2


def test_dots_of_one_value_do_not_cover_each_other() -> None:
    cases = [{"id": str(n), "labels": {"x": {"dice": 0.9, "reason": ""}}} for n in range(9)]
    svg = dot_plot(cases, ["x"])
    places = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert len(places) == len(set(places)) == 9
    assert "axis starts at 0.8" in svg
