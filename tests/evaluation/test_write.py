"""The three files of a report: golden JSON and CSV, and the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg import __version__
from medseg.core.report import Report
from medseg.evaluation.report import build_report
from medseg.evaluation.score import CaseScores
from medseg.evaluation.write import write_report

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "report"


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


def test_a_report_without_cases_can_be_written(tmp_path: Path) -> None:
    write_report(build_report([], "given", problems={"a": "unreadable"}), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["summary"]["mean_dice"] is None
    assert "unreadable" in (tmp_path / "report.html").read_text("utf-8")


def test_the_same_report_gives_the_same_bytes(toy_scores: list[CaseScores], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_report(_report(toy_scores), tmp_path / folder)
    for name in ("report.json", "report.csv", "report.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
