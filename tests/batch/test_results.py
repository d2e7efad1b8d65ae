"""results.csv and the last line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from medseg.batch.results import BatchResult, ScanResult, previous_outputs, write_results
from medseg.core.case import Status


def _result(folder: Path, *rows: ScanResult) -> BatchResult:
    return BatchResult(rows, ("left lung", "right lung"), "abc", folder)


OK = ScanResult(
    "a/one", "a/one.nii.gz", "nifti", Status.OK, "", ("derived",), 1.234, {"left lung": 1.5}, 0.9, "a/one.nii.gz",
    (0.9, 0.8, 0.95),
)  # fmt: skip
REVIEW = ScanResult("two", "two.nii", "nifti", Status.REVIEW, "odd spacing", output="two.nii.gz")
REFUSED = ScanResult("three", "three.nii", "nifti", Status.REFUSED, "is a label map")
FAILED = ScanResult('four, "quoted"\nname', "four.nii", "nifti", Status.FAILED, "is empty")


def test_every_scan_has_one_row_that_reads_back(tmp_path: Path) -> None:
    write_results(_result(tmp_path, OK, REVIEW, REFUSED, FAILED))
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "scan", "path", "format", "status", "reason", "findings", "seconds",
        "volume_ml left lung", "volume_ml right lung", "confidence",
        "expected_dice", "expected_low", "expected_high", "output", "model",
    ]  # fmt: skip
    assert [row["scan"] for row in rows] == [OK.scan, REVIEW.scan, REFUSED.scan, FAILED.scan]
    assert [row["status"] for row in rows] == ["ok", "review", "refused", "failed"]
    assert rows[0]["volume_ml left lung"] == "1.5000" and rows[0]["volume_ml right lung"] == ""
    assert rows[0]["findings"] == "derived" and rows[0]["seconds"] == "1.23" and rows[0]["model"] == "abc"
    expected = [[row[f"expected_{name}"] for name in ("dice", "low", "high")] for row in rows]
    assert expected == [["0.9000", "0.8000", "0.9500"], ["", "", ""], ["", "", ""], ["", "", ""]]
    assert previous_outputs(tmp_path) == {"a/one": "a/one.nii.gz", "two": "two.nii.gz"}


def test_a_foreign_or_missing_results_csv_is_no_earlier_run(tmp_path: Path) -> None:
    assert previous_outputs(tmp_path) == {}
    (tmp_path / "results.csv").write_text("name,score\nx,1\n", encoding="utf-8")
    assert previous_outputs(tmp_path) == {}
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe\x00")
    assert previous_outputs(tmp_path) == {}


def test_exit_code_tells_all_some_none(tmp_path: Path) -> None:
    assert _result(tmp_path, OK, REVIEW).exit_code == 0
    assert _result(tmp_path, OK, REFUSED).exit_code == 1
    assert _result(tmp_path, REFUSED, FAILED).exit_code == 2


def test_the_last_line_counts_and_says_why(tmp_path: Path) -> None:
    line = _result(tmp_path, OK, REVIEW, REFUSED, REFUSED, FAILED).summary()
    assert "2 of 5 scans segmented (1 to be reviewed)" in line
    assert "2 refused (2x is a label map)" in line
    assert "1 failed (is empty)" in line
    assert "\n" not in line


def test_plain_result_is_json(tmp_path: Path) -> None:
    plain = json.loads(json.dumps(_result(tmp_path, OK, FAILED).plain(), allow_nan=False))
    assert plain["counts"] == {"ok": 1, "review": 0, "refused": 0, "failed": 1}
    assert plain["scans"][0]["volume_ml"] == {"left lung": 1.5}
    assert plain["scans"][1]["output"] is None
