"""`medseg evaluate` with a task that tells objects apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats import write_volume
from medseg.workflows.evaluate import EvaluateOptions, evaluate

TASK = """
name: cells
modality: microscopy
dimensions: 2
labels: {cell: nonzero}
instances: true
ignore: 9
"""


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stack = array[np.newaxis, ..., np.newaxis].astype(np.float32)
    write_volume(Volume(stack, Geometry.from_spacing((1, 1, 1), stack.shape[1:])), path)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    true = np.zeros((20, 20))
    true[2:8, 2:8], true[8:14, 2:8], true[2:8, 12:18], true[16:] = 700, 3, 12, 9
    merged = np.zeros((20, 20))
    merged[2:14, 2:8], merged[2:8, 12:18], merged[17:, 3:9] = 1, 5, 6
    write(tmp_path / "true" / "a.png", true)
    write(tmp_path / "true" / "b.png", true)
    write(tmp_path / "found" / "a.png", merged)
    (tmp_path / "task.yaml").write_text(TASK, encoding="utf-8")
    return tmp_path


def test_objects_are_matched_and_what_is_ignored_is_none(maps: Path) -> None:
    report = evaluate(
        maps / "found", maps / "true", maps / "out", EvaluateOptions(task=str(maps / "task.yaml"))
    )  # fmt: skip
    summary = json.loads((maps / "out" / "report.json").read_text())["summary"]
    assert report.summary["f1_50"] == summary["f1_50"]
    # a: of three nuclei two were found, two of which as one (IoU .5); b has no prediction.
    assert (summary["n_predicted"], summary["n_reference"]) == (2, 6)
    assert summary["f1_50"] == pytest.approx(2 * 2 / (2 + 6))
    assert summary["f1_75"] == pytest.approx(2 * 1 / (2 + 6))
    assert summary["per_image"]["f1_50"] == pytest.approx((0.8 + 0) / 2)


def test_without_such_a_task_nothing_is_matched(maps: Path) -> None:
    report = evaluate(maps / "found", maps / "true", maps / "out", EvaluateOptions(binary=True, ignore=9))
    assert "f1_50" not in report.summary
