"""What a user does, from labelled cases to scores, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from medseg import formats
from tests.e2e.conftest import Medseg


@pytest.fixture(scope="module")
def run(blobs: Path, medseg: Medseg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("work")
    done = medseg(
        "train", "--task", blobs / "task.yaml", "--data", blobs, "--split", blobs / "split.json",
        "--steps", 60, "--device", "cpu", "-o", "run", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "medseg predict" in done.stdout
    return place / "run"


def test_the_run_folder_holds_what_the_readme_promises(run: Path) -> None:
    for name in (
        "bundle/bundle.json", "bundle/weights.safetensors", "plan.json", "training.csv", "training.png", "report.html",
        "report.json", "report.csv", "pictures/best.png", "pictures/median.png", "pictures/worst.png",
    ):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert not (run / "cache").exists()


def test_the_test_cases_are_scored_and_learned(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    assert report["scored_on"] == "test"
    assert sorted(case["id"] for case in report["cases"]) == ["case_6", "case_7"]
    summary = report["summary"]
    assert summary["mean_dice"] > 0.6
    assert 0 < summary["mean_iou"] < summary["mean_dice"]
    assert 0 < summary["dataset_miou"] < 1


def test_predict_and_evaluate_give_the_scores_of_the_report(run: Path, blobs: Path, medseg: Medseg) -> None:
    place = run.parent
    done = medseg("predict", blobs / "images", "--model", "run", "-o", "out", cwd=place)
    assert done.returncode == 0, done.stderr
    with (place / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["status"] for row in rows} <= {"ok", "review"} and len(rows) == 8
    for row in rows:
        image = formats.read(formats.source_of(blobs / "images" / row["path"]))
        found = formats.read_labels(formats.source_of(place / "out" / row["output"]))
        assert found.geometry.same_grid(image.volume.geometry, 1e-4)
    done = medseg(
        "evaluate", "out", blobs / "labels", "--task", blobs / "task.yaml", "-o", "scores", "--json", cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    again = json.loads((place / "scores" / "report.json").read_text())
    before = json.loads((run / "report.json").read_text())
    dice = {case["id"]: case["mean_dice"] for case in again["cases"]}
    for case in before["cases"]:
        assert dice[case["id"]] == pytest.approx(case["mean_dice"], abs=1e-9)


def test_a_finished_run_is_not_overwritten(run: Path, blobs: Path, medseg: Medseg) -> None:
    before = (run / "bundle" / "bundle.json").read_bytes()
    done = medseg("train", "--task", blobs / "task.yaml", "--data", blobs, "-o", "run", cwd=run.parent)
    assert done.returncode != 0
    assert "holds a finished run" in done.stderr and "Traceback" not in done.stderr
    assert (run / "bundle" / "bundle.json").read_bytes() == before


def test_every_problem_of_the_data_is_told_at_once(blobs: Path, medseg: Medseg, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "d" / kind).mkdir(parents=True)
        for number in range(4):
            name = f"case_{number}.nii.gz"
            (tmp_path / "d" / kind / name).write_bytes((blobs / kind / name).read_bytes())
    labels = tmp_path / "d" / "labels"
    (labels / "case_0.nii.gz").write_bytes(b"")
    source = formats.source_of(blobs / "labels" / "case_1.nii.gz")
    odd = formats.read_labels(source)
    odd.array[0, 0, 0] = 7
    formats.write_labelmap(odd, source, labels / "case_1")
    (labels / "orphan.nii.gz").write_bytes((labels / "case_2.nii.gz").read_bytes())
    done = medseg("train", "--task", blobs / "task.yaml", "--data", tmp_path / "d", "-o", "r", cwd=tmp_path)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    for name in ("case_0.nii.gz", "case_1.nii.gz", "orphan.nii.gz"):
        assert name in done.stderr
    assert not (tmp_path / "r" / "bundle").exists()


def test_a_prepared_folder_is_trained_with_its_edited_plan(blobs: Path, medseg: Medseg, tmp_path: Path) -> None:
    done = medseg("prepare", "--task", blobs / "task.yaml", "--data", blobs, "-o", "p", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "p" / "plan.json"
    plan = json.loads(path.read_text())
    plan["network"]["features"] = [4, 8, 8]
    path.write_text(json.dumps(plan))
    done = medseg("train", "p", "--steps", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    from medseg.bundle import Bundle

    bundle = Bundle.load(tmp_path / "p")
    assert bundle.plan.network.features == (4, 8, 8)
    assert bundle.plan.schedule.steps == 2


@pytest.mark.parametrize(("name", "features"), [("unet2015", "[2, 4, 4]"), ("unet3d_2016", "[2, 4, 4]")])
def test_the_published_networks_train_and_answer_on_the_whole_grid(
    blobs: Path, medseg: Medseg, tmp_path: Path, name: str, features: str
) -> None:
    stages = ["network.strides=[[1,1,1],[2,2,2],[2,2,2]]", "network.kernels=[[3,3,3],[3,3,3],[3,3,3]]"]
    changes = [f"network.name={name}", f"network.features={features}", "patch=[44,44,44]", *stages]
    done = medseg(
        "train", "--task", blobs / "task.yaml", "--data", blobs, "--steps", 2, "-o", "r",
        *(part for change in changes for part in ("--set", change)), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs = sorted((tmp_path / "r" / "predictions").glob("*.nii.gz"))
    assert outputs
    for output in outputs:
        image = formats.read(formats.source_of(blobs / "images" / output.name))
        found = formats.read_labels(formats.source_of(output))
        assert found.geometry.same_grid(image.volume.geometry, 1e-4)
        assert set(np.unique(found.array)) <= {0, 1, 2}
