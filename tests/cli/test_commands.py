"""Commands on a tiny folder of pictures: what they print, as a table and as JSON, and their exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six grey pictures with a bright dot each, and their label maps."""
    folder = tmp_path_factory.mktemp("dots")
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(6):
        label = np.zeros((40, 32), dtype=np.uint8)
        label[10 : 20 + number, 8:20] = 1
        image = (rng.normal(60, 10, label.shape) + 120 * label).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"images/dot_{number}.png")
        Image.fromarray(label).save(folder / f"labels/dot_{number}.png")
    (folder / "task.yaml").write_text(
        "name: dots\nmodality: microscopy\ndimensions: 2\nchannels: [grey]\nlabels: {dot: 1}\ndata: {root: .}\n",
        encoding="utf-8",
    )
    return folder


def test_tasks_lists_what_ships(cli: Run) -> None:
    listed = json.loads(cli("tasks", "--json").stdout)
    assert {"lung_ct", "hippocampus_mr", "sarcoma_pet", "cells_2d", "retina_vessels"} <= {t["name"] for t in listed}
    lung = next(task for task in listed if task["name"] == "lung_ct")
    assert (lung["modality"], lung["dimensions"], lung["labels"]) == ("CT", 3, ["left lung", "right lung"])
    assert "left lung, right lung" in cli("tasks").stdout


def test_inspect_tells_clean_from_broken_by_its_exit_code(
    cli: Run, dots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean = cli("inspect", str(dots), "--task", str(dots / "task.yaml"))
    assert clean.returncode == 0 and "dot_3" in clean.stdout and "40×32×1" in clean.stdout
    assert "inspect.html" in clean.stdout and (tmp_path / "inspect/inspect.html").is_file()
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/bad.nii.gz").write_text("no scan", encoding="utf-8")
    broken = cli("inspect", str(tmp_path / "scans"), "--json")
    assert broken.returncode == 2
    assert json.loads(broken.stdout)["totals"]["with_errors"] == 1


def test_inspect_warns_of_a_copy_and_writes_what_it_prints(cli: Run, dots: Path, tmp_path: Path) -> None:
    shutil.copytree(dots, tmp_path / "dots")
    for folder in ("images", "labels"):
        shutil.copy(tmp_path / f"dots/{folder}/dot_1.png", tmp_path / f"dots/{folder}/dot_9.png")
    split = tmp_path / "split.json"
    split.write_text('{"train": ["dot_1"], "test": ["dot_9", "dot_77"]}', encoding="utf-8")
    result = cli(
        "inspect", str(tmp_path / "dots"), "--split", str(split), "-o", str(tmp_path / "out"), "--json"
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    plain = json.loads(result.stdout)
    assert plain == json.loads((tmp_path / "out/inspect.json").read_text("utf-8"))
    assert plain["codes"] == {"duplicate-content": 2, "unknown-case": 0}
    copy = next(case for case in plain["cases"] if case["id"] == "dot_9")
    assert copy["findings"][0]["values"] == {"cases": ["dot_1"], "parts": ["test", "train"]}
    assert copy["path"] == "images/dot_9.png" and (tmp_path / "out/inspect.html").is_file()


def test_init_writes_a_task_that_prepare_takes(cli: Run, dots: Path, tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    written = cli("init", str(dots), "-o", str(task))
    assert written.returncode == 0 and str(task) in written.stdout
    again = cli("init", str(dots), "-o", str(task))
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    prepared = cli(
        "prepare", "--task", str(task), "--data", str(dots), "-o", str(tmp_path / "run"), "--set", "batch=3", "--json"
    )
    assert prepared.returncode == 0, prepared.stderr
    plain = json.loads(prepared.stdout)
    assert plain["plan"]["batch"] == 3
    assert len(plain["split"]["train"]) + len(plain["split"]["validation"]) == 6
    assert (tmp_path / "run/plan.json").is_file()


def test_a_loss_that_does_not_exist_is_refused_before_anything_is_preprocessed(
    cli: Run, dots: Path, tmp_path: Path
) -> None:
    where = ("--task", str(dots / "task.yaml"), "--data", str(dots), "-o", str(tmp_path / "run"))
    result = cli("prepare", *where, "--set", "schedule.loss=lovasz")
    assert result.returncode == 1 and "schedule.loss: there is no loss 'lovasz'; there are dice_ce," in result.stderr
    assert not (tmp_path / "run/cache").exists()


def test_evaluate_prints_the_report_it_writes(cli: Run, dots: Path, tmp_path: Path) -> None:
    labels = str(dots / "labels")
    result = cli("evaluate", labels, labels, "-o", str(tmp_path), "--task", str(dots / "task.yaml"), "--json")
    assert result.returncode == 0, result.stderr
    printed, written = json.loads(result.stdout), json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert printed == written and written["summary"]["mean_dice"] == 1.0
    table = cli("evaluate", labels, labels, "-o", str(tmp_path), "--binary").stdout
    assert "mean Dice 1.000" in table and "report.html" in table


def test_evaluate_takes_several_models_and_the_references_last(cli: Run, dots: Path, tmp_path: Path) -> None:
    labels, copy = dots / "labels", tmp_path / "copy"
    shutil.copytree(labels, copy)
    result = cli("evaluate", str(copy), str(labels), str(labels), "-o", str(tmp_path / "out"), "--binary")
    assert result.returncode == 0, result.stderr
    assert "copy - labels" in result.stdout and "p (Holm)" in result.stdout
    assert cli("evaluate", str(labels), "-o", str(tmp_path / "out")).returncode == 2


def test_sample_refuses_a_folder_in_use(cli: Run, dots: Path) -> None:
    result = cli("sample", str(dots))
    assert result.returncode == 2 and "not an empty folder" in result.stderr


def test_an_unknown_task_is_named_with_those_that_exist(cli: Run) -> None:
    result = cli("augment", "--task", "nonsense")
    assert result.returncode == 1
    assert "nonsense" in result.stderr and "lung_ct" in result.stderr
