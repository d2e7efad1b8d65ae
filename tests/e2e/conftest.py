"""A task small enough to be learned in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg import formats
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume

Medseg = Callable[..., "subprocess.CompletedProcess[str]"]

TASK = """
name: blobs
description: A bright and a dark ball in noise
modality: MR
labels: {bright: 1, dark: 2}
plan:
  network.features: [6, 12, 16]
  network.strides: [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
  network.kernels: [[3, 3, 3], [3, 3, 3], [3, 3, 3]]
  patch: [24, 24, 16]
  batch: 2
  schedule.epoch_steps: 5
  schedule.checkpoint_seconds: 0
  schedule.learning_rate: 0.005
"""


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with task.yaml, images/ and labels/ of eight cases, and split.json."""
    folder = tmp_path_factory.mktemp("blobs")
    for number in range(8):
        write_case(folder, f"case_{number}", number)
    (folder / "task.yaml").write_text(TASK)
    ids = [f"case_{number}" for number in range(8)]
    split = {"train": ids[:4], "validation": ids[4:6], "test": ids[6:]}
    (folder / "split.json").write_text(json.dumps(split))
    return folder


def write_case(folder: Path, name: str, seed: int) -> None:
    """An image in one of several orientations and its label map."""
    rng = np.random.default_rng(seed)
    shape = (28, 26, 18)
    place = np.indices(shape).astype(np.float64)
    labels = np.zeros(shape, dtype=np.uint8)
    for value, x in ((1, 8), (2, 19)):
        center = np.array([x, 13, 9]) + rng.uniform(-2, 2, 3)
        inside = sum((place[a] - center[a]) ** 2 for a in range(3)) < rng.uniform(4, 6) ** 2
        labels[inside] = value
    image = rng.normal(100, 8, shape) + 60 * (labels == 1) - 60 * (labels == 2)
    direction = np.diag([(-1.0) ** seed, (-1.0) ** (seed // 2), 1.2, 1.0])
    geometry = Geometry(direction, shape)
    formats.write_volume(Volume(image[None].astype(np.float32), geometry), folder / "images" / f"{name}.nii.gz")
    source = formats.source_of(folder / "images" / f"{name}.nii.gz")
    formats.write_labelmap(LabelMap(labels, geometry), source, folder / "labels" / name)


@pytest.fixture(scope="session")
def medseg() -> Medseg:
    """Run `medseg …` in a process of its own, from another folder than the checkout."""

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medseg", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)

    return run
