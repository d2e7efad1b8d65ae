"""A training whose plan asks for the dense CRF: fitted on cases that are not scored, and told in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import MissingDependencyError
from medseg.core.geometry import Geometry
from medseg.core.task import Task, parse_task
from medseg.core.volume import LabelMap, Volume
from medseg.formats import source_of, write_labelmap, write_volume
from medseg.inference import crf
from medseg.workflows.train import TrainOptions, train

PLAN = {
    "batch": 2,
    "schedule.epoch_steps": 2,
    "schedule.steps": 2,
    "schedule.precision": "float32",
    "network.features": [4, 6],
    "network.strides": [[1, 1], [2, 2]],
    "network.kernels": [[3, 3], [3, 3]],
    "patch": [16, 16, 1],
    "crf.iterations": 2,
}


@pytest.fixture
def squares(tmp_path: Path) -> tuple[Task, Path]:
    """Three pictures of a bright square, and their split: one to train, one to validate, one to test on."""
    geometry, folder = Geometry.from_spacing((1, 1, 1), (32, 32, 1)), tmp_path / "data"
    names = [f"case_{number}" for number in range(3)]
    for number, name in enumerate(names):
        labels = np.zeros((32, 32, 1), np.uint8)
        labels[4 + number : 20, 5:19] = 1
        image = np.random.default_rng(number).normal(100, 5, labels.shape) + 60 * labels
        path = folder / "images" / f"{name}.nii.gz"
        write_volume(Volume(image[None].astype(np.float32), geometry), path)
        write_labelmap(LabelMap(labels, geometry), source_of(path), folder / "labels" / name)
    split = {"train": names[:1], "validation": names[1:2], "test": names[2:]}
    (folder / "split.json").write_text(json.dumps(split))
    raw = {"name": "squares", "modality": "other", "dimensions": 2, "labels": {"square": 1}, "plan": PLAN}
    return parse_task(raw, "squares"), folder


@pytest.mark.skipif(crf.find_spec("pydensecrf") is None, reason="pydensecrf2 is not installed")
def test_the_field_is_fitted_and_its_dice_without_and_with_it_told(squares: tuple[Task, Path], tmp_path: Path) -> None:
    task, data = squares
    options = TrainOptions(device="cpu", split=data / "split.json")
    result = train(task, data, tmp_path / "run", options)
    told = result.bundle.plan.reasons["crf"]
    assert told.startswith("mean Dice on 1 validation cases ") and "without the dense CRF" in told
    assert result.report.context["dense CRF"] == told
    assert "without the dense CRF" in (result.run / "report.html").read_text("utf-8")
    # It stays on just where it helped.
    assert bool(result.bundle.plan.crf.iterations) == ("so it is off" not in told)


def test_without_the_package_training_says_so_before_it_learns(
    squares: tuple[Task, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crf, "find_spec", lambda name: None)
    task, data = squares
    with pytest.raises(MissingDependencyError, match="pip install"):
        train(task, data, tmp_path / "run", TrainOptions(device="cpu", split=data / "split.json"))
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
