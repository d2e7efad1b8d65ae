"""prepare, prepare_labels and restore on grids whose answer is known."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Literal

import numpy as np
import pytest
import torch

from medseg.core.errors import PlanError, UsageError
from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE
from medseg.core.plan import NetworkSpec, Normalization, Plan
from medseg.core.volume import LabelMap, Volume
from medseg.preprocess import Trace, prepare, prepare_labels, restore, trace_of
from medseg.preprocess.resample import Resampling, resample

AS_IT_IS = Normalization("ct", lower=-1e6, upper=1e6)


def make_plan(spacing: tuple[float, float, float], ndim: Literal[2, 3] = 3, channels: int = 1) -> Plan:
    network = NetworkSpec("unet", ndim, channels, 2, (4,), ((1,) * ndim,), ((3,) * ndim,))
    return Plan("t", ndim, spacing, (AS_IT_IS,) * channels, (8, 8, 8 if ndim == 3 else 1), 1, network)


def ball(geometry: Geometry, center: tuple[float, float, float], radius: float) -> np.ndarray:
    grid = geometry.to_world(np.indices(geometry.shape).reshape(3, -1).T)
    inside: np.ndarray = np.linalg.norm(grid - center, axis=1) <= radius
    return inside.reshape(geometry.shape).astype(np.uint8)


def test_a_ball_comes_back_from_a_coarser_grid() -> None:
    affine = np.array([[0, 0, -0.8, 10], [0, 1.1, 0, -20], [1.0, 0, 0, 5], [0, 0, 0, 1]])
    geometry = Geometry(affine, (40, 36, 44))
    center = tuple(geometry.to_world([[20, 18, 22]])[0])
    labels = ball(geometry, center, 12.0)
    plan = make_plan((1.7, 1.6, 1.9))
    prepared = prepare_labels(LabelMap(labels, geometry), plan)
    trace = trace_of(geometry, plan)
    assert trace.prepared.orientation == "RAS"
    np.testing.assert_array_equal(prepared, prepare_labels(LabelMap(labels.astype(np.int32), geometry), plan))
    # In the prepared grid the same ball stands at the same place in the world.
    expected = ball(trace.prepared, center, 12.0)
    assert dice(prepared, expected) > 0.95
    back = restore(np.stack([prepared == 0, prepared == 1]).astype(np.float32), trace)
    assert dice(back, labels) > 0.95


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * ((a == 1) & (b == 1)).sum() / ((a == 1).sum() + (b == 1).sum()))


def test_prepare_gives_a_canonical_contiguous_float32_copy() -> None:
    pixels = np.arange(2 * 4 * 5 * 6, dtype=np.int16).reshape(2, 4, 5, 6)
    geometry = Geometry(np.diag([-1.0, -1.0, 1.0, 1.0]), (4, 5, 6))
    prepared = prepare(Volume(pixels, geometry), make_plan((1.0, 1.0, 1.0), channels=2))
    np.testing.assert_array_equal(prepared.array, pixels[:, ::-1, ::-1])
    assert prepared.array.dtype == np.float32 and prepared.array.flags.c_contiguous
    assert not np.shares_memory(prepared.array, pixels)


def test_shrinking_averages_and_growing_interpolates() -> None:
    stripes = np.tile(np.array([0, 100], dtype=np.float32), 20)[:, None, None]
    shrunk = resample(stripes, (10, 1, 1))
    np.testing.assert_allclose(shrunk[1:-1], 50, atol=1e-4)  # the finest pattern is filtered, not aliased
    ramp = np.arange(10, dtype=np.float32)[:, None, None]
    grown = resample(ramp, (20, 1, 1))[:, 0, 0]
    np.testing.assert_allclose(grown[1:-1], np.arange(20)[1:-1] / 2 - 0.25, atol=1e-5)
    assert grown[0] == 0 and grown[-1] == 9
    assert resample(ramp, (10, 1, 1)) is ramp


def test_slabs_join_without_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).normal(size=(33, 20, 21)).astype(np.float32)
    for target in ((50, 11, 30), (12, 40, 9), (33, 10, 21)):
        whole = resample(array, target)
        with monkeypatch.context() as patched:
            patched.setattr("medseg.preprocess.resample._SLAB_BYTES", 1)
            assert len(list(Resampling.between((33, 20, 21), target).slabs())) == target[0]
            np.testing.assert_allclose(resample(array, target), whole, atol=1e-5)


def test_two_dimensional_plans_leave_the_slices_alone() -> None:
    geometry = Geometry.from_spacing((1.0, 1.0, 5.0), (12, 10, 7))
    plan = make_plan((2.0, 2.0, 1.0), ndim=2)
    prepared = prepare(Volume(np.zeros((1, 12, 10, 7), dtype=np.float32), geometry), plan)
    assert prepared.array.shape == (1, 6, 5, 7)
    picture = Geometry.from_spacing((0.5, 0.5, 1.0), (12, 10, 1))
    assert trace_of(picture, make_plan((1.0, 1.0, 1.0), ndim=2)).prepared.shape == (6, 5, 1)


def test_an_upright_single_slice_is_looked_at_in_its_own_plane() -> None:
    sagittal = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    trace = trace_of(Geometry(sagittal, (12, 10, 1)), make_plan((1.0, 1.0, 1.0), ndim=2))
    assert trace.prepared.shape == (12, 10, 1)
    assert trace_of(Geometry(sagittal, (12, 10, 1)), make_plan((1.0, 1.0, 1.0))).prepared.shape == (3, 12, 10)


def test_tensors_and_arrays_restore_alike() -> None:
    geometry = Geometry(np.array([[0, -1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]]), (7, 8, 9))
    trace = trace_of(geometry, make_plan((1.5, 1.5, 1.5)))
    scores = np.random.default_rng(1).normal(size=(5, *trace.prepared.shape)).astype(np.float32)
    expected = restore(scores, trace)
    np.testing.assert_array_equal(restore(torch.from_numpy(scores), trace), expected)
    half = torch.from_numpy(scores).to(torch.bfloat16)
    np.testing.assert_array_equal(restore(half, trace), restore(half.float(), trace))
    given = scores.copy()
    restore(given, trace_of(trace.prepared, make_plan(trace.prepared.spacing)))
    np.testing.assert_array_equal(given, scores)


def test_restore_takes_the_largest_interpolated_score() -> None:
    geometry = Geometry.from_spacing((1.0, 1.0, 1.0), (9, 8, 7))
    trace = trace_of(geometry, make_plan((2.0, 1.5, 3.0)))
    scores = np.random.default_rng(2).normal(size=(4, *trace.prepared.shape)).astype(np.float32)
    full = np.stack([resample(one, geometry.shape) for one in scores])
    np.testing.assert_array_equal(restore(scores, trace), full.argmax(axis=0))


def test_ignore_alone_stays_ignore() -> None:
    geometry = Geometry.from_spacing((1.0, 1.0, 1.0), (6, 6, 6))
    labels = np.full((6, 6, 6), IGNORE, dtype=np.uint8)
    assert (prepare_labels(LabelMap(labels, geometry), make_plan((2.0, 2.0, 2.0))) == IGNORE).all()


def test_memory_stays_bounded() -> None:
    geometry = Geometry(np.diag([-1.0, -1.0, 1.0, 1.0]), (160, 160, 100))
    volume = Volume(np.zeros((1, 160, 160, 100), dtype=np.float32), geometry)
    plan = make_plan((3.0, 3.0, 3.0))
    trace = trace_of(geometry, plan)
    scores = np.zeros((20, *trace.prepared.shape), dtype=np.float32)
    tracemalloc.start()
    try:
        prepare(volume, plan)
        _, for_prepare = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        restore(scores, trace)
        _, for_restore = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert for_prepare < 2.2 * volume.array.nbytes + 50e6
    assert for_restore < 100e6  # a whole stack of 20 labels would be 200 MB


def test_what_cannot_work_is_refused() -> None:
    geometry = Geometry.from_spacing((1.0, 1.0, 1.0), (4, 4, 4))
    volume = Volume(np.zeros((2, 4, 4, 4), dtype=np.float32), geometry)
    with pytest.raises(PlanError, match="normalises 1 channels, but the scan has 2"):
        prepare(volume, make_plan((1.0, 1.0, 1.0)))
    with pytest.raises(PlanError, match="lower"):
        flat = dataclasses.replace(make_plan((1.0, 1.0, 1.0), channels=2), normalization=(Normalization("ct"),) * 2)
        prepare(volume, flat)
    with pytest.raises(UsageError, match="do not fit"):
        restore(np.zeros((2, 3, 4, 4), dtype=np.float32), trace_of(geometry, make_plan((1.0, 1.0, 1.0))))
    with pytest.raises(UsageError, match=r"0\.\.255"):
        prepare_labels(LabelMap(np.full((4, 4, 4), 300), geometry), make_plan((1.0, 1.0, 1.0)))
    with pytest.raises(UsageError, match="check the scan's spacing"):
        trace_of(Geometry.from_spacing((1e4, 1e4, 1e4), (4, 4, 4)), make_plan((1.0, 1.0, 1.0)))
    with pytest.raises(UsageError, match="damaged"):
        Trace.from_plain({"affine": 3})
