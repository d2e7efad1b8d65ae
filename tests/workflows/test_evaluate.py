"""`medseg.evaluate` on folders of real files: matching, values, missing and odd predictions, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.case import Source
from medseg.core.errors import FormatError, TaskError, UsageError
from medseg.core.events import Event, Message, Progress
from medseg.core.geometry import Geometry
from medseg.core.report import Report
from medseg.core.volume import LabelMap, Volume
from medseg.evaluation.report import case_table
from medseg.formats import discover, source_of, write_labelmap, write_volume
from medseg.workflows.evaluate import EvaluateOptions, evaluate, evaluate_models, model_names
from tests.drawings import ct, square, write_rtstruct

GRID = Geometry(np.diag([-1.0, -1.0, 2.0, 1.0]), (6, 5, 4))


def _write(path: Path, array: np.ndarray, geometry: Geometry = GRID) -> None:
    write_volume(Volume(array[None].astype(np.float32), geometry), path)


def _box(value: int = 1, start: int = 0, stop: int = 3) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[start:stop] = value
    return array


def _figures(report: Report) -> dict[str, dict[str, float | None]]:
    return {
        case["id"]: {name: figures["dice"] for name, figures in case["labels"].items()} for case in case_table(report)
    }


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Predictions, references, output; a is right, b overlaps by half."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for name, start in (("a", 0), ("sub/b", 1)):
        _write(references / f"{name}.nii.gz", _box())
        _write(predictions / f"{name}.nii.gz", _box(1, start, start + 3))
    return predictions, references, tmp_path / "out"


def test_two_folders(folders: tuple[Path, Path, Path]) -> None:
    events: list[Event] = []
    report = evaluate(*folders, listener=events.append)
    assert _figures(report) == {"a": {"1": 1.0}, "sub/b": {"1": pytest.approx(2 / 3)}}
    written = json.loads((folders[2] / "report.json").read_text("utf-8"))
    assert written["summary"]["mean_dice"] == pytest.approx(5 / 6)
    assert written["scored_on"] == "given" and written["problems"] == {}
    assert {file.name for file in folders[2].iterdir()} == {"report.json", "report.csv", "report.html"}
    assert [event.done for event in events if isinstance(event, Progress) and event.stage == "evaluate"] == [0, 1, 2]


def test_two_files_of_different_names(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    report = evaluate(predictions / "sub/b.nii.gz", references / "a.nii.gz", output)
    assert _figures(report) == {"a": {"1": pytest.approx(2 / 3)}}


def test_missing_unreadable_and_extra_predictions(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    for name in ("c", "d"):
        _write(references / f"{name}.nii.gz", _box())
    (predictions / "d.nii.gz").write_text("no scan")
    _write(predictions / "z.nii.gz", _box())
    _write(predictions / "previews/a.nii.gz", _box())
    report = evaluate(predictions, references, output)
    assert _figures(report)["c"] == _figures(report)["d"] == {"1": 0.0}
    assert report.summary["n_missed"] == 2 and report.summary["mean_dice"] == pytest.approx((1 + 2 / 3) / 4)
    assert report.context["missing_predictions"] == ["c", "d"]
    assert report.context["extra_predictions"] == ["z"]
    assert "no prediction" in report.problems["c"] and "d.nii.gz" in report.problems["d"]

    left_out = evaluate(predictions, references, output, EvaluateOptions(leave_out_missing=True))
    assert set(_figures(left_out)) == {"a", "sub/b"} and set(left_out.problems) == {"c", "d"}


def test_another_grid_is_a_problem_unless_resampling_is_asked_for(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    finer = GRID.resampled((12, 10, 8))
    _write(references / "c.nii.gz", _box())
    _write(predictions / "c.nii.gz", _box().repeat(2, 0).repeat(2, 1).repeat(2, 2), finer)
    report = evaluate(predictions, references, output)
    assert set(_figures(report)) == {"a", "sub/b"}
    assert "c.nii.gz" in report.problems["c"] and "12×10×8" in report.problems["c"]
    resampled = evaluate(predictions, references, output, EvaluateOptions(resample=True))
    assert _figures(resampled)["c"] == {"1": 1.0} and resampled.context["resampled"] == ["c"]
    assert "resampled" in (output / "report.csv").read_text("utf-8")


def test_axes_that_run_otherwise_over_the_same_voxels_are_no_mismatch(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    turned = GRID.reordered((2, 0, 1), (True, False, False))
    _write(predictions / "a.nii.gz", np.flip(_box().transpose(2, 0, 1), 0), turned)
    assert _figures(evaluate(predictions, references, output))["a"] == {"1": 1.0}


def test_labels_absent_from_a_case_are_undefined_there(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    for folder in (predictions, references):
        _write(folder / "c.nii.gz", _box(4))
    report = evaluate(predictions, references, output)
    assert report.labels == ("1", "4")
    assert _figures(report)["c"] == {"1": None, "4": 1.0}
    assert report.summary["n_both_empty"] == 3


def test_merged_labels_and_other_values_in_the_references(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    _write(references / "a.nii.gz", np.where(np.arange(6)[:, None, None] < 2, _box(10), _box(11)))
    _write(references / "sub/b.nii.gz", _box(10))
    _write(predictions / "a.nii.gz", _box(2))
    same = evaluate(predictions, references, output, EvaluateOptions(map={"lung": (1, 2, 10, 11)}))
    options = EvaluateOptions(map={"lung": (1, 2)}, reference_map={"lung": (10, 11)})
    other = evaluate(predictions, references, output, options)
    assert _figures(same) == _figures(other) == {"a": {"lung": 1.0}, "sub/b": {"lung": pytest.approx(2 / 3)}}
    assert other.context["merged_labels_of_references"] == {"lung": [10, 11]}


def test_binary_takes_instances_for_one_structure(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    instances = np.arange(120).reshape(GRID.shape) * 7
    _write(references / "a.nii.gz", instances)
    _write(predictions / "a.nii.gz", (instances > 0) * 255)
    with pytest.raises(UsageError, match="instance"):
        evaluate(predictions, references, output)
    report = evaluate(predictions, references, output, EvaluateOptions(binary=True))
    assert _figures(report)["a"] == {"foreground": 1.0}


def test_values_that_nothing_shares_are_remarked_upon(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    for name in ("a", "sub/b"):
        _write(references / f"{name}.nii.gz", _box(255))
    events: list[Event] = []
    report = evaluate(predictions, references, output, listener=events.append)
    assert "none in common" in report.context["remarks"][0]
    assert [event.text for event in events if isinstance(event, Message)] == report.context["remarks"]


def test_ignored_voxels(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, output = folders
    reference = _box()
    reference[0], reference[3] = 9, 9
    _write(references / "sub/b.nii.gz", reference)
    report = evaluate(predictions, references, output, EvaluateOptions(ignore=9))
    assert _figures(report)["sub/b"] == {"1": 1.0}


TASK = """
name: lungs
modality: CT
labels:
  left lung: {value: 1, sources: [10, 11]}
  right lung: {value: 2, sources: [12]}
ignore: 99
data: {group: "^(p[0-9]+)"}
"""


def test_a_task_names_and_maps_the_labels(tmp_path: Path) -> None:
    task = tmp_path / "lungs.yaml"
    task.write_text(TASK)
    references, predictions = tmp_path / "references", tmp_path / "predictions"
    reference = np.where(np.arange(6)[:, None, None] < 2, 10, _box(11)) + _box(12, 4, 5)
    reference[5] = 99
    _write(references / "p1_x.nii.gz", reference)
    _write(predictions / "p1_x.nii.gz", _box() + _box(2, 4, 6))
    _write(references / "p2_x.nii.gz", _box(7))
    _write(predictions / "p2_x.nii.gz", _box())
    _write(references / "p3_x.nii.gz", _box(12))
    _write(predictions / "p3_x.nii.gz", _box(3))
    report = evaluate(predictions, references, tmp_path / "out", EvaluateOptions(task=str(task)))
    assert _figures(report) == {
        "p1_x": {"left lung": 1.0, "right lung": 1.0},
        "p3_x": {"left lung": None, "right lung": 0.0},
    }
    assert "value 7" in report.problems["p2_x"] and "value 3" in report.problems["p3_x"]
    merged = EvaluateOptions(task=str(task), map={"lungs": (1, 2)})
    assert _figures(evaluate(predictions, references, tmp_path / "out", merged))["p1_x"] == {"lungs": 1.0}


def test_pictures_of_png_scans(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((1, 1, 1), (20, 30, 1))
    rng = np.random.default_rng(0)
    for n, name in enumerate(("x", "y", "z")):
        label = np.zeros((20, 30, 1), np.uint8)
        label[5:15, 5:15] = 1
        image = rng.integers(0, 255, (3, 20, 30, 1)).astype(np.float32)
        write_volume(Volume(image, geometry), tmp_path / "images" / f"{name}.png")
        scan: Source = source_of(tmp_path / "images" / f"{name}.png")
        write_labelmap(LabelMap(label, geometry), scan, tmp_path / "references" / name)
        write_labelmap(LabelMap(np.roll(label, n, 0), geometry), scan, tmp_path / "predictions" / name)
    (tmp_path / "images" / "y.png").unlink()
    events: list[Event] = []
    options = EvaluateOptions(images=tmp_path / "images")
    for _ in range(2):  # the second time over its own output
        report = evaluate(
            tmp_path / "predictions", tmp_path / "references", tmp_path / "predictions", options, events.append
        )
        assert "extra_predictions" not in report.context
    pictures = sorted(file.name for file in (tmp_path / "predictions" / "pictures").iterdir())
    assert pictures == ["best.png", "worst.png"]
    assert next(event.text for event in events if isinstance(event, Message)).startswith("y: no picture")
    page = (tmp_path / "predictions" / "report.html").read_text("utf-8")
    assert page.count('<img src="data:image/png;base64,') == 2 and "Reference [pixels]" in page


def test_what_cannot_be_compared_at_all_is_one_sentence(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    predictions, references, output = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FormatError, match="no such file or folder"):
        evaluate(tmp_path / "nowhere", references, output)
    with pytest.raises(UsageError, match="no label map"):
        evaluate(predictions, empty, output)
    with pytest.raises(UsageError, match="no predicted label map"):
        evaluate(empty, references, output)
    _write(empty / "q.nii.gz", _box())
    with pytest.raises(UsageError, match="'q'"):
        evaluate(empty, references, output)
    with pytest.raises(UsageError, match="exclude each other"):
        evaluate(predictions, references, output, EvaluateOptions(binary=True, map={"x": (1,)}))
    with pytest.raises(UsageError, match="must have the names"):
        evaluate(predictions, references, output, EvaluateOptions(map={"x": (1,)}, reference_map={"y": (1,)}))
    with pytest.raises(TaskError, match="belongs to both"):
        evaluate(predictions, references, output, EvaluateOptions(map={"x": (1,), "y": (1,)}))
    assert not output.exists()


def test_references_drawn_in_dicom_are_called_by_their_series(tmp_path: Path) -> None:
    root, task = tmp_path / "dicom", tmp_path / "tumour.yaml"
    task.write_text("name: tumour\nmodality: CT\nlabels: {tumour: {value: 1, names: 'GTV.*'}}\n")
    geometry = ct(root / "scan")
    contours = [square(geometry, (2.5, 1.5), (6.5, 5.5), k) for k in (1, 2)]
    write_rtstruct(root / "drawn.dcm", root / "scan", {"GTV 1": contours, "Patient": contours})
    scan = next(source for source in discover(root) if source.modality == "CT")
    found = np.zeros(geometry.shape, np.uint8)
    found[3:7, 2:6, 1] = 1
    write_labelmap(LabelMap(found, geometry), scan, tmp_path / "predictions" / scan.name)
    options = EvaluateOptions(task=str(task))
    report = evaluate(tmp_path / "predictions", root, tmp_path / "out", options)
    assert _figures(report) == {scan.name: {"tumour": pytest.approx(2 / 3)}}
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "data:image/webp" in page and (tmp_path / "out" / "pictures" / "worst.png").exists()
    with pytest.raises(UsageError, match="name a task"):
        evaluate(tmp_path / "predictions", root, tmp_path / "out")


@pytest.mark.real_data
def test_real_references_agree_with_themselves(shared_data: Path, tmp_path: Path) -> None:
    labels = shared_data / "hippocampus_mr" / "labels"
    options = EvaluateOptions(task="hippocampus_mr", images=shared_data / "hippocampus_mr" / "images")
    report = evaluate(labels, labels, tmp_path, options)
    assert report.summary["mean_dice"] == report.summary["dataset_miou"] == 1.0
    assert report.summary["n_cases"] >= 50 and not report.problems
    assert (tmp_path / "pictures" / "median.png").stat().st_size > 10_000


def _models(folder: Path, **shifts: int) -> list[Path]:
    """Ten cases of three models, `shifts` voxels off; the references are in folder/references."""
    for case in range(10):
        _write(folder / "references" / f"c{case}.nii.gz", _box(1, case % 3, case % 3 + 3))
        for name, shift in shifts.items():
            start = max(0, case % 3 - shift)
            _write(folder / name / "predictions" / f"c{case}.nii.gz", _box(1, start, case % 3 + 3))
    return [folder / name / "predictions" for name in shifts]


def test_several_models_are_compared_with_paired_tests(tmp_path: Path) -> None:
    good, fair, poor = _models(tmp_path, good=0, fair=1, poor=2)
    (fair / "c0.nii.gz").unlink()
    comparison = evaluate_models([good, fair, poor], tmp_path / "references", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert list(written["models"]) == ["good", "fair", "poor"]
    assert written["models"]["good"]["summary"]["mean_dice"] == 1.0
    assert "no prediction" in written["models"]["fair"]["problems"]["c0"]
    tests = {(test["first"], test["second"]): test for test in written["tests"]}
    assert list(tests) == [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    assert tests["good", "poor"]["n"] == 10 and tests["good", "poor"]["difference"] > 0
    assert all(test["p"] <= test["p_holm"] for test in written["tests"])
    assert written["ranking"]["models"][0] == "good" and len(comparison.tests) == 3
    lines = (tmp_path / "out" / "report.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith("model,case,label,dice") and len(lines) == 1 + 3 * 10
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "3 models compared on 10 cases" in page and "Holm" in page and str(tmp_path.parent.parent) not in page[:2000]


def test_two_models_on_few_cases_are_told_what_a_test_cannot_show(tmp_path: Path) -> None:
    first, second = _models(tmp_path, a=0, b=1)
    for folder in (first, second, tmp_path / "references"):
        for case in range(3, 10):
            (folder / f"c{case}.nii.gz").unlink()
    comparison = evaluate_models([first, second], tmp_path / "references", tmp_path / "out")
    assert "too few" in comparison.tests[0].note
    assert "no difference shown" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_models_are_called_by_what_tells_their_folders_apart() -> None:
    assert model_names([Path("runs/a/predictions"), Path("runs/b/predictions")]) == ["a", "b"]
    assert model_names([Path("x/one"), Path("y/two")]) == ["one", "two"]
    assert model_names([Path("x/one/best"), Path("y/one/best"), Path("y/two/best")]) == ["x/one", "y/one", "y/two"]
    with pytest.raises(UsageError, match="nothing to compare"):
        model_names([Path("a")])
    with pytest.raises(UsageError, match="named twice"):
        model_names([Path("a"), Path("./a")])
