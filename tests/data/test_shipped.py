"""The tasks that ship with medseg load and say what they should."""

from __future__ import annotations

import re

import pytest

from medseg.core.errors import TaskError, UsageError
from medseg.core.labels import mirrored_values
from medseg.data.shipped import data_root, find_task, pipelines, task_names

NAMES = ["cells_2d", "hippocampus_mr", "lung_ct", "retina_vessels", "sarcoma_pet"]


def test_every_task_loads_by_name_and_path():
    assert set(NAMES) <= set(task_names())
    for name in task_names():
        task = find_task(name)
        assert task.name == name and task.description and task.time_budget
        assert find_task(str(pipelines() / f"{name}.yaml")) == task


def test_every_key_is_explained_in_the_file():
    for file in pipelines().glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        assert "docs/tasks.md" in text and len(re.findall(r"#", text)) >= 8, file.name


def test_lungs_mirror_each_other_and_carry_codes():
    task = find_task("lung_ct")
    left, right = task.label_table()
    assert (left.name, left.value, right.name, right.value) == ("left lung", 1, "right lung", 2)
    assert mirrored_values(task.label_table())[:3] == [0, 2, 1]
    assert [code.value for code in (left.type, left.modifier, right.modifier)] == ["39607008", "7771000", "24028007"]
    assert task.data.root == "sample:lung_ct" and task.postprocess.keep_largest == ["left lung", "right lung"]


def test_codes_are_those_of_dicom():
    from pydicom.sr._concepts_dict import concepts

    known = {
        code: {meaning for meaning, _ in [value]} for entry in concepts["SCT"].values() for code, value in entry.items()
    }
    for name in task_names():
        for label in find_task(name).label_table():
            for code in filter(None, (label.category, label.type, label.modifier)):
                assert code.value in known, f"{name}: {label.name}: {code}"


def test_pictures_are_2d():
    assert find_task("cells_2d").dimensions == find_task("retina_vessels").dimensions == 2
    assert find_task("cells_2d").label_table()[0].sources == ()
    assert len(find_task("retina_vessels").channels) == 3


def test_unknown_tasks_are_answered_with_the_names(tmp_path):
    with pytest.raises(TaskError, match="there are cells_2d, hippocampus_mr, lung_ct"):
        find_task("lungs")
    with pytest.raises(TaskError, match="no such task file"):
        find_task(str(tmp_path / "x.yaml"))


def test_a_folder_with_a_task_file_is_a_task(tmp_path):
    (tmp_path / "task.yaml").write_text("name: mine\nmodality: CT\nlabels: {a: 1}\ndata: {root: .}\n")
    task = find_task(str(tmp_path))
    assert task.name == "mine" and data_root(task) == tmp_path


def test_data_root(tmp_path):
    task = find_task("hippocampus_mr")
    assert data_root(task, tmp_path) == tmp_path
    with pytest.raises(UsageError, match="--data"):
        data_root(task)
    with pytest.raises(UsageError, match="no such folder"):
        data_root(task, tmp_path / "none")
    with pytest.raises(UsageError, match="no sample data named"):
        data_root(task, "sample:nothing")
