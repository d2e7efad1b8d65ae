"""Slab by slab: what is asked of the network, and what a GPU without memory does to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.core.geometry import Geometry
from medseg.core.plan import AugmentSpec, NetworkSpec, Normalization, Plan, WindowSpec
from medseg.inference.heads import split_head
from medseg.inference.slabs import segment
from medseg.inference.window import Engine, Network, sliding_window
from medseg.nets import build
from medseg.preprocess import Trace, restore, trace_of

CPU = torch.device("cpu")
PUBLISHED = NetworkSpec("unet2015", 2, 1, 3, (4, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), norm="none")
PLANNED = NetworkSpec("unet", 3, 1, 3, (4, 8), ((1,) * 3, (2,) * 3), ((3,) * 3,) * 2)


def plan_of(spec: NetworkSpec, patch: tuple[int, int, int], window: WindowSpec) -> Plan:
    augment = AugmentSpec(flips=(0, 1))
    return Plan(
        "t", spec.ndim, (1.0, 1.0, 1.5), (Normalization("zscore"),), patch, 1, spec, window=window, augment=augment
    )


def case_of(plan: Plan, shape: tuple[int, int, int]) -> tuple[Tensor, Trace]:
    trace = trace_of(Geometry.from_spacing((0.8, 1.2, 1.0), shape), plan)
    return torch.randn(1, *trace.prepared.shape, generator=torch.Generator().manual_seed(1)), trace


def networks(spec: NetworkSpec) -> tuple[Network, nn.Module, nn.Module]:
    torch.manual_seed(0)
    whole = build(spec).eval()
    torch.manual_seed(0)
    body, head = split_head(build(spec).eval())
    assert head is not None
    return whole, body, head


@pytest.mark.parametrize(
    ("spec", "patch"), [(PLANNED, (8, 8, 8)), (PUBLISHED, (20, 24, 1))], ids=["padded, 3D", "overlap-tile, 2D"]
)
@pytest.mark.parametrize("held", [0, 1 << 26], ids=["from the file", "in memory"])
def test_networks_in_two_parts_with_flips_give_what_they_give_as_one(
    spec: NetworkSpec, patch: tuple[int, int, int], held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.inference.slabs.HELD_BYTES", held)
    monkeypatch.setattr("medseg.inference.slabs._CELL_BYTES", 4000)
    plan = plan_of(spec, patch, WindowSpec(batch=2, flips=True))
    (image, trace), (whole, body, head) = case_of(plan, (23, 14, 9)), networks(spec)
    mirror = (0, 2, 1)
    found = segment(Engine(body, plan, CPU, torch.float32, mirror, head), image, trace)
    expected = restore(sliding_window(whole, image, plan, CPU, torch.float32, mirror), trace)
    assert len(np.unique(expected)) > 1
    assert np.mean(found.labels == expected) >= 0.9999


def test_a_gpu_out_of_memory_halves_the_batch_and_the_labels_stay_the_same() -> None:
    plan = plan_of(PLANNED, (8, 8, 8), WindowSpec(batch=8))
    (image, trace), (_, body, head) = case_of(plan, (20, 20, 20)), networks(PLANNED)
    asked: list[int] = []

    def tight(x: Tensor) -> Tensor:
        asked.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        answer: Tensor = body(x)
        return answer

    found = segment(Engine(tight, plan, CPU, torch.float32, None, head), image, trace)
    roomy = segment(Engine(body, plan, CPU, torch.float32, None, head), image, trace)
    assert asked[:3] == [8, 4, 2] and max(asked[2:]) == 2
    assert np.mean(found.labels == roomy.labels) >= 0.9999
