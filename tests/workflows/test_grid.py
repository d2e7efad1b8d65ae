"""Comparisons and studies on six tiny pictures: what is written, what failures cost, and what a kill costs."""

from __future__ import annotations

import csv
import html
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medseg.core.errors import UsageError
from medseg.core.study import Study
from medseg.workflows.cell import Cell, CellResult, Cost, Effort, read_result, write_result
from medseg.workflows.compare import CompareOptions, Comparison, compare, scores_of
from medseg.workflows.prepare import PrepareOptions, prepare, prepare_run
from medseg.workflows.study import StudyOptions, first_cases, study, witnesses

PLAN = {
    "network.features": "[4, 8]",
    "network.strides": "[[1, 1], [2, 2]]",
    "network.kernels": "[[3, 3], [3, 3]]",
    "patch": "[16, 16, 1]",
    "batch": "2",
    "window.flips": "false",
}
TINY = PrepareOptions(overrides=PLAN)


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten grey pictures of 24x24 with a bright dot each, and their label maps; two pictures of every patient."""
    folder = tmp_path_factory.mktemp("dots")
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(10):
        label = np.zeros((24, 24), dtype=np.uint8)
        label[6 : 12 + number % 4, 6:14] = 1
        image = (rng.normal(60, 10, label.shape) + 120 * label).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"images/p{number // 2}_{number}.png")
        Image.fromarray(label).save(folder / f"labels/p{number // 2}_{number}.png")
    (folder / "task.yaml").write_text(
        "name: dots\nmodality: microscopy\ndimensions: 2\nchannels: [grey]\nlabels: {dot: 1}\n"
        "data: {root: ., group: '(p.)_'}\nsplit: {folds: 5}\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def compared(dots: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two models, of which one cannot run with this plan."""
    output = tmp_path_factory.mktemp("compared") / "out"
    options = CompareOptions(("unet", "unet3d_2016"), steps=3, prepare=TINY)
    return compare(dots / "task.yaml", output=output, options=options)


def test_a_comparison_tells_every_figure_of_what_ran(compared: Comparison) -> None:
    told = json.loads((compared.folder / "compare.json").read_text("utf-8"))
    row = told["models"][0]
    assert row["model"] == "unet" and row["trainings"] == 1 and row["failed"] == 0
    assert 0 <= row["dice"]["mean"] <= 1 and 0 <= row["iou"]["mean"] <= row["dice"]["mean"]
    assert row["parameters"] > 0 and row["multiply_adds"] > 0 and row["inference_ms"] > 0 and row["steps"] == 3
    assert told["held_out_cases"] == 2 and told["held_out_patients"] == 1 and told["training_cases"] == [8]


def test_a_model_that_cannot_run_says_why_and_the_others_go_on(compared: Comparison) -> None:
    row = compared.plain["models"][1]
    assert row["trainings"] == 0 and row["failed"] == 1 and row["reasons"][0]
    assert row["reasons"][0] in html.unescape((compared.folder / "compare.html").read_text("utf-8"))


def test_few_patients_get_no_interval_and_the_page_says_so(compared: Comparison) -> None:
    dice = compared.plain["models"][0]["dice"]
    assert dice["low"] is None and "no interval" in dice["note"]
    assert "no interval" in (compared.folder / "compare.html").read_text("utf-8")


def test_the_page_needs_no_other_file_and_shows_the_cases(compared: Comparison) -> None:
    page = (compared.folder / "compare.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") >= 1 and "<svg" in page
    assert 'src="http' not in page and "<link" not in page


def test_the_table_is_a_csv_too(compared: Comparison) -> None:
    rows = list(csv.DictReader((compared.folder / "compare.csv").read_text("utf-8").splitlines()))
    assert [row["model"] for row in rows] == ["unet", "unet3d_2016"]
    assert float(rows[0]["dice"]) == pytest.approx(compared.plain["models"][0]["dice"]["mean"], abs=1e-6)
    assert rows[1]["dice"] == "" and rows[1]["reason"]


def test_the_same_call_trains_nothing_again(dots: Path, compared: Comparison) -> None:
    kept = compared.folder / "cells/unet-fold0-seed0/run/bundle"
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    options = CompareOptions(("unet",), steps=3, prepare=TINY)
    again = compare(dots / "task.yaml", output=compared.folder, options=options)
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before
    assert again.plain["models"][0]["dice"] == compared.plain["models"][0]["dice"]


def test_a_short_name_stands_for_its_network_when_a_prepared_run_is_taken_up_again(dots: Path, tmp_path: Path) -> None:
    options = PrepareOptions(overrides={"network.name": "deeplabv3plus", "network.width": "0.25"})
    first = prepare(dots / "task.yaml", output=tmp_path / "run", options=options)
    again = prepare_run(first.folder, options)  # as a training does after its range test
    assert again.plan.network.name == first.plan.network.name == "deeplabv3plus_resnet50"


def test_cells_of_another_budget_are_not_mixed_in(dots: Path, compared: Comparison) -> None:
    with pytest.raises(UsageError, match="another --output"):
        compare(dots / "task.yaml", output=compared.folder, options=CompareOptions(("unet",), steps=4, prepare=TINY))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (CompareOptions(("nonesuch",), steps=3), "there is no model 'nonesuch'; there are unet"),
        (CompareOptions(("unet", "unet"), steps=3), "once only"),
        (CompareOptions((), steps=3), "which models"),
        (CompareOptions(("unet",)), "give one of the two"),
        (CompareOptions(("unet",), steps=3, time_budget=3.0), "give one of the two"),
        (CompareOptions(("unet",), steps=0), "more than nothing"),
        (CompareOptions(("unet",), steps=3, folds=6), "folds: must be 1 to 5"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    dots: Path, tmp_path: Path, options: CompareOptions, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        compare(dots / "task.yaml", output=tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


# ---- studies --------------------------------------------------------------------------------


def _study(dots: Path, **changes: Any) -> Study:
    raw = {"name": "few", "task": str(dots / "task.yaml"), "models": ["unet"], "cases": [2, 4, 20], "subsets": 1,
           "steps": 2, **changes}  # fmt: skip
    return Study(**raw)


def test_a_study_of_one_draw_gives_curves_without_intervals(dots: Path, tmp_path: Path) -> None:
    told = study(_study(dots), output=tmp_path / "out", options=StudyOptions(prepare=TINY)).plain
    assert told["study"]["cases"] == [2, 4, 8] and "8 are left to learn from" in told["notes"][0]
    points = told["curves"]["unet"]["points"]
    assert [point["cases"] for point in points] == [2, 4, 8] and all(point["low"] is None for point in points)
    expectation = told["curves"]["unet"]["expectation"]
    assert expectation["plus_minus"] is None and "fewer than 3" in expectation["note"]
    trained = [set(one["trained_on"]) for one in told["trainings"]]
    assert trained[0] < trained[1] < trained[2]
    page = (tmp_path / "out/study.html").read_text("utf-8")
    assert "No interval is given" in page and "<svg" in page
    assert len((tmp_path / "out/study.csv").read_text("utf-8").splitlines()) == 4


def test_draws_are_nested_and_keep_patients_whole() -> None:
    order = [("a1", "a2"), ("b1",), ("c1", "c2", "c3")]
    assert first_cases(order, 1) == ("a1", "a2")
    assert first_cases(order, 3) == ("a1", "a2", "b1")
    assert first_cases(order, 4) == ("a1", "a2", "b1", "c1", "c2", "c3")


def test_witnesses_are_draws_or_the_seeds_of_a_single_draw() -> None:
    def cell(subset: int, seed: int) -> Cell:
        return Cell(f"{subset}-{seed}", "unet", {}, ("a",), ("b",), seed=seed, subset=subset, count=2)

    drawn = [cell(0, 0), cell(0, 1), cell(1, 0), cell(1, 1)]
    results = {
        one.key: CellResult("", {"b": {"dice": value}}) for one, value in zip(drawn, (0, 1, 0.5, 0.7), strict=True)
    }
    assert witnesses(drawn, results, "unet") == [{2: 0.5}, {2: pytest.approx(0.6)}]
    assert witnesses(drawn[:2], results, "unet") == [{2: 0}, {2: 1}]


def test_a_case_that_was_held_out_twice_counts_once() -> None:
    cells = [Cell(str(seed), "unet", {}, ("a",), ("b",), seed=seed) for seed in (0, 1)]
    results = {"0": CellResult("", {"b": {"dice": 0.4}}), "1": CellResult("", {"b": {"dice": 0.8}})}
    assert scores_of(cells, results, "dice") == {"unet": {"b": pytest.approx(0.6)}}
    assert scores_of(cells, results, "hd95") == {}


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    cost = Cost(10, 20, (4, 4, 1), 3, 1.5, 0.001, None, 5)
    result = CellResult("", {"b": {"dice": None}}, 0.5, cost)
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result
    (tmp_path / "result.json").write_text("{", encoding="utf-8")
    assert read_result(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are told by Linux only")
def test_the_peak_of_memory_is_measured_anew() -> None:
    # In a process of its own: a large one gives memory back while it is looked at.
    program = """
import numpy as np
from medseg.workflows.cell import forget_peak, peak
forget_peak("cpu")
before = peak("cpu")
held = np.ones(200_000_000, dtype=np.uint8)
between = peak("cpu")
del held
forget_peak("cpu")
after = peak("cpu")
assert between > before + 150_000_000 and after < between - 150_000_000, (before, between, after)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_effort_is_time_or_steps() -> None:
    assert Effort(seconds=60).words() == "60 s" and Effort(steps=5).words() == "5 steps"


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_without_losing_or_repeating_a_finished_cell(dots: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "few.yaml", tmp_path / "out"
    plain = _study(dots, subsets=3, cases=[2, 4]).model_dump(mode="json", exclude={"time"})
    file.write_text(json.dumps(plain), encoding="utf-8")
    overrides = [word for key, value in PLAN.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "medseg", "study", str(file), "-o", str(out), *overrides]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while len(list(out.glob("cells/*/result.json"))) < 2:
            assert running.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}
    assert 2 <= len(finished) < 6 and not (out / "study.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    told = json.loads((out / "study.json").read_text("utf-8"))
    assert [one["state"] for one in told["trainings"]] == ["finished"] * 6
    assert all(point["low"] is not None for point in told["curves"]["unet"]["points"])
