"""Pictures of augmented samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.core.errors import UsageError
from medseg.workflows.augment import AugmentOptions, augment

TASK = """
name: dots
modality: microscopy
dimensions: 2
channels: [grey]
labels: {dot: 1}
data: {root: .}
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        label = np.zeros((40, 32), dtype=np.uint8)
        label[10:20, 8:20] = 1
        image = (rng.normal(60, 10, label.shape) + 120 * label).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{name}.png")
        Image.fromarray(label).save(tmp_path / f"labels/{name}.png")
    path = tmp_path / "task.yaml"
    path.write_text(TASK, encoding="utf-8")
    return path


def test_the_picture_is_the_same_for_the_same_seed(task: Path, tmp_path: Path) -> None:
    options = AugmentOptions(cases=2, samples=2, overrides={"augment.intensity_probability": "1"})
    first = augment(task, None, tmp_path / "one.png", options)
    second = augment(task, None, tmp_path / "two.png", options)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.size[0] > 3 * 200


def test_nothing_to_draw_is_refused(task: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        augment(task, None, tmp_path / "one.png", AugmentOptions(cases=0))
