"""The task file that `init` writes for one's own data loads, finds its cases and can be planned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import UsageError
from medseg.core.geometry import Geometry
from medseg.core.machine import machine
from medseg.core.task import Task, load_task
from medseg.core.volume import Volume
from medseg.data.check import check_cases
from medseg.data.fingerprint import fingerprint
from medseg.data.guess import guess_group, guess_patterns
from medseg.data.layouts import find_cases
from medseg.formats import write_volume
from medseg.planning import plan
from medseg.workflows.init import init


def save(path: Path, array) -> None:
    """[I, J, K], or [C, I, J, K], as the suffix of `path` says."""
    values = np.asarray(array, dtype=np.float32)
    stack = values if values.ndim == 4 else values[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(stack, Geometry.from_spacing((1, 1, 1), stack.shape[1:])), path)


def square(value: float = 1, shape=(8, 8, 1)) -> np.ndarray:
    array = np.zeros(shape)
    array[2:5, 3:6] = value
    return array


def trainable(path: Path) -> tuple[Task, list[str], int]:
    """The task in `path`, its case ids and number of groups, after everything before training went well."""
    task = load_task(path)
    cases = find_cases(task, Path(str(task.data.root))).cases
    some = cases[:8]
    assert check_cases(some, task) == []
    planned = plan(fingerprint(some, task), task, machine("cpu", task.dimensions))
    assert planned.network.in_channels == len(task.channels)
    return task, [case.id for case in cases], len({case.group for case in cases})


def test_grey_pictures_with_instance_maps(tmp_path):
    for number in range(4):
        instances = np.zeros((8, 8, 1))
        instances.ravel()[: 8 + number] = np.arange(1, 9 + number)
        save(tmp_path / f"images/cell{number}.png", square(200))
        save(tmp_path / f"labels/cell{number}.png", instances)
    path = init(tmp_path)
    assert path == tmp_path / "task.yaml"
    task, ids, groups = trainable(path)
    assert (task.modality, task.dimensions, task.channels) == ("microscopy", 2, ["grey"])
    assert task.label_table()[0].sources == () and len(ids) == groups == 4
    with pytest.raises(UsageError, match="exists already"):
        init(tmp_path)


def test_colour_photographs_in_one_folder_with_eyes_of_one_child(tmp_path):
    for name in ("01L", "01R", "02L", "02R"):
        save(tmp_path / f"Image_{name}.png", np.stack([square(200), square(100), square(0)]))
        save(tmp_path / f"Image_{name}_1stHO.png", square(255))
        save(tmp_path / f"Image_{name}_2ndHO.png", square(255))
    (tmp_path / "README.txt").write_text("hello")
    task, ids, groups = trainable(init(tmp_path))
    assert (task.modality, task.channels, task.data.labels) == ("photo", ["red", "green", "blue"], "{case}_1stHO.png")
    assert len(ids) == 4 and groups == 2


def test_volumes_in_patients_folders(tmp_path):
    for number in range(3):
        save(tmp_path / f"P{number}/PET_image.nii.gz", square(7.5, (8, 8, 8)))
        save(tmp_path / f"P{number}/PET_mask.nii.gz", square(1, (8, 8, 8)))
    task, ids, groups = trainable(init(tmp_path))
    assert (task.modality, task.dimensions, task.data.images) == ("PT", 3, "{case}/PET_image.nii.gz")
    assert ids == ["P0", "P1", "P2"] and groups == 3


def test_ct_values_and_labels_that_are_not_1_to_n(tmp_path):
    for name in ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "sub-03_ses-1"):
        save(tmp_path / f"images/{name}.nii.gz", square(60, (8, 8, 8)) - 1000)
        save(
            tmp_path / f"labels/{name}.nii.gz",
            square(10, (8, 8, 8)) + square(1, (8, 8, 8)) * np.arange(8).reshape(8, 1, 1),
        )
    task, _, groups = trainable(init(tmp_path))
    assert task.modality == "CT" and groups == 3
    assert [label.sources for label in task.label_table()] == [(12,), (13,), (14,)]


def test_dataset_json_gives_names(tmp_path):
    for number in range(2):
        for channel in range(2):
            save(tmp_path / f"imagesTr/b_{number}_{channel:04d}.nii.gz", square(3.5, (8, 8, 8)))
        save(tmp_path / f"labelsTr/b_{number}.nii.gz", square(2, (8, 8, 8)) - square(1, (8, 8, 8)) * (np.arange(8) > 3))
    raw = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "whole: core": 1, "on": 2}}
    (tmp_path / "dataset.json").write_text(json.dumps(raw))
    task, ids, _ = trainable(init(tmp_path))
    assert task.label_names == ("whole: core", "on") and task.channels == ["T1", "FLAIR"] and task.modality == "MR"
    assert ids == ["b_0", "b_1"]


def test_the_file_may_lie_elsewhere_and_the_folder_have_any_name(tmp_path):
    data = tmp_path / "Ünsere Daten (2024)"
    for name in "ab":
        save(data / f"images/{name}.png", square(9))
        save(data / f"labels/{name}.png", square(1))
    task, ids, _ = trainable(init(data, tmp_path / "tasks" / "mine.yaml"))
    assert ids == ["a", "b"] and task.label_names == ("foreground",)


def test_nothing_to_learn_from_is_said(tmp_path):
    with pytest.raises(UsageError, match="no images with label maps"):
        init(tmp_path)
    for name in "ab":
        save(tmp_path / f"images/{name}.png", square(9))
        save(tmp_path / f"labels/{name}.png", square(0))
    with pytest.raises(UsageError, match="only background"):
        init(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        init(tmp_path / "nowhere")
    assert not (tmp_path / "task.yaml").exists()


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["01L", "01R", "02L", "02R"], ["01", "01", "02", "02"]),
        (["eye_7_left", "eye_7_right", "eye_8_left"], ["eye_7", "eye_7", "eye_8"]),
        (["patient_03_slice2", "patient_03_slice1", "patient_04_a", "patient_05_a"], ["03", "03", "04", "05"]),
        (["a1_t1", "a1_t2", "a2_t1", "a3_t1"], ["a1", "a1", "a2", "a3"]),
        (["p__1", "p__2", "q__1", "r__1"], ["p", "p", "q", "r"]),
        (["hippocampus_001", "hippocampus_002", "hippocampus_003"], None),
        (["0bf4b144167694b6", "16c3d5935ba94b72", "673baf65ae5c571d"], None),
        (["STS_001", "STS_002"], None),
        (["chest_01", "chest_02", "chest_03", "chest_04"], None),
    ],
)
def test_groups_guessed_from_names(names, groups):
    import re

    expression = guess_group(names)
    if groups is None:
        assert expression is None
    else:
        assert expression is not None
        found = [re.search(expression, name)[1] for name in names]
        assert [group.endswith(end) for group, end in zip(found, groups, strict=True)] == [True] * len(names)
        assert len(set(found)) == len(set(groups))


def test_patterns_need_a_word_or_a_suffix_that_marks_labels(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}_image.nii.gz", square(shape=(4, 8, 2)))
        save(tmp_path / f"{name}_label.nii.gz", square(shape=(4, 8, 2)))
    assert guess_patterns(tmp_path) == ("{case}_image.nii.gz", "{case}_label.nii.gz")
    for file in tmp_path.glob("*_label.nii.gz"):
        file.rename(file.with_name(file.name.replace("label", "other")))
    assert guess_patterns(tmp_path) is None


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "cases", "groups", "modality", "labels"),
    [
        ("nuclei_dsb2018", 65, 65, "microscopy", ("object",)),
        ("retina_chase_db1", 20, 10, "photo", ("foreground",)),
        ("hippocampus_mr", 60, 60, "MR", ("label_1", "label_2")),
        ("sarcoma_pet_ct_mr", 36, 36, "PT", ("foreground",)),
    ],
)
def test_real_folders(shared_data, tmp_path, folder, cases, groups, modality, labels):
    task, ids, count = trainable(init(shared_data / folder, tmp_path / "task.yaml"))
    assert (len(ids), count, task.modality, task.label_names) == (cases, groups, modality, labels)
