"""What `inspect` tells of folders of scans and of labelled cases."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

from medseg.core.errors import UsageError
from medseg.core.events import Progress
from medseg.core.geometry import Geometry
from medseg.core.plan import ChannelStats, Fingerprint
from medseg.core.task import parse_task
from medseg.core.volume import Volume
from medseg.data.shipped import find_task, sample_data
from medseg.formats import write_volume
from medseg.formats.dicom_write import write_series
from medseg.workflows.inspect import InspectOptions, inspect

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


def body(seed: int) -> np.ndarray:
    """A CT phantom of 30×30×8 voxels: soft tissue with two lungs of air-like density, air around it."""
    array = np.full((30, 30, 8), -1000.0)
    array[5:25, 5:25] = 40
    array[7:12, 9:20], array[18:23, 9:20] = -850, -850
    return array + np.random.default_rng(seed).normal(0, 8, array.shape)


def lungs() -> np.ndarray:
    """Its label map on a RAS grid: the left lung (1) at the smaller x, the right one (2) at the larger."""
    label = np.zeros((30, 30, 8))
    label[7:12, 9:20], label[18:23, 9:20] = 1, 2
    return label


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(array[None].astype(np.float32), Geometry.from_spacing((3, 3, 5), array.shape)), path)


@pytest.fixture
def chests(tmp_path: Path) -> Path:
    """Six sound cases."""
    for n in range(6):
        write(tmp_path / f"images/chest_{n}.nii.gz", body(n))
        write(tmp_path / f"labels/chest_{n}.nii.gz", lungs())
    return tmp_path


def spoil(folder: Path, case: str, label: np.ndarray | None = None, image: np.ndarray | None = None) -> None:
    if label is not None:
        write(folder / f"labels/{case}.nii.gz", label)
    if image is not None:
        write(folder / f"images/{case}.nii.gz", image)


def odd(found) -> dict[str, set[str]]:
    """Cases with warnings or errors, and their codes."""
    told = {row.id: {f.code for f in row.findings if f.severity != "info"} for row in found.cases}
    return {case: codes for case, codes in told.items() if codes}


def test_sound_chests_are_clean(chests):
    found = inspect(chests, "lung_ct")
    assert odd(found) == {} and not found.findings and found.exit_code == 0
    label = found.cases[0].labels[0]
    assert (label.name, label.voxels, label.pieces) == ("left lung", 440, 1)
    assert label.volume_ml == pytest.approx(440 * 0.045)


def test_everything_that_only_shows_beside_the_others(chests):
    swapped, specks, beyond = lungs(), lungs(), lungs()
    swapped[swapped > 0] = 3 - swapped[swapped > 0]
    specks[28, 28, ::2] = 1
    beyond[0:4, 0:4, 0:4] = 2
    spoil(chests, "chest_1", swapped)
    spoil(chests, "chest_2", specks)
    spoil(chests, "chest_3", beyond)
    spoil(chests, "chest_4", image=body(5))  # a copy of chest_5
    spoil(chests, "chest_0", image=body(0) + 1024)
    found = inspect(chests, "lung_ct")
    assert odd(found) == {
        "chest_0": {"intensity-range"},
        "chest_1": {"sides-swapped"},
        "chest_2": {"tiny-specks"},
        "chest_3": {"label-outside-body"},
        "chest_4": {"duplicate-content"},
        "chest_5": {"duplicate-content"},
    }
    assert found.exit_code == 1


def test_a_slip_of_the_brush_without_a_task(chests):
    slip = lungs()
    slip[15, 15, 4] = 7
    spoil(chests, "chest_2", slip)
    (row,) = [row for row in inspect(chests).cases if odd(inspect(chests)).get(row.id)]
    assert row.id == "chest_2" and row.findings[0].code == "label-in-one-case"
    assert row.findings[0].values["label"] == "7" and row.findings[0].values["voxels"] == 1


def test_a_split_that_cuts_through_a_patient(chests):
    raw = {"name": "t", "modality": "CT", "labels": {"a": 1, "b": 2}, "data": {"group": r"chest_(\d)"}}
    for n in (0, 1):
        spoil(chests, f"chest_{n}_again", lungs(), body(10 + n))
    task = parse_task(raw, "t")
    split = chests / "split.json.txt"
    split.write_text(json.dumps({"train": ["chest_0", "chest_1", "chest_1_again"], "test": ["chest_0_again"]}))
    found = inspect(chests, task, options=InspectOptions(split=split))
    assert odd(found) == {"chest_0": {"same-patient"}, "chest_0_again": {"same-patient"}}
    assert found.cases[0].parts == ("train",)
    assert inspect(chests, task).exit_code == 0  # the task's folds keep a group together


def test_grid_mismatch_tells_both_grids(chests):
    spoil(chests, "chest_1", lungs()[:-1])
    (finding,) = inspect(chests, "lung_ct").cases[1].findings
    assert finding.code == "grid-mismatch"
    assert finding.values["label"]["shape"] == [29, 30, 8] and finding.values["image"]["shape"] == [30, 30, 8]


def test_paths_are_told_from_the_inspected_folder(chests):
    spoil(chests, "chest_1", lungs()[:-1])
    plain = json.loads(json.dumps(inspect(chests).to_json()["cases"][1]))
    assert plain["path"] == "images/chest_1.nii.gz" and plain["label"] == "labels/chest_1.nii.gz"
    assert str(chests) not in json.dumps(plain)


def test_a_model_says_what_it_would_refuse_and_what_is_unlike_its_training(chests, tmp_path, monkeypatch):
    stats = ChannelStats(-900, -850, -800, -850, 10, -1000, 400)
    trained = Fingerprint(3, ((30, 30, 8),), ((3.0, 3.0, 5.0),), (stats,), {}, {}, 0.1)
    bundle = SimpleNamespace(task=find_task("lung_ct"), fingerprint=trained)
    monkeypatch.setattr("medseg.bundle.Bundle.load", lambda path: bundle)
    spoil(chests, "chest_1", image=body(1) + 1024)
    spoil(chests, "chest_2", image=np.where(body(2) > -500, body(2), -1000 + 0.1 * body(2)))
    found = inspect(chests / "images", options=InspectOptions(model=Path("run")))
    assert odd(found) == {"chest_1": {"refused-by-model"}, "chest_2": {"intensity-range"}}
    assert found.context == {"task": "lung_ct", "model": "run"}
    thin = Fingerprint(3, ((30, 30, 8),), ((1.0, 1.0, 1.0),), (stats,), {}, {}, 0.1)
    bundle.fingerprint = thin
    assert all("spacing-outlier" in codes or "refused-by-model" in codes for codes in odd(
        inspect(chests / "images", options=InspectOptions(model=Path("run")))).values())  # fmt: skip


def test_json_and_page_are_written_and_nothing_else(chests, tmp_path):
    out = tmp_path / "out"
    found = inspect(chests, "lung_ct", out)
    assert sorted(path.name for path in out.iterdir()) == ["inspect.html", "inspect.json"]
    assert json.loads((out / "inspect.json").read_text("utf-8")) == json.loads(json.dumps(found.to_json()))
    page = (out / "inspect.html").read_text("utf-8")
    assert page.count("<article") == 6 == page.count("data:image/png;base64,")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Three series of two patients, one of whose folders repeats the name, with label maps beside them."""
    for n in range(3):
        folder = tmp_path / f"cases/images/scan_{n}{'_Doe' if n == 1 else ''}"
        write_series(Volume(body(n)[None].astype(np.float32), Geometry.from_spacing((3, 3, 5), (30, 30, 8))), folder)
        for file in folder.iterdir():
            dataset = pydicom.dcmread(file)
            dataset.PatientID, dataset.PatientName = ("MRN0042" if n < 2 else "MRN0043"), "Doe^Jane"
            dataset.save_as(file)
        write(tmp_path / f"cases/labels/{folder.name}.nii.gz", lungs())
    return tmp_path / "cases"


NAMES = ("MRN0042", "MRN0043", "Doe", "Jane")


def test_two_series_of_one_patient_are_found_and_nobody_is_named(series, tmp_path):
    found = inspect(series, "lung_ct", tmp_path / "out")
    assert list(odd(found).values()) == [{"same-patient"}] * 2 and "scan_0" in odd(found)
    written = [file.read_text("utf-8") for file in (tmp_path / "out").iterdir()]
    for text in (*written, str(found), str(found.sentences()), str(found.table())):
        assert not any(name in text for name in NAMES)
    assert written[0].count("data:image/png") + written[1].count("data:image/png") == 3
    kept = inspect(series, "lung_ct", options=InspectOptions(keep_identifiers=True))
    assert "scan_1_Doe" in odd(kept)


def test_archives_are_looked_into_and_nobody_is_named(series, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.make_archive(str(scans / "MRN0042"), "zip", series / "images")
    found = inspect(scans, output=tmp_path / "out")
    assert len(found.cases) == 3 and found.exit_code == 0
    plain = (tmp_path / "out/inspect.json").read_text("utf-8")
    assert not any(name in plain for name in NAMES) and tempfile.gettempdir() not in plain.split('"cases"', 1)[1]


@pytest.mark.real_data
def test_real_folders(shared_data):
    found = inspect(shared_data / "hippocampus_mr", "hippocampus_mr")
    assert len(found.cases) == 60 and found.exit_code == 0 and "3 further scans" in found.notes[0]
    found = inspect(shared_data / "nuclei_dsb2018", "cells_2d")
    assert len(found.cases) == 65 and found.totals()["usable"] == 65 and found.exit_code == 0
    found = inspect(shared_data / "sarcoma_pet_ct_mr" / "nifti", "sarcoma_pet")
    assert len(found.cases) == 36 and found.exit_code == 0


@pytest.mark.parametrize(("name", "task"), [("lung_ct", "lung_ct"), ("cells_2d", "cells_2d"), ("lung_ct_dicom", None)])
def test_the_sample_data_give_no_alarm(name, task):
    found = inspect(sample_data() / name, task)
    assert found.exit_code == 0, odd(found)
