"""Cases from a tree of DICOM: which drawing belongs to which image, and which structure becomes which label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medseg.core.errors import DataError, FormatError, TaskError
from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE
from medseg.core.task import DataSpec, Task
from medseg.data.check import check_cases, examine
from medseg.data.dataset import Dataset, Severity
from medseg.data.drawn import all_labels
from medseg.data.labels import read_case, read_case_label
from medseg.data.layouts import find_cases, find_dataset
from medseg.formats import source_of
from tests.drawings import change, ct, square, write_rtstruct

Tasks = Callable[..., Task]
BOX = ((1.5, 1.5), (4.5, 4.5))  # 3 x 3 pixels


def gtv(task: Tasks, **changes: Any) -> Task:
    return task(**{"labels": {"gtv": {"names": ["GTV.*"]}}, **changes})


def tree(root: Path, patient: str = "MUELLER^KARL", rois: tuple[str, ...] = ("GTV_1",), at: float = 2) -> Geometry:
    """A patient's folder with a CT and a structure set, named as hospitals do."""
    folder = root / patient / "1"
    geometry = ct(folder, seed=patient)
    change(folder, PatientID=f"id-{patient}", PatientName=patient)
    contours = {name: [square(geometry, *BOX, at)] for name in rois}
    write_rtstruct(root / patient / "plans" / "x", folder, contours)
    return geometry


# ---- the tree ---------------------------------------------------------------------------------


def test_a_structure_set_labels_the_series_it_names(tmp_path: Path, task: Tasks) -> None:
    geometry = tree(tmp_path)
    dataset = find_cases(gtv(task), tmp_path)
    (case,) = dataset.cases
    scan, labelmap = read_case(case, gtv(task))
    assert scan.volume.geometry.shape == geometry.shape
    expected = np.zeros(geometry.shape, np.uint8)
    expected[2:5, 2:5, 2] = 1
    assert np.array_equal(labelmap.array, expected)
    assert not check_cases(dataset.cases, gtv(task))
    assert "SEG or RTSTRUCT" in dataset.layout


def test_names_of_cases_and_patients_tell_nothing_and_stay_as_they_are(tmp_path: Path, task: Tasks) -> None:
    tree(tmp_path / "a")
    tree(tmp_path / "b" / "moved")
    first, second = (find_cases(gtv(task), tmp_path / name).cases[0] for name in "ab")
    assert (first.id, first.group) == (second.id, second.group)
    assert "mueller" not in f"{first.id}{first.group}".lower()
    assert len(first.group) == 8
    assert first.id.startswith(first.group)


def test_series_of_one_patient_are_one_group(tmp_path: Path, task: Tasks) -> None:
    for number in ("1", "2"):
        geometry = ct(tmp_path / number, seed=number)
        change(tmp_path / number, PatientID="A1")
        write_rtstruct(tmp_path / f"rs{number}.dcm", tmp_path / number, {"gtv": [square(geometry, *BOX, 2)]})
    cases = find_cases(gtv(task), tmp_path).cases
    assert len(cases) == 2
    assert len({case.group for case in cases}) == 1


def test_a_placeholder_does_not_make_one_patient_of_a_whole_site(tmp_path: Path, task: Tasks) -> None:
    for number in ("1", "2"):
        geometry = ct(tmp_path / number, seed=number)
        change(tmp_path / number, PatientID="ANONYMOUS", PatientName="ANON^", PatientBirthDate="")
        write_rtstruct(tmp_path / f"rs{number}.dcm", tmp_path / number, {"gtv": [square(geometry, *BOX, 2)]})
    assert len({case.group for case in find_cases(gtv(task), tmp_path).cases}) == 2


def test_a_dangling_series_is_replaced_by_one_of_the_study_in_the_same_space(tmp_path: Path, task: Tasks) -> None:
    tree(tmp_path)
    (label,) = tmp_path.rglob("x")
    dataset = pydicom.dcmread(label)
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    dataset.save_as(label)
    (case,) = find_cases(gtv(task), tmp_path).cases
    assert read_case_label(case, gtv(task)).array.sum() == 9


def test_a_drawing_without_its_image_is_unpaired(tmp_path: Path, task: Tasks) -> None:
    tree(tmp_path)
    geometry = ct(tmp_path / "gone", seed="gone")
    write_rtstruct(tmp_path / "orphan.dcm", tmp_path / "gone", {"gtv": [square(geometry, *BOX, 2)]})
    for path in (tmp_path / "gone").iterdir():
        path.unlink()
    dataset = find_cases(gtv(task), tmp_path)
    assert len(dataset.cases) == 1
    (problem,) = dataset.problems
    assert (problem.code, "orphan.dcm" in problem.message) == ("unpaired", True)


def space_of(folder: Path) -> dict[str, str]:
    first = pydicom.dcmread(next(folder.iterdir()))
    return {"StudyInstanceUID": first.StudyInstanceUID, "FrameOfReferenceUID": first.FrameOfReferenceUID}


def test_the_modality_picks_among_the_series_of_one_space(tmp_path: Path, task: Tasks) -> None:
    geometry = ct(tmp_path / "ct", seed="one")
    ct(tmp_path / "mr", seed="two", modality="MR")
    change(tmp_path / "mr", **space_of(tmp_path / "ct"))
    for name in ("ct", "mr"):
        label = write_rtstruct(tmp_path / f"{name}.dcm", tmp_path / name, {f"GTV_{name}": [square(geometry, *BOX, 2)]})
        assert label.exists()
    dataset = find_cases(gtv(task), tmp_path)
    (case,) = dataset.cases
    assert case.images[0].modality == "CT"
    assert case.label is not None
    assert case.label.path.name == "ct.dcm"
    assert any("1 SEG or RTSTRUCT object was drawn on images that are no CT" in note for note in dataset.notes)
    both = find_dataset(tmp_path, DataSpec())
    assert both is not None
    assert len(both.cases) == 2


def test_a_drawing_that_may_belong_to_two_series_is_ambiguous(tmp_path: Path, task: Tasks) -> None:
    tree(tmp_path)
    geometry = ct(tmp_path / "a", seed="a")
    ct(tmp_path / "b", seed="b")
    change(tmp_path / "b", **space_of(tmp_path / "a"))
    label = write_rtstruct(tmp_path / "rs.dcm", tmp_path / "a", {"gtv": [square(geometry, *BOX, 2)]})
    dataset = pydicom.dcmread(label)
    series = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    series.SeriesInstanceUID = "1.2.3"
    dataset.save_as(label)
    assert [problem.code for problem in find_cases(gtv(task), tmp_path).problems] == ["ambiguous"]
    # The images that it names decide, where some are there.
    image = pydicom.dcmread(next((tmp_path / "b").iterdir()))
    series.ContourImageSequence[0].ReferencedSOPInstanceUID = image.SOPInstanceUID
    dataset.save_as(label)
    found = find_cases(gtv(task), tmp_path)
    assert not found.problems
    assert {case.images[0].path.name for case in found.cases} == {"1", "b"}


def two_sets(root: Path, first: str, second: str) -> None:
    geometry = ct(root / "ct")
    for number, name in enumerate((first, second)):
        contours = {name: [square(geometry, *BOX, 1 + number)]}
        write_rtstruct(root / f"rs{number}.dcm", root / "ct", contours)


def test_sets_that_draw_different_structures_are_taken_together(tmp_path: Path, task: Tasks) -> None:
    two_sets(tmp_path, "liver", "spleen")
    organs = task(labels={"liver": 1, "spleen": 2})
    (case,) = find_cases(organs, tmp_path).cases
    found = read_case_label(case, organs).array
    assert [(found == value).sum() for value in (1, 2)] == [9, 9]


def test_sets_that_draw_the_same_structure_are_ambiguous(tmp_path: Path, task: Tasks) -> None:
    two_sets(tmp_path, "GTV_old", "GTV_new")
    with pytest.raises(DataError, match="2 files could be its label: each draws 'gtv'"):
        find_cases(gtv(task), tmp_path)
    assert len(find_cases(task(labels={"GTV_old": 1}), tmp_path).cases) == 1


def test_a_copy_of_a_structure_set_is_no_second_reader(tmp_path: Path, task: Tasks) -> None:
    tree(tmp_path)
    (label,) = tmp_path.rglob("x")
    (tmp_path / "copy").write_bytes(label.read_bytes())
    assert len(find_cases(gtv(task), tmp_path).cases) == 1


def test_images_without_drawings_are_told_and_folders_without_any_are_no_layout(tmp_path: Path, task: Tasks) -> None:
    ct(tmp_path / "bare", seed="bare")
    assert find_dataset(tmp_path, DataSpec()) is None
    tree(tmp_path)
    assert len(find_cases(gtv(task), tmp_path).unlabelled) == 1


def test_a_damaged_structure_set_is_a_problem_and_no_crash(tmp_path: Path, task: Tasks) -> None:
    tree(tmp_path)
    (label,) = tmp_path.rglob("x")
    (tmp_path / "cut.dcm").write_bytes(label.read_bytes()[:900])
    dataset = find_cases(gtv(task), tmp_path)
    assert len(dataset.cases) == 1
    assert {problem.code for problem in dataset.problems} <= {"unreadable", "partial-file", "unpaired"}


@pytest.mark.real_data
@pytest.mark.parametrize(("modality", "voxels"), [("CT", [11175, 17090]), ("MR", [11175, 17090]), ("PT", [239, 356])])
def test_each_modality_of_the_sarcomas_has_its_own_structure_set(
    shared_data: Path, task: Tasks, modality: str, voxels: list[int]
) -> None:
    wanted = gtv(task, modality=modality)
    dataset = find_cases(wanted, shared_data / "sarcoma_pet_ct_mr" / "dicom")
    assert not dataset.problems
    assert not check_cases(dataset.cases, wanted)
    assert sorted(int(read_case_label(case, wanted).array.sum()) for case in dataset.cases) == voxels


@pytest.mark.real_data
def test_the_samples_of_many_makers_are_paired_or_named(shared_data: Path) -> None:
    dataset = find_dataset(shared_data / "dicom" / "seg_and_rtstruct", DataSpec())
    assert dataset is not None
    assert labels_of(dataset) == [
        {"liver.dcm", "partial_overlaps.dcm"}, {"rtss.dcm"}, {"seg_image_ct_binary_single_frame.dcm"},
        {"sparse-labelmap-noppv.dcm"},
    ]  # fmt: skip
    codes = {Path(p.message.split(": ")[0]).name: p.code for p in dataset.problems if p.code == "unpaired"}
    assert len(codes) == 11  # highdicom's, whose CT, CR and slides are not among the samples
    (other,) = [p for p in dataset.problems if p.code != "unpaired"]
    assert (other.code, "rt.dcm" in other.message) == ("ambiguous", True)


def labels_of(dataset: Dataset) -> list[set[str]]:
    files = [{file.name for file in case.label.files} for case in dataset.cases if case.label]
    return sorted(files, key=lambda names: min(names))


# ---- structures to labels ---------------------------------------------------------------------


def draw(root: Path, **rois: tuple[tuple[float, float], tuple[float, float]]) -> None:
    geometry = ct(root / "ct")
    write_rtstruct(root / "rs.dcm", root / "ct", {n: [square(geometry, *box, 2)] for n, box in rois.items()})


def counts(task: Task, root: Path) -> dict[int, int]:
    (case,) = find_cases(task, root).cases
    values, numbers = np.unique(read_case_label(case, task).array, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, numbers, strict=True) if v}


def test_names_are_regular_expressions_for_the_whole_name_in_any_case(tmp_path: Path, task: Tasks) -> None:
    draw(tmp_path, gtv_mass=BOX, xGTV_mass=((5.5, 5.5), (7.5, 7.5)), Heart=((5.5, 1.5), (6.5, 2.5)))
    assert counts(gtv(task), tmp_path) == {1: 9}
    assert counts(task(labels={"tumour": {"names": "x?GTV_MASS"}}), tmp_path) == {1: 13}
    assert counts(task(labels={"heart": 1}), tmp_path) == {1: 1}


def test_a_structure_belongs_to_the_first_label_that_calls_it_so(tmp_path: Path, task: Tasks) -> None:
    draw(tmp_path, heart=BOX, liver=((5.5, 5.5), (7.5, 7.5)))
    labels = {"heart": {"names": ["heart"]}, "organs": {"names": [".*"]}}
    assert counts(task(labels=labels), tmp_path) == {1: 9, 2: 4}


def test_where_labels_overlap_the_later_one_wins_and_it_is_told(tmp_path: Path, task: Tasks) -> None:
    draw(tmp_path, body=((0.5, 0.5), (8.5, 8.5)), gtv=BOX)
    nested = task(labels={"body": 1, "gtv": 2})
    assert counts(nested, tmp_path) == {1: 64 - 9, 2: 9}
    (problem,) = check_cases(find_cases(nested, tmp_path).cases, nested)
    assert (problem.code, problem.severity) == ("overlap", Severity.WARNING)
    assert "9 voxels" in problem.message
    assert counts(task(labels={"gtv": 1, "body": 2}), tmp_path) == {2: 64}


@pytest.mark.parametrize(("undeclared", "others"), [("refuse", 0), ("background", 0), ("ignore", IGNORE)])
def test_structures_that_no_label_names(tmp_path: Path, task: Tasks, undeclared: str, others: int) -> None:
    draw(tmp_path, gtv=BOX, couch=((3.5, 3.5), (8.5, 8.5)))
    expected = {1: 9, **({others: 24} if others else {})}
    assert counts(gtv(task, undeclared=undeclared), tmp_path) == expected


def test_a_label_that_is_not_drawn_is_told_with_what_is(tmp_path: Path, task: Tasks) -> None:
    draw(tmp_path, gtv=BOX, heart=((5.5, 5.5), (7.5, 7.5)))
    wanted = task(labels={"gtv": 1, "lung": 2})
    (problem,) = check_cases(find_cases(wanted, tmp_path).cases, wanted)
    assert (problem.code, problem.severity) == ("missing-structure", Severity.WARNING)
    assert "'lung'" in problem.message
    assert "'gtv', 'heart'" in problem.message
    nothing = task(labels={"lung": 1})
    (problem, *_) = check_cases(find_cases(nothing, tmp_path).cases, nothing)
    assert (problem.code, problem.severity) == ("missing-structure", Severity.ERROR)


def test_a_structure_beside_all_slices_is_refused(tmp_path: Path, task: Tasks) -> None:
    tree(tmp_path, at=2.5)
    (case,) = find_cases(gtv(task), tmp_path).cases
    with pytest.raises(FormatError) as refused:
        read_case_label(case, gtv(task))
    assert refused.value.code == "off-slice"


def test_without_a_task_every_structure_is_a_label(tmp_path: Path) -> None:
    draw(tmp_path, spleen=BOX, Liver=((5.5, 5.5), (7.5, 7.5)))
    dataset = find_dataset(tmp_path, DataSpec())
    assert dataset is not None
    seen = examine(dataset.cases[0], None)
    assert not seen.problems
    assert seen.raw is not None
    assert [(label.name, label.value) for label in seen.raw.labels] == [("Liver", 1), ("spleen", 2)]
    assert [(seen.raw.array == value).sum() for value in (1, 2)] == [4, 9]


def test_names_that_differ_in_case_are_one_label_and_numbers_get_a_word(tmp_path: Path) -> None:
    geometry = ct(tmp_path / "ct")
    square_ = [square(geometry, *BOX, 2)]
    label = write_rtstruct(tmp_path / "rs.dcm", tmp_path / "ct", {"Liver": square_, "LIVER": square_, "7": square_})
    labels = all_labels([source_of(label)])
    assert [label.name for label in labels] == ["structure 7", "LIVER"]
    assert labels[0].is_called("7")


def test_a_drawing_in_a_labels_folder_belongs_to_the_series_of_its_name(tmp_path: Path, task: Tasks) -> None:
    geometry = ct(tmp_path / "images" / "p1")
    write_rtstruct(tmp_path / "labels" / "p1.dcm", tmp_path / "images" / "p1", {"gtv": [square(geometry, *BOX, 2)]})
    (case,) = find_cases(gtv(task), tmp_path).cases
    assert case.id == "p1"
    assert read_case(case, gtv(task))[1].array.sum() == 9


def test_names_that_are_no_expressions_are_refused(task: Tasks) -> None:
    with pytest.raises(TaskError, match=r"'GTV\(' is not a regular expression"):
        task(labels={"gtv": {"names": ["GTV("]}})
