"""Unions of labels are scored like labels of their own, and stay out of the means over labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.regions import score_regions
from medseg.evaluation.score import wanted
from medseg.formats import write_volume
from medseg.workflows.evaluate import EvaluateOptions, evaluate

GRID = Geometry(np.diag([-1.0, -1.0, 2.0, 1.0]), (10, 6, 4))
TASK = {
    "name": "kidney_tumour",
    "modality": "CT",
    "labels": {"kidney": 1, "tumour": 2},
    "regions": {"whole kidney": ["kidney", "tumour"]},
    "ignore": 9,
}


def _kidney(tumour_from: int, ignored: int = IGNORE) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[2:8, 1:5] = 1
    array[tumour_from:8, 1:5] = 2
    array[9] = ignored
    return array


def _map(array: np.ndarray) -> LabelMap:
    return LabelMap(array, GRID, ())


def test_what_one_label_takes_from_the_other_costs_the_union_nothing() -> None:
    found, true = _map(_kidney(4, ignored=0)), _map(_kidney(6))
    (whole,) = score_regions(found, true, {"whole": (1, 2)}, wanted(None))
    assert (whole.label, whole.dice, whole.figures["hd95"]) == ("whole", 1.0, 0.0)
    assert whole.volume_ml == pytest.approx(6 * 4 * 4 * 2 / 1000)
    (tumour,) = score_regions(found, true, {"tumour": (2,)}, wanted(None))
    assert tumour.dice == pytest.approx(2 * 2 / (2 + 4))
    assert score_regions(found, true, {}, wanted(None)) == ()


def test_ignored_voxels_leave_the_union_too() -> None:
    found = _kidney(6, ignored=2)  # predicted where nothing is known
    (whole,) = score_regions(_map(found), _map(_kidney(6)), {"whole": (1, 2)}, wanted(None))
    assert whole.dice == 1.0


def test_evaluate_reports_regions_beside_the_labels(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK))
    for folder, case, start in (("true", "a", 6), ("found", "a", 4), ("true", "b", 5), ("found", "b", 5)):
        array = _kidney(start, ignored=9 if folder == "true" else 0)
        (tmp_path / folder).mkdir(exist_ok=True)
        write_volume(Volume(array[None].astype(np.float32), GRID), tmp_path / folder / f"{case}.nii.gz")
    places = tmp_path / "found", tmp_path / "true", tmp_path / "out"
    report = evaluate(*places, EvaluateOptions(task=str(tmp_path / "task.yaml")))
    assert report.labels == ("kidney", "tumour")
    assert report.summary["per_region"]["whole kidney"]["mean_dice"] == 1.0
    per_label = report.summary["per_label"]
    assert list(per_label) == ["kidney", "tumour"]
    mean = (per_label["kidney"]["mean_dice"] + per_label["tumour"]["mean_dice"]) / 2
    assert report.summary["mean_dice"] == pytest.approx(mean) and mean < 0.9
    written = json.loads((tmp_path / "out/report.json").read_text("utf-8"))
    assert [sorted(case["labels"]) for case in written["cases"]] == [["kidney", "tumour"]] * 2
    assert [case["regions"]["whole kidney"]["dice"] for case in written["cases"]] == [1.0, 1.0]
    assert written["cases"][0]["mean_dice"] < 0.8
    lines = list(csv.DictReader((tmp_path / "out/report.csv").read_text("utf-8").splitlines()))
    assert [line["label"] for line in lines] == ["kidney", "tumour", "whole kidney"] * 2
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "Labels and regions" in page and "<option>whole kidney</option>" in page


def test_merged_labels_have_no_regions(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK))
    for folder in ("true", "found"):
        (tmp_path / folder).mkdir()
        write_volume(Volume(_kidney(5, 0)[None].astype(np.float32), GRID), tmp_path / folder / "a.nii.gz")
    options = EvaluateOptions(task=str(tmp_path / "task.yaml"), map={"all": (1, 2)})
    report = evaluate(tmp_path / "found", tmp_path / "true", tmp_path / "out", options)
    assert report.labels == ("all",) and "per_region" not in report.summary
