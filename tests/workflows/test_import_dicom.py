"""A DICOM tree with drawings becomes a data set that reads back to the same label maps."""

from __future__ import annotations

import json
from gzip import decompress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.errors import DataError, UsageError
from medseg.core.events import Event, Message, silent
from medseg.core.labels import IGNORE
from medseg.core.task import DataSpec, Task, load_task, parse_task
from medseg.data.labels import read_case
from medseg.data.layouts import declared_labels, find_cases, find_dataset
from medseg.formats import read_labels
from medseg.workflows.import_dicom import import_dicom
from medseg.workflows.init import init
from tests.drawings import change, ct, square, write_rtstruct

BOX = ((1.5, 1.5), (4.5, 4.5))  # 3 x 3 pixels
OTHER = ((5.5, 5.5), (7.5, 7.5))  # 2 x 2


def task(**changes: Any) -> Task:
    labels = {"gtv": {"names": ["GTV.*"]}}
    return parse_task({"name": "tiny", "modality": "CT", "labels": labels, **changes}, "tiny")


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Two patients with a CT and a structure set each, the second without a heart."""
    root = tmp_path / "archive"
    for number, name in enumerate(("MUELLER^KARL", "WEBER^IDA")):
        folder = root / name / "scan"
        geometry = ct(folder, seed=name)
        change(folder, PatientID=f"PID{name}", PatientName=name, PatientBirthDate="19470311")
        rois = {"GTV_1": [square(geometry, *BOX, 2)], "heart": [square(geometry, *OTHER, 3)]}
        if number:
            rois.pop("heart")
        write_rtstruct(root / name / "rs.dcm", folder, rois)
    return root


def test_every_structure_becomes_a_label_without_a_task(patients: Path, tmp_path: Path) -> None:
    result = import_dicom(patients, tmp_path / "out", None, silent)
    assert declared_labels(tmp_path / "out") == {"GTV_1": (1,), "heart": (2,)}
    dataset = find_dataset(tmp_path / "out", DataSpec())
    assert dataset is not None
    assert not dataset.problems
    values = [np.unique(read_labels(case.label).array).tolist() for case in dataset.cases if case.label]
    assert sorted(values) == [[0, 1], [0, 1, 2]]
    assert len({case.group for case in dataset.cases}) == 2
    assert [(row.name, row.label, row.value, row.images, row.pixels) for row in result.classes] == [
        ("GTV_1", "GTV_1", 1, 2, 18), ("heart", "heart", 2, 1, 4),
    ]  # fmt: skip
    assert (result.images, result.format, result.left_out) == (2, "dicom", ())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": {"lung": [7], "gtv": {"names": ["GTV.*"], "sources": [300, 4]}}, "undeclared": "background"},
        {"undeclared": "ignore"},
        {"undeclared": "ignore", "ignore": 9},
        {"labels": {"gtv": {"names": ["GTV.*"], "sources": "nonzero"}}},
    ],
)
def test_a_data_set_reads_back_as_the_tree_does(patients: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    wanted = task(**changes)
    import_dicom(patients, tmp_path / "out", wanted, silent)
    before = {case.id: read_case(case, wanted) for case in find_cases(wanted, patients).cases}
    after = {case.id: read_case(case, wanted) for case in find_cases(wanted, tmp_path / "out").cases}
    assert before.keys() == after.keys()
    for name, (scan, labelmap) in before.items():
        again, labels = after[name]
        assert np.array_equal(again.volume.array, scan.volume.array)
        assert again.volume.geometry.same_grid(scan.volume.geometry, 1e-3)
        assert np.array_equal(labels.array, labelmap.array)
        assert labelmap.array.any()
    if wanted.undeclared == "ignore":
        assert max(int(labels.array.max()) for _, labels in after.values()) == IGNORE


def test_a_task_can_be_written_for_a_tree_and_for_what_was_imported(patients: Path, tmp_path: Path) -> None:
    import_dicom(patients, tmp_path / "out", None, silent)
    for root in (patients, tmp_path / "out"):
        text = init(root, tmp_path / "task.yaml").read_text()
        written = load_task(tmp_path / "task.yaml")
        assert written.label_names == ("GTV_1", "heart")
        assert written.modality == "CT"
        (tmp_path / "task.yaml").write_text(text.replace("  GTV_1:", "  tumour:"))
        renamed = load_task(tmp_path / "task.yaml")
        sizes = [int((read_case(case, renamed)[1].array == 1).sum()) for case in find_cases(renamed, root).cases]
        assert sizes == [9, 9]
        (tmp_path / "task.yaml").unlink()


def test_nothing_tells_who_the_patients_are(patients: Path, tmp_path: Path) -> None:
    (label,) = (patients / "WEBER^IDA").glob("*.dcm")
    write_rtstruct(label, patients / "WEBER^IDA" / "scan", {"GTV": [[(0, 0, 0)] * 4], "id WEBER": []})
    events: list[Event] = []
    geometry = ct(patients / "third", seed="third")
    write_rtstruct(patients / "third.dcm", patients / "third", {"GTV": [square(geometry, *BOX, 2)]})
    import_dicom(patients, tmp_path / "out", task(), events.append)
    texts = [event.text.lower() for event in events if isinstance(event, Message)]
    assert any("lies beside the slices" in text for text in texts)
    assert not [text for text in texts for word in ("mueller", "weber", "karl", "1947") if word in text]
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 2 * 2 + 2  # of two cases, and the two lists
    for path in files:
        content = path.read_bytes()
        content = decompress(content) if path.suffix == ".gz" else content
        for word in (b"mueller", b"weber", b"karl", b"ida^", b"pid", b"1947"):
            assert word not in content.lower()
            assert word.decode() not in path.relative_to(tmp_path / "out").as_posix().lower()


def test_what_cannot_be_used_is_left_out_and_told(patients: Path, tmp_path: Path) -> None:
    geometry = ct(patients / "third", seed="third")
    write_rtstruct(patients / "third.dcm", patients / "third", {"GTV": [square(geometry, *BOX, 2.5)]})
    events: list[Event] = []
    result = import_dicom(patients, tmp_path / "out", task(), events.append)
    assert result.images == 2
    (row,) = result.left_out
    assert (row.code, "lies beside the slices" in row.why) == ("off-slice", True)
    assert any(isinstance(event, Message) and "lies beside the slices" in event.text for event in events)
    told = json.loads((tmp_path / "out" / "import.json").read_text())
    assert [row["code"] for row in told["left_out"]] == ["off-slice"]


def test_labels_that_are_not_drawn_are_counted(patients: Path, tmp_path: Path) -> None:
    result = import_dicom(
        patients, tmp_path / "out", task(labels={"heart": {"names": "heart"}, "gtv": {"names": ["gtv.*"]}}), silent
    )
    assert [(row.code, row.count, row.why) for row in result.left_out] == [
        ("missing-structure", 1, "'heart' is not drawn and counts as absent")
    ]


def test_an_import_without_a_usable_case_leaves_nothing_behind(patients: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="draws none of the labels 'lung'"):
        import_dicom(patients, tmp_path / "out", task(labels={"lung": 1}), silent)
    assert not (tmp_path / "out").exists()


def test_folders_in_use_and_folders_without_drawings_are_refused(patients: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        import_dicom(patients, tmp_path / "out", None, silent)
    ct(tmp_path / "bare")
    with pytest.raises(UsageError, match="no DICOM SEG or RTSTRUCT"):
        import_dicom(tmp_path / "bare", tmp_path / "new", None, silent)
    with pytest.raises(UsageError, match="no such folder"):
        import_dicom(tmp_path / "nowhere", tmp_path / "new", None, silent)


@pytest.mark.real_data
def test_the_sarcomas_are_imported_voxel_by_voxel(shared_data: Path, tmp_path: Path) -> None:
    wanted = task(modality="PT")
    import_dicom(shared_data / "sarcoma_pet_ct_mr" / "dicom", tmp_path / "out", wanted, silent)
    found = {int((case_labels != 0).sum()) for case_labels in _label_arrays(wanted, tmp_path / "out")}
    assert found == {239, 356}


def _label_arrays(wanted: Task, root: Path) -> list[np.ndarray]:
    return [read_case(case, wanted)[1].array for case in find_cases(wanted, root).cases]
