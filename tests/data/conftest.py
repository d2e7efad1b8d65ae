"""Tiny data folders, written with medseg's own writers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.task import Task, parse_task
from medseg.core.volume import Volume
from medseg.formats import write_volume

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("images/a.nii.gz", array, spacing or geometry): an image or label map below tmp_path."""

    def save(name: str, array: Any = None, spacing: tuple[float, ...] = (1, 1, 2), geometry: Any = None) -> Path:
        values = np.zeros((6, 5, 4)) if array is None else np.asarray(array)
        values = values.astype(np.float32)
        stack = values[None] if values.ndim == 3 else values
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(stack, geometry or Geometry.from_spacing(spacing, stack.shape[1:])), path)
        return path

    return save


@pytest.fixture
def task() -> Callable[..., Task]:
    """task(labels={…}, …): a checked task, 3D CT with one label unless told otherwise."""

    def make(**changes: Any) -> Task:
        return parse_task({"name": "tiny", "modality": "CT", "labels": {"blob": 1}, **changes}, "tiny")

    return make


@pytest.fixture
def blob() -> np.ndarray:
    """A label map [6, 5, 4] with one cube of ones."""
    array = np.zeros((6, 5, 4))
    array[2:4, 1:3, 1:3] = 1
    return array
