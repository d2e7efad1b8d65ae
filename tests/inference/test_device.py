"""Devices by name and the precision they compute in."""

from __future__ import annotations

import pytest
import torch

from medseg.core.errors import UsageError
from medseg.core.plan import NetworkSpec, Schedule
from medseg.inference import precision, resolve_device
from medseg.nets.bfloat16 import trains_soundly


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="sees 2 CUDA GPUs"):
        resolve_device("cuda:2")


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="no CUDA GPU here; use --device cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="none of auto, cpu, cuda"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ],
    ids=["avx512_bf16", "amx", "neither"],
)
def test_bfloat16_only_where_the_processor_has_it(
    able: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert precision(Schedule(), torch.device("cpu")) == expected


def test_the_plan_may_insist() -> None:
    cpu = torch.device("cpu")
    assert precision(Schedule(precision="float32"), cpu) == torch.float32
    assert precision(Schedule(precision="bfloat16"), cpu) == torch.bfloat16


def test_what_bfloat16_cannot_train_is_trained_in_float32() -> None:
    unit, half = (1, 1, 1), (2, 2, 2)
    spec = NetworkSpec("unet", 3, 1, 2, (4, 8), (unit, half), ((3, 3, 3), (3, 3, 3)))
    assert trains_soundly(spec, (8, 8, 8))
    # A map of two voxels under a kernel of three: oneDNN writes beside its memory there.
    assert not trains_soundly(spec, (4, 8, 8))
    assert trains_soundly(spec, (8, 8, 4))
