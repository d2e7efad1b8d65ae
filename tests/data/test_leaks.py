"""Copies of a scan and patients on both sides of a split; and that nobody is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from medseg.core.case import Severity
from medseg.core.errors import UsageError
from medseg.data.inspection import CaseRow, LabelFacts
from medseg.data.leaks import (
    duplicate_content,
    duplicate_labels,
    patients_by_name,
    read_parts,
    same_patient,
    unknown_cases,
)


def row(name: str, group: str | None = None, parts: tuple[str, ...] = (), content: str | None = None) -> CaseRow:
    label = LabelFacts("organ", 1, 500, 4.0, 1, 500.0)
    return CaseRow(
        name, f"{name}.nii.gz", intensity=(0.0, 9.0), content=content or name, group=group or name, parts=parts,
        label="label", labels=(label,),
    )  # fmt: skip


def codes(found):
    return {case: [finding.code for finding in findings] for case, findings in found.items()}


def test_equal_content_is_told_on_every_copy_with_the_parts():
    found = duplicate_content(
        [row("a", parts=("train",), content="x"), row("b"), row("c", parts=("test",), content="x")]
    )
    assert codes(found) == {"a": ["duplicate-content"], "c": ["duplicate-content"]}
    assert found["a"][0].values == {"cases": ["c"], "parts": ["test", "train"]}
    assert not duplicate_content([row("a"), row("b")])


def test_images_without_contrast_are_no_copies():
    empty = [replace(row(name, content="x"), intensity=(0.0, 0.0)) for name in ("a", "b")]
    assert not duplicate_content(empty)


def test_one_label_map_for_two_images_of_two_patients():
    rows = [row("a"), row("b"), row("c", group="a")]
    assert codes(duplicate_labels({"a": "x", "b": "x", "c": "y"}, rows)) == {
        "a": ["duplicate-label"],
        "b": ["duplicate-label"],
    }
    assert duplicate_labels({"a": "x", "b": "x"}, rows)["a"][0].severity is Severity.INFO
    assert not duplicate_labels({"a": "x", "c": "x"}, rows)
    tiny = [replace(one, labels=(replace(one.labels[0], voxels=5),)) for one in rows]
    assert not duplicate_labels({"a": "x", "b": "x"}, tiny)


def test_a_group_in_two_parts():
    rows = [row("a", "p1", ("train",)), row("b", "p1", ("validation",)), row("c", "p2", ("validation",))]
    found = same_patient(rows, {}, {"a": ("train",)})
    assert codes(found) == {"a": ["same-patient"], "b": ["same-patient"]}
    assert found["a"][0].values == {"cases": ["a", "b"], "parts": ["train", "validation"]}
    assert not same_patient([replace(one, parts=("train",)) for one in rows], {}, {})


def test_a_patient_by_the_header_in_two_parts_or_in_two_groups():
    rows = [row("a", parts=("train",)), row("b", parts=("test",)), row("c", parts=("test",))]
    patients = {"a": b"someone", "b": b"someone", "c": b"another"}
    assert codes(same_patient(rows, patients, {})) == {"a": ["same-patient"], "b": ["same-patient"]}
    together = [replace(one, parts=("train",)) for one in rows]
    assert not same_patient(together, patients, {})
    # Without a split file, the task's folds would take them for two patients.
    assert codes(same_patient(rows[:3], patients, None)) == {"a": ["same-patient"], "b": ["same-patient"]}
    assert not same_patient([replace(one, parts=(), group="p1") for one in rows[:2]], patients, None)


def test_the_hash_is_in_no_finding():
    rows = [row("a"), row("b")]
    found = same_patient(rows, {"a": b"someone", "b": b"someone"}, None)
    assert "someone" not in json.dumps([[f.message, dict(f.values)] for findings in found.values() for f in findings])


def test_a_case_in_two_lists_and_one_that_is_not_there(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["a", "b"], "validation": ["b", "ghost"]}))
    parts = read_parts(path)
    assert parts == {"a": ("train",), "b": ("train", "validation"), "ghost": ("validation",)}
    rows = [row(name, parts=parts.get(name, ())) for name in ("a", "b")]
    assert codes(same_patient(rows, {}, parts)) == {"b": ["same-patient"]}
    assert [finding.values["case"] for finding in unknown_cases(rows, parts)] == ["ghost"]
    path.write_text("[]")
    with pytest.raises(UsageError, match="a split file is"):
        read_parts(path)


def test_names_that_look_like_several_cases_a_patient():
    eyes = [row(f"p{n:02d}_{side}") for n in range(4) for side in ("left", "right")]
    (finding,) = patients_by_name(eyes)
    assert finding.code == "patients-by-name" and finding.values["group"] in finding.message
    assert not patients_by_name([replace(one, group=one.id[:3]) for one in eyes])
    assert not patients_by_name([row(f"hippocampus_{n:03d}") for n in range(5)])
