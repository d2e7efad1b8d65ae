"""Stacks of touching balls through a whole training: three-dimensional objects, fitted, scored and written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from medseg.bundle import Bundle
from medseg.core.geometry import Geometry
from medseg.core.plan import InstanceSpec
from medseg.core.volume import Volume
from medseg.formats import write_volume
from medseg.workflows.predict import PredictOptions, predict
from medseg.workflows.separating import spread
from medseg.workflows.train import TrainOptions, train

TASK = """
name: balls
modality: microscopy
dimensions: 3
labels: {ball: nonzero}
instances: true
plan:
  network.features: [4, 8]
  network.strides: [[1, 1, 1], [2, 2, 2]]
  network.kernels: [[3, 3, 3], [3, 3, 3]]
  patch: [24, 24, 8]
"""
SPACING = (0.001, 0.001, 0.002)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(array[np.newaxis].astype(np.float32), Geometry.from_spacing(SPACING, array.shape)), path)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five stacks of two balls that touch, bright on dark."""
    root = tmp_path_factory.mktemp("balls")
    i, j, k = np.indices((32, 24, 10))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        away = [np.sqrt((i - a) ** 2 + (j - 12) ** 2 + (2 * (k - 5)) ** 2) for a in (9 + seed % 3, 21 + seed % 3)]
        ids = np.where(np.minimum(*away) <= 6.5, 1 + np.argmin(away, axis=0), 0)
        image = np.where(ids > 0, 180 - 8 * np.minimum(*away), 30) + rng.normal(0, 3, ids.shape)
        write(root / "images" / f"s{seed}.tif", np.rint(image))
        write(root / "labels" / f"s{seed}.tif", ids)
    (root / "task.yaml").write_text(TASK, encoding="utf-8")
    return root


@pytest.mark.slow
def test_a_stack_is_trained_scored_and_predicted_ball_by_ball(stacks: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(str(stacks / "task.yaml"), stacks, run, TrainOptions(steps=60, device="cpu"))
    summary = json.loads((run / "report.json").read_text())["summary"]
    assert summary["n_reference"] == 2
    plan = Bundle.load(run).plan
    assert plan.network.out_channels == 3 and plan.instances not in (None, InstanceSpec())
    assert plan.reasons["instances"] == "fitted on 4 training cases"  # as the validation case is what was scored
    predict(stacks / "images", run, tmp_path / "out", PredictOptions(device="cpu"))
    found = tifffile.imread(tmp_path / "out" / "s1.tif")
    assert found.dtype == np.uint16 and found.shape == (10, 32, 24)
    with (tmp_path / "out" / "cells.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scan"] == "s1"]
    assert len(rows) == found.max()
    assert [float(row["volume_um3"]) for row in rows] == pytest.approx([2 * int(row["volume_vx"]) for row in rows])


def test_settings_that_the_user_gave_are_kept_and_others_are_fitted_elsewhere_than_scored(
    stacks: Path, tmp_path: Path
) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["s0", "s1", "s2"], "validation": ["s3"], "test": ["s4"]}))
    told = []
    for name, overrides in (("fitted", {}), ("given", {"instances.seed": "0.65"})):
        options = TrainOptions(steps=2, device="cpu", split=split, overrides=overrides)
        train(str(stacks / "task.yaml"), stacks, tmp_path / name, options)
        told.append(Bundle.load(tmp_path / name).plan)
    assert told[0].reasons["instances"] == "fitted on 1 validation cases"
    assert told[1].instances == InstanceSpec(seed=0.65)
    assert json.loads((tmp_path / "given" / "report.json").read_text())["scored_on"] == "test"


def test_few_are_taken_from_all_over_the_list() -> None:
    assert spread(list("abcdefghij"), 3) == ["a", "d", "g"]
    assert spread(["a", "b"], 3) == ["a", "b"]
