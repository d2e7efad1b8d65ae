"""From a scan to a label map on its own grid, with a network that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.bundle import Bundle
from medseg.core.case import Scan, Source, Status
from medseg.core.geometry import Geometry
from medseg.core.plan import ChannelStats, Fingerprint, NetworkSpec, Normalization, Plan, Schedule, WindowSpec
from medseg.core.task import parse_task
from medseg.core.volume import Volume
from medseg.inference import Predictor
from medseg.nets import build

TASK = parse_task(
    {"name": "t", "modality": "CT", "labels": {"bright": 1}, "postprocess": {"keep_largest": ["bright"]}}, "t"
)
STATS = ChannelStats(-1000, 0, 1000, 0, 500, -1024, 1500, True)
FINGERPRINT = Fingerprint(4, ((16, 16, 8),), ((2.0, 2.0, 4.0),), (STATS,), {"bright": 100.0}, {}, 0.1)


def bundle_of() -> Bundle:
    """A U-Net whose weights make it a threshold: bright where the normalised image is above zero."""
    spec = NetworkSpec("unet", 3, 1, 2, (1, 1), ((1, 1, 1), (2, 2, 2)), ((1, 1, 1), (1, 1, 1)), norm="none")
    state = build(spec).state_dict()
    for name, value in state.items():
        value.zero_()
        if name.startswith("encoder.0") and name.endswith("weight"):
            value.fill_(1.0)
        if name.startswith("decoder") and name.endswith("weight"):
            value.view(-1)[0] = 1.0  # the skip comes first
        if name == "heads.0.weight":
            value.copy_(torch.tensor([0.0, 100.0]).reshape(value.shape))
    plan = Plan(
        task="t",
        ndim=3,
        spacing=(2.0, 2.0, 4.0),
        normalization=(Normalization("ct", -1000, 1000, 0, 500),),
        patch=(8, 8, 4),
        batch=1,
        network=spec,
        schedule=Schedule(precision="float32"),
        window=WindowSpec(batch=3),
    )
    return Bundle(TASK, plan, FINGERPRINT, state)


def scan_of(affine: np.ndarray, shape: tuple[int, int, int]) -> Scan:
    """Air with a bright box, and a speck that post-processing takes away."""
    array = np.full((1, *shape), -1000.0, dtype=np.float32) + np.arange(shape[0], dtype=np.float32)[:, None, None]
    array[0, 4:10, 5:11, 2:6] = 800.0
    array[0, 14, 14, 7] = 800.0
    source = Source(Path("scan.nii.gz"), (Path("scan.nii.gz"),), "nifti", "scan")
    return Scan(source, Volume(array, Geometry(affine, shape)), integral=True)


@pytest.mark.parametrize("flip", [False, True], ids=["RAS", "LPS, axes exchanged"])
def test_the_label_map_lies_on_the_scans_own_grid(flip: bool) -> None:
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    if flip:
        affine = np.diag([-2.0, -2.0, 4.0, 1.0])[:, [1, 0, 2, 3]]
    scan = scan_of(affine, (16, 16, 8))
    prediction = Predictor(bundle_of(), "cpu").predict(scan)
    expected = np.zeros((16, 16, 8), dtype=np.uint8)
    expected[4:10, 5:11, 2:6] = 1
    assert prediction.outcome.status is Status.OK
    assert prediction.labelmap.geometry.same_grid(scan.volume.geometry)
    assert np.array_equal(prediction.labelmap.array, expected)
    assert prediction.labelmap.labels == TASK.label_table()
    assert prediction.scan is scan
    assert prediction.confidence is not None
    assert prediction.confidence > 0.99


def test_other_spacings_come_back_on_their_grid() -> None:
    scan = scan_of(np.diag([1.0, 1.5, 3.0, 1.0]), (25, 22, 11))
    prediction = Predictor(bundle_of(), "cpu").predict(scan)
    found = prediction.labelmap.array
    assert found.shape == (25, 22, 11)
    expected = np.zeros(found.shape, dtype=bool)
    expected[4:10, 5:11, 2:6] = True
    assert 2 * (found.astype(bool) & expected).sum() / (found.sum() + expected.sum()) > 0.75


def test_a_refused_scan_gives_an_empty_map_and_the_reason() -> None:
    scan = scan_of(np.diag([2.0, 2.0, 4.0, 1.0]), (16, 16, 8))
    mask = replace(scan, volume=Volume((scan.volume.array > 0).astype(np.float32), scan.volume.geometry))
    prediction = Predictor(bundle_of(), "cpu").predict(mask)
    assert prediction.outcome.status is Status.REFUSED
    assert "label map" in prediction.outcome.reason
    assert not prediction.labelmap.array.any()
    assert prediction.confidence is None


def test_read_only_arrays_are_predicted_too() -> None:
    predictor = Predictor(bundle_of(), "cpu")
    array = np.zeros((1, 8, 8, 4), dtype=np.float32)
    array.setflags(write=False)
    assert predictor.predict_array(array).shape == (2, 8, 8, 4)
