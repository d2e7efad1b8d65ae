"""Slab by slab must give what the probabilities of the whole volume give, on any grid, however windows overlap."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.core.geometry import Geometry
from medseg.core.plan import AugmentSpec, NetworkSpec, Normalization, Plan, WindowSpec
from medseg.inference import slabs
from medseg.inference.quality import QualityStatistics
from medseg.inference.slabs import segment
from medseg.inference.window import Engine, sliding_window
from medseg.preprocess import restore, trace_of

CPU = torch.device("cpu")
LABELS = 4
Triple = tuple[int, int, int]


def plan_of(ndim: Literal[2, 3], spacing: tuple[float, float, float], patch: Triple, window: WindowSpec) -> Plan:
    ones = ((1,) * ndim,) * 2
    spec = NetworkSpec("unet", ndim, 1, LABELS, (2, 2), ones, ones)
    patch = patch if ndim == 3 else (*patch[:2], 1)
    augment = AugmentSpec(flips=(0, 1))
    return Plan("t", ndim, spacing, (Normalization("zscore"),), patch, 1, spec, window=window, augment=augment)


def network(x: Tensor) -> Tensor:
    """Logits that depend on the neighbours and on the place in the window, so that every window disagrees."""
    ramp = torch.linspace(-1, 1, x.shape[2]).reshape(1, 1, -1, *(1,) * (x.ndim - 3))
    blurred = (x + x.roll(1, 2) + x.roll(1, 3)) / 3
    return torch.cat([x, 2 * blurred, ramp - x, -2 * x.abs() + ramp.flip(2)], dim=1)


@st.composite
def grids(draw: st.DrawFn) -> Geometry:
    """Any axis order and flips, any spacing."""
    order = draw(st.sampled_from(list(permutations(range(3)))))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    affine = np.eye(4)
    affine[:3, :3] = np.diag(draw(st.tuples(*[st.floats(0.5, 2.5)] * 3)))[:, order] * signs
    return Geometry(affine, draw(st.tuples(*[st.integers(1, 14)] * 3)))


windows = st.builds(
    WindowSpec,
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.8]),
    batch=st.integers(1, 4),
    skip_below=st.sampled_from([None, 0.0]),
    flips=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(
    geometry=grids(),
    ndim=st.sampled_from([2, 3]),
    patch=st.tuples(*[st.integers(2, 7)] * 3),
    window=windows,
    held=st.sampled_from([None, 0, 2000]),
)
def test_slabs_give_what_the_whole_volume_gives(
    geometry: Geometry, ndim: Literal[2, 3], patch: Triple, window: WindowSpec, held: int | None
) -> None:
    plan = plan_of(ndim, (1.0, 1.3, 0.9), patch, window)
    trace = trace_of(geometry, plan)
    image = torch.randn(1, *trace.prepared.shape, generator=torch.Generator().manual_seed(0))
    image[:, : image.shape[1] // 2, : image.shape[2] // 2] = -1.0
    mirror = (0, 2, 1, 3)
    with pytest.MonkeyPatch.context() as patched:
        if held is not None:
            patched.setattr(slabs, "HELD_BYTES", held)
            patched.setattr(slabs, "_CELL_BYTES", 400)
        found = segment(Engine(network, plan, CPU, torch.float32, mirror), image, trace)
    whole = sliding_window(network, image, plan, CPU, torch.float32, mirror)
    expected = restore(whole, trace)
    assert found.labels.shape == geometry.shape and found.labels.dtype == np.uint8
    assert_same_but_for_ties(found.labels, expected, whole, lambda scores: restore(scores, trace))
    statistics = QualityStatistics()
    statistics.add(whole)
    # Of its figures the one that does not depend on which of two level labels wins.
    assert found.certainty.confidence == pytest.approx(statistics.finish().confidence, abs=1e-4)


def assert_same_but_for_ties(
    found: np.ndarray, expected: np.ndarray, whole: Tensor, restored: Callable[[Tensor], np.ndarray]
) -> None:
    """Where the two differ, the winner must hang on less than 1e-4: a nudge to each label tells."""
    if np.array_equal(found, expected):
        return
    nudged = [restored(whole + 1e-4 * torch.eye(LABELS)[n].reshape(-1, 1, 1, 1)) for n in range(LABELS)]
    differing = found != expected
    assert all((np.stack(nudged)[:, differing] == found[differing]).any(axis=0))
