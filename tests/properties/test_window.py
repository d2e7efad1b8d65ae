"""Sliding windows on grids of any size: what is covered, and what a constant or local network must give."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.core.plan import NetworkSpec, Normalization, Plan, WindowSpec
from medseg.inference.window import profile, sliding_window, starts

CPU = torch.device("cpu")
Sizes = tuple[int, int, int]


def plan_of(patch: Sizes, window: WindowSpec, labels: int = 3) -> Plan:
    spec = NetworkSpec("unet", 3, 1, labels, (2, 2), ((1, 1, 1), (1, 1, 1)), ((1, 1, 1), (1, 1, 1)))
    return Plan("t", 3, (1.0, 1.0, 1.0), (Normalization("zscore"),), patch, 1, spec, window=window)


@given(size=st.integers(1, 200), window=st.integers(1, 64), overlap=st.floats(0, 0.9))
def test_windows_cover_the_axis_evenly(size: int, window: int, overlap: float) -> None:
    places = starts(size, window, overlap)
    if size <= window:
        assert len(places) == 1
        assert places[0] <= 0 <= size <= places[0] + window
        return
    assert places[0] == 0
    assert places[-1] + window == size
    steps = [b - a for a, b in pairwise(places)]
    assert max(steps) <= max(1, window * (1 - overlap) + 1)
    assert max(steps) <= window  # no gap
    assert max(steps) - min(steps) <= 1


@given(window=st.integers(1, 200), sigma=st.floats(0, 1))
def test_weights_are_symmetric_positive_and_peak_in_the_middle(window: int, sigma: float) -> None:
    weights = profile(window, sigma)
    assert weights.min() > 0
    assert torch.equal(weights, weights.flip(0))
    assert weights.argmax() in (window // 2, (window - 1) // 2) or sigma == 0 or weights.max() == weights.min()


sizes = st.tuples(*[st.integers(1, 12)] * 3)
patches = st.tuples(*[st.integers(1, 8)] * 3)


def voxelwise(classes: int) -> Callable[[Tensor], Tensor]:
    """A network without context: logits are multiples of the voxel itself."""
    factors = torch.arange(classes, dtype=torch.float32).reshape(1, -1, 1, 1, 1)
    return lambda x: x[:, :1] * factors


@settings(max_examples=40, deadline=None)
@given(shape=sizes, patch=patches, overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8]), batch=st.integers(1, 4))
def test_a_network_without_context_does_not_notice_the_windows(
    shape: Sizes, patch: Sizes, overlap: float, batch: int
) -> None:
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    result = sliding_window(voxelwise(3), image, plan_of(patch, WindowSpec(overlap=overlap, batch=batch)), CPU)
    direct = torch.softmax(voxelwise(3)(image[None]), dim=1)[0]
    assert result.shape == (3, *shape)
    torch.testing.assert_close(result, direct, rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(shape=sizes, patch=patches)
def test_skipped_windows_are_background_and_the_rest_stays_a_probability(shape: Sizes, patch: Sizes) -> None:
    image = torch.zeros(1, *shape)
    image[..., shape[2] // 2 :] = 1.0
    plan = plan_of(patch, WindowSpec(skip_below=0.5))
    result = sliding_window(lambda x: torch.cat([-x[:, :1], x[:, :1], x[:, :1]], 1), image, plan, CPU)
    torch.testing.assert_close(result.sum(0), torch.ones(shape))
    nothing = sliding_window(lambda x: x[:, :1].expand(-1, 3, -1, -1, -1) / 0, image * 0, plan, CPU)
    torch.testing.assert_close(nothing[0], torch.ones(shape))
