"""Memory: it does not grow with the labels, is told beforehand, and a scan that needs too much is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.bundle import Bundle
from medseg.core.case import Scan, Source, Status
from medseg.core.errors import UsageError
from medseg.core.geometry import Geometry
from medseg.core.plan import ChannelStats, Fingerprint, NetworkSpec, Normalization, Plan
from medseg.core.task import parse_task
from medseg.core.volume import Volume
from medseg.inference import Predictor, cells
from medseg.inference.memory import predicted_peak, refusal
from medseg.inference.slabs import HELD_BYTES
from medseg.nets import build

# Prints by how much the peak of `segment` exceeds the size before it, in bytes. The probabilities of
# all labels would take 61 x 128 x 128 x 96 x 4 = 384 MB.
_MEASURE = """
import resource, torch
from medseg.core.geometry import Geometry
from medseg.core.plan import NetworkSpec, Normalization, Plan, WindowSpec
from medseg.inference.slabs import segment
from medseg.inference.window import Engine
from medseg.preprocess import trace_of

labels, shape = int({labels}), (128, 128, 96)
spec = NetworkSpec("unet", 3, 1, labels, (2, 2), ((1,) * 3,) * 2, ((1,) * 3,) * 2)
plan = Plan("t", 3, (1.0, 1.0, 1.0), (Normalization("zscore"),), (32, 32, 32), 1, spec, window=WindowSpec())
image = torch.randn(1, *shape)
head = torch.nn.Conv3d(1, labels, 1)
engine = Engine(torch.nn.Identity(), plan, torch.device("cpu"), None, None, head)
small = trace_of(Geometry.from_spacing((1.0, 1.0, 1.0), (32, 32, 32)), plan)
torch.set_num_threads(1)
segment(engine, image[:, :32, :32, :32].contiguous(), small)  # what the libraries set up stays
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = segment(engine, image, trace_of(Geometry.from_spacing((1.0, 1.0, 1.0), shape), plan))
assert len(set(found.labels.reshape(-1).tolist())) > 1
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_sixty_labels_take_little_more_memory_than_what_is_held_open() -> None:
    command = [sys.executable, "-c", _MEASURE.format(labels=61)]
    beyond = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert beyond < HELD_BYTES + 80e6


def bundle_of(labels: int = 1) -> Bundle:
    task = parse_task(
        {"name": "t", "modality": "CT", "labels": {f"l{n}": n for n in range(1, labels + 1)}}, "t"
    )  # fmt: skip
    stats = ChannelStats(-1000, 0, 1000, 0, 500, -1024, 1500, True)
    fingerprint = Fingerprint(4, ((16, 16, 8),), ((2.0, 2.0, 4.0),), (stats,), {}, {}, 0.1)
    spec = NetworkSpec("unet", 3, 1, labels + 1, (4, 4), ((1,) * 3, (2,) * 3), ((3,) * 3,) * 2)
    normalization = (Normalization("ct", -1000, 1000, 0, 500),)
    plan = Plan("t", 3, (2.0, 2.0, 4.0), normalization, (8, 8, 4), 1, spec)
    return Bundle(task, plan, fingerprint, build(spec).state_dict())


def grid(*shape: int) -> Geometry:
    return Geometry.from_spacing((2.0, 2.0, 4.0), shape)


def scan() -> Scan:
    array = np.random.default_rng(0).normal(0, 300, (1, 16, 16, 8)).astype(np.float32)
    array[0, 0] = -1000
    source = Source(Path("scan.nii.gz"), (Path("scan.nii.gz"),), "nifti", "scan")
    return Scan(source, Volume(array, grid(16, 16, 8)))


def test_a_scan_that_would_take_too_much_is_refused_with_both_sizes() -> None:
    prediction = Predictor(bundle_of(), "cpu", memory=100 * 10**6).predict(scan())
    assert prediction.outcome.status is Status.REFUSED
    assert prediction.outcome.reason == "it would need 0.5 GB of memory, and 0.1 GB are allowed (--memory)"
    assert not prediction.labelmap.array.any()
    assert prediction.labelmap.geometry.same_grid(scan().volume.geometry)


def test_a_scan_that_fits_is_predicted() -> None:
    assert Predictor(bundle_of(), "cpu", memory=4 * 10**9).predict(scan()).outcome.status is not Status.REFUSED
    assert Predictor(bundle_of(), "cpu").predict(scan()).outcome.status is not Status.REFUSED


def test_another_refusal_comes_first() -> None:
    given = scan()
    flat = replace(given, volume=Volume(np.zeros_like(given.volume.array), given.volume.geometry))
    assert "nothing to segment" in Predictor(bundle_of(), "cpu", memory=1).predict(flat).outcome.reason


def test_the_prediction_grows_with_the_scan_and_hardly_with_the_labels() -> None:
    small, large = predicted_peak(grid(256, 256, 100), bundle_of()), predicted_peak(grid(512, 512, 400), bundle_of())
    assert large > 4 * 512 * 512 * 400 > small
    many = predicted_peak(grid(512, 512, 400), bundle_of(100))
    assert large <= many <= large + HELD_BYTES
    assert refusal(grid(512, 512, 400), bundle_of(100), 4 * 10**9) == ""


def test_a_full_disk_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs a device that is always full")
    monkeypatch.setattr(cells, "_scratch", lambda: full.open("r+b", buffering=0))
    monkeypatch.setattr("medseg.inference.slabs.HELD_BYTES", 0)
    with pytest.raises(UsageError, match=r"the disk does not hold the probabilities of 2 labels \(No space left"):
        Predictor(bundle_of(), "cpu").predict(scan())
