"""Task files: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import pytest

from medseg.core.errors import TaskError
from medseg.core.task import load_task, parse_duration, parse_task


def make(**changes):
    return parse_task({"name": "t", "modality": "CT", "labels": {"a": 1}, **changes}, "t.yaml")


def test_short_and_long_forms_of_labels():
    table = make(labels={"left": {"value": 2, "sources": [10, 11]}, "right": 1}).label_table()
    assert [(label.name, label.value, label.sources) for label in table] == [("right", 1, (1,)), ("left", 2, (10, 11))]
    table = make(labels={"left": [10, 11], "right": [12]}).label_table()
    assert [(label.value, label.sources) for label in table] == [(1, (10, 11)), (2, (12,))]
    (only,) = make(labels={"cell": "nonzero"}).label_table()
    assert (only.value, only.sources) == (1, ())
    assert only.color != (0, 0, 0)


def test_regions_are_values_of_labels():
    task = make(labels={"organ": {"value": 2}, "tumour": {"value": 1}}, regions={"whole": ["organ", "tumour"]})
    assert task.region_values() == {"whole": (1, 2)} and make().region_values() == {}


def test_codes_become_core_codes():
    spec = {"value": 1, "type": {"value": "39607008", "meaning": "Lung"}}
    code = make(labels={"lung": spec}).label_table()[0].type
    assert (code.value, code.scheme, code.meaning) == ("39607008", "SCT", "Lung")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colour": 1}, "unknown key 'colour'; allowed are name, description, modality"),
        ({"data": {"rot": "."}}, "unknown key 'data.rot'; allowed are root, images, labels, group"),
        ({"modality": "XX"}, "modality"),
        ({"dimensions": 4}, "dimensions"),
        ({"name": "a b"}, "name"),
        ({"labels": {}}, "at least one structure"),
        ({"labels": {"a": True}}, "a label is a number"),
        ({"labels": {"a": 1, "b": 3}}, r"values must be 1\.\.2 without gaps, not \[1, 3\]"),
        ({"labels": {"a": 1, "b": [2]}}, "give a value to every label or to none"),
        ({"labels": {"a": [1], "b": [1]}}, "value 1 belongs to both 'a' and 'b'"),
        ({"labels": {"a": "nonzero", "b": [2]}}, "must be the only label"),
        ({"labels": {"a": 1}, "ignore": 1}, "ignore value too"),
        ({"labels": {"a": {"value": 1, "mirror": "b"}}}, "mirrors into 'b'"),
        ({"postprocess": {"keep_largest": ["b"]}}, r"\['b'\] are no labels"),
        ({"data": {"images": "x.png"}}, r"needs \{case\}"),
        ({"data": {"labels": "{case}.png"}}, "needs an images pattern"),
        ({"data": {"group": "("}}, "regular expression"),
        ({"data": {"group": "abc"}}, "group that holds the patient"),
        ({"split": {"folds": 1}}, "split.folds"),
        ({"time_budget": "soon"}, "is not a duration"),
        ({"channels": []}, "channels"),
        ({"labels": {"a": 1, "b": 2}, "regions": {"a": ["a", "b"]}}, "'a' is a label already"),
        ({"labels": {"a": 1, "b": 2}, "regions": {"ab": ["a", "c"]}}, r"\['c'\] of 'ab' are no labels"),
        ({"labels": {"a": 1, "b": 2}, "regions": {"ab": ["a", "a"]}}, "'ab' names a label twice"),
        ({"labels": {"a": 1, "b": 2}, "regions": {"ab": ["a"]}}, "regions.ab"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(changes, sentence):
    with pytest.raises(TaskError, match=sentence) as caught:
        make(**changes)
    assert str(caught.value).startswith("t.yaml: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("3m30s", 210)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert make(time_budget=text).time_budget == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "0s", "-5m"])
def test_no_durations(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_a_relative_root_is_taken_from_the_files_folder(tmp_path):
    path = tmp_path / "tasks" / "t.yaml"
    path.parent.mkdir()
    path.write_text("name: t\nmodality: CT\nlabels: {a: 1}\ndata: {root: ../cases}\n")
    assert load_task(path).data.root == str(tmp_path / "cases")
    path.write_text("name: t\nmodality: CT\nlabels: {a: 1}\ndata: {root: 'sample:x'}\n")
    assert load_task(path).data.root == "sample:x"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no such task file"),
        (b"\xff\xfe", "cannot be read"),
        (b"a: [", "not valid YAML"),
        (b"- a", "list of keys"),
    ],
)
def test_files_that_are_no_tasks(tmp_path, content, sentence):
    path = tmp_path / "t.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TaskError, match=sentence):
        load_task(path)
