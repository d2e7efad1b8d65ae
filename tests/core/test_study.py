"""Study files: what they may say, and how a budget shrinks them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import TaskError
from medseg.core.study import Study, load_study, parse_study, shrink
from medseg.data.shipped import find_study, find_task, pipelines
from medseg.nets import NETWORKS

RAW: dict[str, Any] = {"name": "few", "task": "cells_2d", "models": ["unet"], "cases": [2, 4, 8], "time": "1m"}


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text("utf-8")


def test_the_pages_study_loads_and_explains_every_key() -> None:
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    example = parse_study(yaml.safe_load(block), "docs/studies.md")
    assert {example.plan_of(model)["network.name"] for model in example.models} <= set(NETWORKS)
    assert not {key for key in Study.model_fields if f"{key}:" not in block}


@pytest.mark.parametrize("name", ["cells_few_labels", "hippocampus_few_labels"])
def test_shipped_studies_load_and_name_tasks_and_networks_that_there_are(name: str) -> None:
    study = find_study(name)
    assert find_task(study.task).name == study.task
    assert study.subsets >= 3 and len(study.cases) >= 4
    assert {study.plan_of(model)["network.name"] for model in study.models} <= set(NETWORKS)


def test_every_shipped_study_is_found_by_its_name() -> None:
    for file in (pipelines() / "studies").glob("*.yaml"):
        assert find_study(file.stem) == load_study(file)
        assert find_study(file.stem).name == file.stem


def test_an_unknown_study_is_refused_with_those_there_are() -> None:
    with pytest.raises(TaskError, match="cells_few_labels, hippocampus_few_labels"):
        find_study("nonesuch")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modles": 1}, "unknown key 'modles'; allowed are name"),
        ({"cases": [4, 2]}, "must rise"),
        ({"cases": [2, 2]}, "each number once"),
        ({"cases": [0, 2]}, "cases.0"),
        ({"steps": 5}, "one of the two"),
        ({"time": None}, "one of the two"),
        ({"models": []}, "at least one"),
        ({"time": "soon"}, "is not a duration"),
        ({"subsets": 0}, "subsets"),
    ],
)
def test_impossible_studies_are_refused_naming_file_and_key(change: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        parse_study({**RAW, **change}, "few.yaml")
    assert str(caught.value).startswith("few.yaml: ")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.yaml"
    for text in ("[1, 2]", "a: [", "\0"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(TaskError, match=r"few\.yaml"):
            load_study(path)
    with pytest.raises(TaskError, match="no such study file"):
        load_study(tmp_path / "nonesuch.yaml")


def test_a_models_overrides_reach_its_plan() -> None:
    study = parse_study({**RAW, "models": {"slim": {"network.name": "unet", "network.width": 0.25}, "vnet": None}}, "f")
    assert study.plan_of("slim") == {"network.name": "unet", "network.width": "0.25"}
    assert study.plan_of("vnet") == {"network.name": "vnet"}


def test_a_budget_is_shared_by_all_trainings() -> None:
    shrunk = shrink(parse_study({**RAW, "subsets": 3}, "f"), 300, 1, reserve=30, overhead=5)
    assert shrunk.study.trainings == 9 and shrunk.seconds == 25 and shrunk.study.time == 25
    assert shrink(parse_study({**RAW, "subsets": 3}, "f"), 300, 3, 30, 5).seconds == 60  # never more than asked for


def test_a_tight_budget_gives_up_seeds_before_subsets_and_keeps_three_of_them() -> None:
    study = parse_study({**RAW, "subsets": 5, "seeds": 2, "least": "20s"}, "f")
    shrunk = shrink(study, 300, 1, reserve=30, overhead=5)
    assert (shrunk.study.seeds, shrunk.study.subsets) == (1, 3)
    assert any(note.startswith("seeds: 1 instead of 2") for note in shrunk.notes)
    assert any(note.startswith("subsets: 3 instead of 5") for note in shrunk.notes)


def test_a_tight_budget_gives_up_the_last_model_before_the_intervals() -> None:
    study = parse_study({**RAW, "models": ["unet", "vnet"], "subsets": 3, "least": "20s"}, "f")
    shrunk = shrink(study, 300, 1, reserve=30, overhead=5)
    assert (list(shrunk.study.models), shrunk.study.subsets, shrunk.seconds) == (["unet"], 3, 25)
    assert any(note.startswith("models: unet instead of unet, vnet") for note in shrunk.notes)


@pytest.mark.parametrize("name", ["cells_few_labels", "hippocampus_few_labels"])
def test_shipped_studies_keep_their_intervals_in_ten_minutes(name: str) -> None:
    shrunk = shrink(find_study(name), 600, 1, reserve=15, overhead=6)
    assert shrunk.study.subsets >= 3 and shrunk.seconds >= shrunk.study.least


def test_a_budget_below_everything_says_so() -> None:
    shrunk = shrink(parse_study({**RAW, "folds": 2}, "f"), 40, 1, reserve=10, overhead=2)
    assert (shrunk.study.subsets, shrunk.study.folds) == (1, 1)
    assert "fewer than the 20 s" in shrunk.notes[-1]


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.floats(60, 1e5), st.integers(1, 4))
def test_a_shrunk_study_fits_its_budget(subsets: int, seeds: int, folds: int, budget: float, workers: int) -> None:
    study = Study(**{**RAW, "subsets": subsets, "seeds": seeds, "folds": folds})
    shrunk = shrink(study, budget, workers, reserve=15, overhead=3)
    rounds = -(-shrunk.study.trainings // workers)
    assert shrunk.seconds == 1.0 or rounds * (shrunk.seconds + 3) + 15 <= budget * (1 + 1e-9)
    assert shrunk.study.subsets >= min(3, subsets) or shrunk.study.seeds == shrunk.study.folds == 1
