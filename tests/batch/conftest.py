"""A tiny real model and a folder of tiny scans, good and bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg import formats
from medseg.bundle import Bundle
from medseg.core.geometry import Geometry
from medseg.core.machine import machine
from medseg.core.plan import ChannelStats, Fingerprint
from medseg.core.task import parse_task
from medseg.core.volume import Volume
from medseg.inference import Predictor
from medseg.nets import build
from medseg.planning import plan

SHAPE = (20, 18, 12)


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle with random weights: two labels, MR, about 1 mm."""
    task = parse_task({"name": "toy", "modality": "MR", "labels": {"near": {}, "far": {}}}, "test")
    stats = ChannelStats(0, 50, 150, 50, 20, 0, 200)
    prints = Fingerprint(3, (SHAPE,) * 3, ((1.0, 1.0, 1.0),) * 3, (stats,), {"near": 50.0, "far": 50.0}, {}, 0.1)
    small = {"features": "[4, 8]", "strides": "[[1,1,1],[2,2,2]]", "kernels": "[[3,3,3],[3,3,3]]"}
    changes = {
        **{f"network.{key}": value for key, value in small.items()},
        "patch": "[12, 12, 8]",
        "augment.flips": "[0, 1]",
    }
    planned = plan(prints, task, machine("cpu", 3), changes)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "bundle"
    Bundle(task, planned, prints, build(planned.network).state_dict(), {}).save(folder)
    return folder


@pytest.fixture(scope="session")
def predictor(bundle_folder: Path) -> Predictor:
    return Predictor(Bundle.load(bundle_folder), "cpu")


@pytest.fixture(scope="session")
def write_scan() -> Callable[..., Path]:
    """Writes a scan: write_scan(path, seed)."""
    return _write_scan


def _write_scan(path: Path, seed: int = 0) -> Path:
    """An oblique NIfTI of noise about a bright block."""
    rng = np.random.default_rng(seed)
    array = rng.normal(40, 10, (1, *SHAPE)).astype(np.float32)
    array[0, 5:12, 4:12, 3:9] += 80
    affine = np.array([[-0.9, 0.1, 0, 10], [0.1, 0.9, 0, -20], [0, 0, 1.1, 5], [0, 0, 0, 1]], dtype=np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    formats.write_volume(Volume(array, Geometry(affine, SHAPE)), path)
    return path
