"""Where to compute, and in which precision."""

from __future__ import annotations

import torch

from medseg.core.errors import UsageError
from medseg.core.plan import Plan, Schedule


def resolve_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.

    Raises UsageError where there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":"):
        raise UsageError(f"device {name!r} is none of auto, cpu, cuda, cuda:0, …")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        there = f"torch sees {count} CUDA GPUs" if count else "torch sees no CUDA GPU here"
        raise UsageError(f"device {name!r}: {there}; use --device cpu or auto")
    return torch.device(name)


def precision(plan: Plan | Schedule, device: torch.device) -> torch.dtype:
    """The type in which convolutions run: bfloat16 where the device computes in it, else float32.

    `schedule.precision` overrides that. Emulated bfloat16 would be slower than float32.
    """
    schedule = plan.schedule if isinstance(plan, Plan) else plan
    if schedule.precision != "auto":
        return torch.float32 if schedule.precision == "float32" else torch.bfloat16
    native = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else _processor_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def training_precision(plan: Plan, device: torch.device) -> torch.dtype:
    """`precision`, but float32 where a processor's bfloat16 cannot be trained with (`medseg.nets.bfloat16`)."""
    kind = precision(plan, device)
    if kind == torch.float32 or device.type != "cpu" or plan.schedule.precision != "auto":
        return kind
    from medseg.nets.bfloat16 import trains_soundly

    return kind if trains_soundly(plan.network, plan.patch[: plan.ndim]) else torch.float32


def _processor_has_bfloat16() -> bool:
    """Whether the processor has AVX-512 BF16 or AMX, and torch the library that uses them (oneDNN)."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch leaves it without types
        return False
    asked = getattr(torch.cpu, "get_capabilities", None)
    if asked is not None:
        found = asked()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(older is not None and older())
