"""docs/tasks.md is true: its tasks load, its lists and splits are read, and it explains every key."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from medseg.core.case import Case, Source
from medseg.core.reading import Reading
from medseg.core.selection import Selection
from medseg.core.task import (
    CodeSpec,
    DataSpec,
    LabelSpec,
    LimitsSpec,
    PostprocessSpec,
    SplitSpec,
    Task,
    load_task,
)
from medseg.data.layouts import find_cases
from medseg.data.splits import read_split

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: text.split("\n")[0])
def test_every_task_of_the_page_loads(tmp_path, text):
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_task(path).label_table()


def test_the_page_names_every_key():
    full = next(yaml.safe_load(text) for text in blocks("yaml") if "lungs_and_heart" in text)
    places: list[tuple[type[BaseModel], dict]] = [
        (Task, full),
        (LabelSpec, full["labels"]["left lung"]),
        (DataSpec, full["data"]),
        (SplitSpec, full["split"]),
        (PostprocessSpec, full["postprocess"]),
        (LimitsSpec, full["limits"]),
    ]
    for model, given in places:
        assert set(given) == set(model.model_fields), model.__name__
    assert set(full["selection"]) == {field.name for field in fields(Selection)}
    assert set(full["reading"]) == {field.name for field in fields(Reading)}
    assert set(CodeSpec.model_fields) - set(full["labels"]["left lung"]["type"]) == {"scheme"}


def test_the_list_of_the_page_is_read(tmp_path, write, task):
    for name in re.findall(r"[\w/]+\.png", blocks("csv")[0]):
        write(name, np.zeros((3, 3, 1)))
    (tmp_path / "cases.csv").write_text(blocks("csv")[0])
    cases = find_cases(task(), tmp_path).cases
    assert [(case.id, case.group) for case in cases] == [("p01_left", "p01"), ("p01_right", "p01")]


def test_the_json_of_the_page_is_read(tmp_path, write, task):
    listed, split = blocks("json")
    for name in ("t1", "t2", "tumour"):
        write(f"{name}.nii.gz")
    (tmp_path / "cases.json").write_text(listed)
    assert len(find_cases(task(modality="MR", channels=["T1", "T2"]), tmp_path).cases[0].images) == 2
    (tmp_path / "split.json").write_text(split)
    names = [name for part in json.loads(split).values() for name in part]
    source = Source(tmp_path, (), "nifti", "x")
    cases = [Case(name, name.split("_")[0], (source,), source) for name in names]
    assert read_split(tmp_path / "split.json", cases).test == ("p04_left", "p04_right")
