"""The three files of a report: golden JSON and CSV, and a page that needs nothing but itself."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from medseg import __version__
from medseg.core.report import Report
from medseg.evaluation.dotplot import dot_plot
from medseg.evaluation.report import build_report, case_table
from medseg.evaluation.score import CaseScores
from medseg.evaluation.write import Picture, report_html, write_report

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "report"
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


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(_same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return bool(found == pytest.approx(expected)) if isinstance(expected, float) else bool(found == expected)


def test_json_and_csv_match_the_golden_files(toy_scores: list[CaseScores], tmp_path: Path) -> None:
    write_report(_report(toy_scores), tmp_path)
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert found.pop("medseg") == __version__
    assert _same(found, json.loads((GOLDEN / "report.json").read_text("utf-8")))
    assert (tmp_path / "report.csv").read_text("utf-8") == (GOLDEN / "report.csv").read_text("utf-8")


def test_the_page_is_well_formed_and_needs_no_other_file(toy_scores: list[CaseScores], tmp_path: Path) -> None:
    picture = tmp_path / "best.png"
    picture.write_bytes(_PNG)
    write_report(_report(toy_scores), tmp_path, [Picture(picture, "Best: c", "mean Dice 0.900")], curves=picture)
    text = (tmp_path / "report.html").read_text("utf-8")
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


def test_a_report_without_cases_can_be_written(tmp_path: Path) -> None:
    write_report(build_report([], "given", problems={"a": "unreadable"}), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["summary"]["mean_dice"] is None
    assert "unreadable" in (tmp_path / "report.html").read_text("utf-8")


def test_the_same_report_gives_the_same_bytes(toy_scores: list[CaseScores], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_report(_report(toy_scores), tmp_path / folder)
    for name in ("report.json", "report.csv", "report.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


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
