"""Every accepted layout is found; what is wrong with the pairing is told by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import DataError, TaskError, UsageError
from medseg.core.task import DataSpec
from medseg.data.layouts import (
    Overrides,
    apply_overrides,
    declared_channels,
    declared_labels,
    find_cases,
    find_dataset,
)


def ids(dataset):
    return [case.id for case in dataset.cases]


def test_images_and_labels_are_paired_and_other_files_do_not_confuse(tmp_path, write, task):
    for name in "ab":
        write(f"images/{name}.nii.gz")
        write(f"labels/{name}.nii.gz")
    write("odd/c.nii.gz")
    write("original_layout/a/masks/1.nii.gz")
    (tmp_path / "README.txt").write_text("data")
    (tmp_path / "index.csv").write_text("id,kind\na,x\n")
    dataset = find_cases(task(), tmp_path)
    assert ids(dataset) == ["a", "b"]
    assert dataset.problems == () and dataset.notes == ()
    assert [case.group for case in dataset.cases] == ["a", "b"]


def test_unpaired_labels_are_problems_and_unpaired_images_notes(tmp_path, write, task):
    for name in ("images/a", "labels/a", "images/only_image", "labels/only_label"):
        write(f"{name}.nii.gz")
    dataset = find_cases(task(), tmp_path)
    assert ids(dataset) == ["a"]
    assert [(problem.case, problem.code) for problem in dataset.problems] == [("only_label", "unpaired")]
    assert "only_label.nii.gz" in dataset.problems[0].message
    assert [case.id for case in dataset.unlabelled] == ["only_image"]
    assert "only_image" in dataset.notes[0]


def test_two_files_for_one_case_are_refused_by_name(tmp_path, write, task):
    for name in ("images/a.nii.gz", "images/a.nii", "labels/a.nii.gz", "images/b.nii", "labels/b.nii"):
        write(name)
    dataset = find_cases(task(), tmp_path)
    assert ids(dataset) == ["b"]
    assert [(problem.case, problem.code) for problem in dataset.problems] == [("a", "ambiguous")]


def test_names_may_differ_by_a_word_and_folders_may_nest(tmp_path, write, task):
    for name in ("Images/a_image.nii.gz", "Images/p1/b.nii.gz", "Masks/a_mask.nii.gz", "Masks/p1/b_seg.nii.gz"):
        write(name)
    assert ids(find_cases(task(), tmp_path)) == ["a_mask", "p1__b_seg"]


@pytest.mark.parametrize("folders", [("imagesTr", "labelsTr"), ("images", "labels")])
def test_channel_numbers_make_one_case(tmp_path, write, task, folders):
    images, labels = folders
    for channel in ("0000", "0001"):
        for name in ("brain_001", "brain_002", "unlabelled_003"):
            write(f"{images}/{name}_{channel}.nii.gz")
    write(f"{images}/brain_004_0001.nii.gz")
    for name in ("brain_001", "brain_002", "brain_004"):
        write(f"{labels}/{name}.nii.gz")
    dataset = find_cases(task(channels=["T1", "T2"], modality="MR"), tmp_path)
    assert ids(dataset) == ["brain_001", "brain_002"]
    assert [source.path.name for source in dataset.cases[0].images] == [
        "brain_001_0000.nii.gz", "brain_001_0001.nii.gz",
    ]  # fmt: skip
    assert [(problem.case, problem.code) for problem in dataset.problems] == [("brain_004", "wrong-channels")]
    assert [case.id for case in dataset.unlabelled] == ["unlabelled_003"]


def test_numbers_that_are_names_are_no_channels(tmp_path, write, task):
    for name in ("scan_0001", "scan_0002", "scan_0003"):
        write(f"images/{name}.nii.gz")
    for name in ("scan_0001", "scan_0002"):
        write(f"labels/{name}.nii.gz")
    dataset = find_cases(task(), tmp_path)
    assert ids(dataset) == ["scan_0001", "scan_0002"]
    assert [case.id for case in dataset.unlabelled] == ["scan_0003"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"0": "background", "1": "liver", "2": "tumour"}, {"liver": (1,), "tumour": (2,)}),
        ({"background": 0, "liver": 1, "ignore": 3}, {"liver": (1,)}),
        ({"background": 0, "whole": [1, 2], "core": [2]}, {"whole": (1, 2), "core": (2,)}),
    ],
)
def test_both_label_styles_of_dataset_json(tmp_path, labels, expected):
    raw = {"labels": labels, "channel_names": {"0": "CT"}}
    (tmp_path / "dataset.json").write_text(json.dumps(raw))
    assert declared_labels(tmp_path) == expected
    assert declared_channels(tmp_path) == ("CT",)


def test_a_broken_dataset_json_declares_nothing(tmp_path):
    (tmp_path / "dataset.json").write_text("{")
    assert declared_labels(tmp_path) == {} and declared_channels(tmp_path) == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_list(tmp_path, write, task, delimiter):
    for name in ("x/1.nii.gz", "x/2.nii.gz", "y/1.nii.gz", "y/2.nii.gz"):
        write(name)
    rows = [["ID", "Image", "Label", "Group"], ["one", "x/1.nii.gz", "y/1.nii.gz", "p"],
            ["two", "x/2.nii.gz", "y/2.nii.gz", "p"], ["three", "x/2.nii.gz", "", "q"],
            ["four", "x/9.nii.gz", "y/2.nii.gz", "q"], ["one", "x/1.nii.gz", "y/1.nii.gz", "p"]]  # fmt: skip
    text = "\ufeff" + "\n".join(delimiter.join(row) for row in rows)
    (tmp_path / "cases.csv").write_text(text, encoding="utf-8")
    for root in (tmp_path, tmp_path / "cases.csv"):
        dataset = find_cases(task(), root)
        assert [(case.id, case.group) for case in dataset.cases] == [("two", "p")]
        assert {(problem.case, problem.code) for problem in dataset.problems} == {
            ("four", "missing-file"), ("one", "duplicate-id"),
        }  # fmt: skip
        assert [case.id for case in dataset.unlabelled] == ["three"]


def test_json_list_with_channels(tmp_path, write, task):
    for name in ("1a.nii.gz", "1b.nii.gz", "l.nii.gz"):
        write(name)
    rows = [
        {"image": ["1a.nii.gz", "1b.nii.gz"], "label": "l.nii.gz", "id": "list"},
        {"image": "1a.nii.gz", "image2": "1b.nii.gz", "label": "l.nii.gz", "id": "columns"},
        {"T1": "1a.nii.gz", "t2": "1b.nii.gz", "label": "l.nii.gz", "id": "names"},
        {"image": ["1a.nii.gz"] * 3, "label": "l.nii.gz", "id": "three"},
    ]
    (tmp_path / "all.json").write_text(json.dumps({"cases": rows}))
    dataset = find_cases(task(channels=["T1", "T2"], modality="MR"), tmp_path)
    assert ids(dataset) == ["columns", "list", "names"]
    assert [source.path.name for source in dataset.cases[2].images] == ["1a.nii.gz", "1b.nii.gz"]
    assert [(problem.case, problem.code) for problem in dataset.problems] == [("three", "wrong-channels")]


def test_two_lists_in_one_folder_must_be_told_apart(tmp_path, task):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("image,label\nx,y\n")
    with pytest.raises(UsageError, match=r"2 lists of cases \(a.csv, b.csv\)"):
        find_cases(task(), tmp_path)


def test_patterns_with_case_and_group(tmp_path, write, task):
    for group in ("p1", "p2"):
        for visit in ("v1", "v2"):
            write(f"deep/{group}/{visit}/PET_image.nii.gz")
            write(f"deep/{group}/{visit}/PET_mask.nii.gz")
    spec = {"images": "**/{group}/{case}/PET_image.nii.gz", "labels": "**/{group}/{case}/PET_mask.nii.gz"}
    dataset = find_cases(task(data=spec), tmp_path)
    assert ids(dataset) == ["p1__v1", "p1__v2", "p2__v1", "p2__v2"]
    assert [case.group for case in dataset.cases] == ["p1", "p1", "p2", "p2"]


def test_patterns_with_a_group_from_the_name(tmp_path, write, task):
    for name in ("01L", "01R", "02L"):
        write(f"Image_{name}.png", np.zeros((4, 4, 1)))
        write(f"Image_{name}_1stHO.png", np.zeros((4, 4, 1)))
    overrides = Overrides(("Image_{case}.png",), "Image_{case}_1stHO.png", r"^(\d+)")
    dataset = find_cases(task(), tmp_path, overrides)
    assert [(case.id, case.group) for case in dataset.cases] == [("01L", "01"), ("01R", "01"), ("02L", "02")]
    dataset = find_cases(task(), tmp_path, Overrides(overrides.images, overrides.labels, r"^(\d+)R"))
    assert [case.group for case in dataset.cases] == ["01L", "01", "02L"]
    assert "does not fit 2 of the case names (01L, 02L)" in dataset.notes[0]


def test_label_maps_beside_images_are_no_images(tmp_path, write, task):
    for name in ("a.png", "a_mask.png", "b.png", "b_mask.png", "c.png"):
        write(name, np.zeros((4, 4, 1)))
    dataset = find_cases(task(), tmp_path, Overrides(("{case}.png",), "{case}_mask.png"))
    assert ids(dataset) == ["a", "b"] and [case.id for case in dataset.unlabelled] == ["c"]
    dataset = find_cases(task(), tmp_path, Overrides(("{case}_mask.png",), "{case}.png"))
    assert ids(dataset) == ["a", "b"] and [problem.case for problem in dataset.problems] == ["c"]


def test_one_pattern_per_channel_and_what_is_missing(tmp_path, write, task):
    for name in ("a_t1", "a_t2", "a_seg", "b_t1", "b_seg"):
        write(f"{name}.nii.gz")
    spec = {"images": ["{case}_t1.nii.gz", "{case}_t2.nii.gz"], "labels": "{case}_seg.nii.gz"}
    dataset = find_cases(task(channels=["T1", "T2"], data=spec), tmp_path)
    assert ids(dataset) == ["a"]
    assert [(problem.case, problem.code) for problem in dataset.problems] == [("b", "missing-file")]
    with pytest.raises(DataError, match="2 images patterns, but the task has 1 channels"):
        find_cases(task(data=spec), tmp_path)


def test_a_tasks_pattern_gives_way_to_a_layout_but_options_do_not(tmp_path, write, task):
    write("images/a.nii.gz")
    write("labels/a.nii.gz")
    spec = {"images": "Image_{case}.jpg", "labels": "Image_{case}_1stHO.png"}
    dataset = find_cases(task(data=spec), tmp_path)
    assert ids(dataset) == ["a"] and "Image_{case}.jpg" in dataset.notes[0]
    with pytest.raises(UsageError, match="no file matches the images pattern"):
        find_cases(task(), tmp_path, Overrides(("Image_{case}.jpg",), "x_{case}.png"))


def test_nothing_recognised_lists_what_is_accepted(tmp_path, write, task):
    write("stuff/a.nii.gz")
    with pytest.raises(UsageError, match=r"images/ \+ labels/"):
        find_cases(task(), tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        find_cases(task(), tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="needs an image column"):
        find_cases(task(), tmp_path / "notes.txt")
    assert find_dataset(tmp_path, DataSpec()) is None


def test_no_usable_case_tells_every_problem(tmp_path, write, task):
    write("images/a.nii.gz")
    write("labels/b.nii.gz")
    with pytest.raises(DataError, match="no usable image with a label") as caught:
        find_cases(task(), tmp_path)
    assert len(caught.value.problems) == 1 and "b.nii.gz" in caught.value.problems[0]


def test_overrides_change_the_task_and_are_checked(task):
    lungs = task(labels={"left lung": 1, "right lung": 2})
    changed = apply_overrides(lungs, Overrides(map={"left lung": (10, 11), "right lung": (12, 13, 14)}))
    assert [label.sources for label in changed.label_table()] == [(10, 11), (12, 13, 14)]
    assert [label.value for label in changed.label_table()] == [1, 2]
    assert apply_overrides(lungs, Overrides(undeclared="background")).undeclared == "background"
    with pytest.raises(TaskError, match="no such label"):
        apply_overrides(lungs, Overrides(map={"liver": (1,)}))
    with pytest.raises(TaskError, match="belongs to both"):
        apply_overrides(lungs, Overrides(map={"left lung": (2,)}))
    with pytest.raises(TaskError, match=r"\{case\}"):
        apply_overrides(lungs, Overrides(images=("x.png",)))
    with pytest.raises(TaskError, match="regular expression"):
        apply_overrides(lungs, Overrides(group="("))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "folder", "cases", "groups"),
    [
        ("hippocampus_mr", "hippocampus_mr", 60, 60),
        ("cells_2d", "nuclei_dsb2018", 65, 65),
        ("sarcoma_pet", "sarcoma_pet_ct_mr", 36, 36),
        ("sarcoma_pet", "sarcoma_pet_ct_mr/nifti", 36, 36),
        ("retina_vessels", "retina_chase_db1", 20, 10),
    ],
)
def test_real_folders(shared_data: Path, name, folder, cases, groups):
    from medseg.data.shipped import find_task

    dataset = find_cases(find_task(name), shared_data / folder)
    assert len(dataset.cases) == cases
    assert len({case.group for case in dataset.cases}) == groups
    assert dataset.problems == () and dataset.unlabelled == ()
