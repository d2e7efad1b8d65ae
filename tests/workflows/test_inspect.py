"""What `inspect` tells of folders of scans and of labelled cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import UsageError
from medseg.core.events import Progress
from medseg.core.geometry import Geometry
from medseg.core.task import parse_task
from medseg.core.volume import Volume
from medseg.formats import write_volume
from medseg.workflows.inspect import inspect

SHAPE = (4, 3, 2)


def save(path: Path, values, orientation=((0, 1, 2), (False, False, False))) -> None:
    geometry = Geometry.from_spacing((1, 1.5, 2), SHAPE).reordered(*orientation)
    array = np.resize(np.asarray(values, dtype=np.float32), geometry.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(array[None], geometry), path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    label = np.zeros(SHAPE)
    label[1, 1] = 2
    for name, image in (("a", np.arange(24)), ("b", np.arange(24)[::-1])):
        save(tmp_path / f"images/{name}.nii.gz", image.reshape(SHAPE) - 3.5)
        save(tmp_path / f"labels/{name}.nii.gz", label)
    return tmp_path


def test_labelled_cases(dataset):
    events = []
    found = inspect(dataset, listener=events.append)
    assert [row.id for row in found.cases] == ["a", "b"] and found.exit_code == 0
    row = found.cases[0]
    assert (row.shape, row.orientation, row.format, row.channels) == (SHAPE, "RAS", "nifti", 1)
    assert row.spacing == pytest.approx((1, 1.5, 2)) and row.intensity == (-3.5, 19.5)
    assert row.label_values == (0, 2) and row.usable
    assert found.totals() == {
        "cases": 2, "labelled": 2, "groups": 2, "usable": 2, "with_errors": 0, "with_warnings": 0,
    }  # fmt: skip
    assert "images/ + labels/" in found.layout
    assert events[-1] == Progress("looking at the cases", 2, 2)


def test_json_is_plain_and_carries_findings(dataset):
    save(dataset / "images/c.nii.gz", [1, 2])
    save(dataset / "labels/d.nii.gz", 1)
    save(dataset / "odd/e.nii.gz", 1)
    (dataset / "images/f.nii.gz").write_text("no scan")
    save(dataset / "labels/f.nii.gz", 1)
    plain = json.loads(json.dumps(inspect(dataset).to_json(), allow_nan=False))
    codes = {case["id"]: [finding["code"] for finding in case["findings"]] for case in plain["cases"]}
    assert codes["a"] == [] and codes["c"] == ["unlabelled"] and codes["d"] == ["unpaired"] and len(codes["f"]) == 1
    assert plain["totals"]["cases"] == 5 and plain["totals"]["usable"] == 3
    finding = next(case for case in plain["cases"] if case["id"] == "c")["findings"][0]
    assert finding["severity"] == "warning" and "c.nii.gz" in finding["message"] and finding["values"] == {}
    assert any("odd/e" in note for note in plain["notes"])
    assert inspect(dataset).exit_code == 1


def test_a_task_is_held_against_the_cases(dataset):
    task = parse_task({"name": "t", "modality": "other", "labels": {"one": 1}}, "t")
    found = inspect(dataset, task)
    findings = [finding for row in found.cases for finding in row.findings]
    assert [finding.code for finding in findings] == ["undeclared-label"] * 2
    assert findings[0].values == {"labels": {"2": {"voxels": 2, "volume_ml": pytest.approx(0.006)}}}
    assert found.exit_code == 2
    assert inspect(dataset, parse_task({"name": "t", "modality": "other", "labels": {"two": [2]}}, "t")).exit_code == 0


def test_scans_without_labels_one_broken(tmp_path):
    save(tmp_path / "deep/scan.nii.gz", np.linspace(0, 1, 24), ((1, 0, 2), (True, False, True)))
    save(tmp_path / "mask.nii.gz", np.arange(24).reshape(SHAPE) % 3)
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")
    found = inspect(tmp_path)
    rows = {row.id: row for row in found.cases}
    assert found.layout == "scans" and set(rows) == {"deep/scan", "mask", "empty"}
    assert rows["deep/scan"].orientation == "PRI" and rows["deep/scan"].label_values is None
    assert rows["mask"].label_values == (0, 1, 2)
    assert not rows["empty"].usable and "empty.nii.gz" in rows["empty"].findings[0].message
    assert found.exit_code == 1


def test_a_single_scan_and_nothing(tmp_path):
    save(tmp_path / "a.nii.gz", [1, 2])
    assert [row.id for row in inspect(tmp_path / "a.nii.gz").cases] == ["a"]
    assert inspect(tmp_path).exit_code == 0
    (tmp_path / "empty").mkdir()
    assert inspect(tmp_path / "empty").exit_code == 2
    with pytest.raises(UsageError, match="no such folder"):
        inspect(tmp_path / "nowhere")


def test_table_and_sentences_fit_a_person(dataset):
    save(dataset / "labels/a.nii.gz", 0)
    found = inspect(dataset)
    columns, rows = found.table()
    assert all(len(row) == len(columns) for row in rows)
    assert rows[0][0] == "a" and rows[0][1] == "4×3×2" and rows[0][-1] == "empty-label"
    lines = found.sentences()
    assert lines[0].startswith("error: a: ") and "2 cases (2 nifti), 2 labelled, 1 usable" in lines[-1]


@pytest.mark.real_data
def test_real_folders(shared_data):
    found = inspect(shared_data / "hippocampus_mr", "hippocampus_mr")
    assert len(found.cases) == 60 and found.exit_code == 0 and "3 further scans" in found.notes[0]
    found = inspect(shared_data / "nuclei_dsb2018", "cells_2d")
    assert len(found.cases) == 65 and found.totals()["usable"] == 65
