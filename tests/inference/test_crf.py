"""The dense CRF: what it does to noisy answers, in pictures and volumes, and when it says no."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from medseg.bundle import Bundle
from medseg.core.case import Scan, Source, Status
from medseg.core.errors import MissingDependencyError, PlanError
from medseg.core.geometry import Geometry
from medseg.core.plan import (
    ChannelStats,
    CrfSpec,
    Fingerprint,
    InstanceSpec,
    NetworkSpec,
    Normalization,
    Plan,
    Schedule,
    plan_from_plain,
    to_plain,
)
from medseg.core.task import parse_task
from medseg.core.volume import Volume
from medseg.inference import Predictor, crf
from medseg.inference.memory import LOADED_BYTES, predicted_peak
from medseg.nets import build

needs_crf = pytest.mark.skipif(crf.find_spec("pydensecrf") is None, reason="pydensecrf2 is not installed")
ON = CrfSpec(iterations=5, appearance_mm=5.0, contrast=0.3)


def plan_of(ndim: Literal[2, 3], spec: CrfSpec = ON, spacing: tuple[float, float, float] = (1, 1, 1)) -> Plan:
    network = NetworkSpec(
        "unet", ndim, 1, 2, (1, 1), ((1,) * ndim, (2,) * ndim), ((1,) * ndim,) * 2, norm="none"
    )  # fmt: skip
    patch = (8, 8, 4) if ndim == 3 else (8, 8, 1)
    schedule = Schedule(precision="float32")
    return Plan("t", ndim, spacing, (Normalization("zscore"),), patch, 1, network, schedule=schedule, crf=spec)


def noisy(shape: tuple[int, int, int], seed: int = 0) -> tuple[Any, Any, Any]:
    """Probabilities in which one voxel in five is wrong, the image, and the truth: a box."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.uint8)
    truth[tuple(slice(n // 4, n - n // 4) if n > 1 else slice(None) for n in shape)] = 1
    image = (truth + rng.normal(0, 0.05, shape)).astype(np.float32)[None]
    found = np.where(rng.random(shape) < 0.2, 1 - truth, truth)
    foreground = np.where(found == 1, 0.8, 0.2).astype(np.float32)
    return np.stack([1 - foreground, foreground]), image, truth


def dice(found: Any, truth: Any) -> float:
    return float(2 * (found * truth).sum() / (found.sum() + truth.sum()))


@needs_crf
@pytest.mark.parametrize(("ndim", "shape"), [(2, (24, 20, 1)), (2, (16, 16, 3)), (3, (14, 16, 12))])
def test_wrong_voxels_are_put_right_in_pictures_slices_and_volumes(ndim: Literal[2, 3], shape: Any) -> None:
    probabilities, image, truth = noisy(shape)
    refined = crf.refine(probabilities, image, plan_of(ndim))
    assert refined.shape == probabilities.shape and refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-4)
    assert dice(probabilities.argmax(0), truth) < 0.85
    assert dice(refined.argmax(0), truth) > 0.97


@needs_crf
def test_slices_of_a_2d_plan_do_not_see_each_other() -> None:
    probabilities, image, _ = noisy((16, 16, 3))
    alone = crf.refine(probabilities[..., 1:2], image[..., 1:2], plan_of(2))
    np.testing.assert_allclose(crf.refine(probabilities, image, plan_of(2))[..., 1:2], alone, atol=1e-6)


@needs_crf
def test_distances_are_in_mm() -> None:
    """Twice the spacing and twice the reach are the same field; another reach is another one."""
    probabilities, image, _ = noisy((10, 12, 8))
    twice = replace(ON, smoothness_mm=2 * ON.smoothness_mm, appearance_mm=2 * ON.appearance_mm)
    fine, coarse = plan_of(3), plan_of(3, twice, (2, 2, 2))
    expected = crf.refine(probabilities, image, fine)
    np.testing.assert_allclose(crf.refine(probabilities, image, coarse), expected, atol=1e-5)
    assert np.abs(crf.refine(probabilities, image, plan_of(3, ON, (2, 2, 2))) - expected).max() > 0.01


def test_off_is_the_default_and_changes_nothing() -> None:
    probabilities, image, _ = noisy((6, 6, 6))
    assert CrfSpec().iterations == 0
    assert crf.refine(probabilities, image, plan_of(3, CrfSpec())) is probabilities
    raw = to_plain(plan_of(3))
    del raw["crf"]  # as older plans are
    assert plan_from_plain(raw).crf == CrfSpec()


@needs_crf
def test_fitting_finds_a_field_that_helps_and_tells_the_dice_without_and_with_it() -> None:
    examples = [crf.Example(*noisy((14, 14, 6), seed)) for seed in range(2)]
    found = crf.fitted(examples, plan_of(3, CrfSpec(iterations=3)))
    assert found.spec.iterations == 3 and found.after > found.before + 0.05
    assert found.before == pytest.approx(np.mean([dice(e.probabilities.argmax(0), e.label) for e in examples]))


@needs_crf
def test_fitting_switches_a_field_off_that_helps_nowhere() -> None:
    """Single bright voxels in an image that does not show them: every field takes them away."""
    _, image, truth = noisy((12, 12, 6))
    truth = np.zeros_like(truth)
    truth[::4, ::4, ::3] = 1
    right = np.stack([1.0 - 0.6 * truth, 0.6 * truth]).astype(np.float32)
    found = crf.fitted([crf.Example(right, 0 * image, truth)], plan_of(3, CrfSpec(iterations=3)))
    assert found.spec.iterations == 0 and found.before == 1.0 and found.after < 1.0


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'medseg\[crf\]'"):
        crf.check(plan_of(3))
    crf.check(plan_of(3, CrfSpec()))


def test_impossible_fields_are_refused() -> None:
    for wrong in ({"iterations": -1}, {"smoothness": -1.0}, {"contrast": 0.0}, {"appearance_mm": 0.0}):
        with pytest.raises(PlanError, match="crf: "):
            crf.check(plan_of(3, replace(ON, **wrong)))
    with pytest.raises(PlanError, match="instances"):
        crf.check(replace(plan_of(3), instances=InstanceSpec()))


def scan_and_bundle(spec: CrfSpec) -> tuple[Scan, Bundle]:
    """A network that says 'bright' above the mean, with little certainty, and a noisy bright box."""
    plan = plan_of(3, spec)
    state = build(plan.network).state_dict()
    for name, value in state.items():
        value.zero_()
        if name.startswith("encoder.0") and name.endswith("weight"):
            value.fill_(1.0)
        if name.startswith("decoder") and name.endswith("weight"):
            value.view(-1)[0] = 1.0
    state["heads.0.weight"][1] = 1.0
    state["heads.0.bias"][1] = -0.3
    rng = np.random.default_rng(0)
    array = rng.normal(0, 25, (16, 16, 8)).astype(np.float32)
    array[4:12, 4:12, 2:6] += 100
    stats = ChannelStats(-50, 100, 150, 80, 30, -100, 200)
    prints = Fingerprint(4, ((16, 16, 8),), ((1.0, 1.0, 1.0),), (stats,), {"bright": 256.0}, {}, 0.1)
    task = parse_task({"name": "t", "modality": "MR", "labels": {"bright": 1}}, "t")
    source = Source(Path("scan.nii.gz"), (Path("scan.nii.gz"),), "nifti", "scan")
    scan = Scan(source, Volume(array[None], Geometry.from_spacing((1, 1, 1), (16, 16, 8))))
    return scan, Bundle(task, plan, prints, state)


@needs_crf
def test_the_predictor_applies_it_on_the_scans_own_grid() -> None:
    scan, bundle = scan_and_bundle(ON)
    truth = np.zeros((16, 16, 8), np.uint8)
    truth[4:12, 4:12, 2:6] = 1
    plain = Predictor(replace(bundle, plan=replace(bundle.plan, crf=CrfSpec())), "cpu").predict(scan)
    refined = Predictor(bundle, "cpu").predict(scan)
    assert refined.labelmap.geometry.same_grid(scan.volume.geometry)
    assert dice(refined.labelmap.array, truth) > dice(plain.labelmap.array, truth)
    # How sure the network was is not what the field made of it.
    assert refined.evidence is not None and plain.evidence is not None
    assert refined.evidence.overlaps == pytest.approx(plain.evidence.overlaps, abs=1e-3)


def test_what_does_not_fit_into_the_memory_is_refused_with_its_size() -> None:
    scan, bundle = scan_and_bundle(ON)
    large = Geometry.from_spacing((1, 1, 1), (96, 96, 96))
    off = replace(bundle, plan=replace(bundle.plan, crf=CrfSpec()))
    assert predicted_peak(large, bundle) > predicted_peak(large, off) + 300 * large.shape[0] ** 3
    volume = Volume(np.tile(scan.volume.array, (1, 6, 6, 12)), large)
    enough = LOADED_BYTES + predicted_peak(large, off) + 10**7
    outcome = Predictor(bundle, "cpu", memory=enough).predict(replace(scan, volume=volume)).outcome
    assert outcome.status is Status.REFUSED and outcome.code == "too-large" and "GB" in outcome.reason
