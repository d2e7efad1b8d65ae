"""The state of a run between two steps, in one safetensors file that a kill cannot tear."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medseg.core.errors import UsageError
from medseg.core.files import atomic


@dataclass(frozen=True, slots=True)
class Position:
    """Where the run stands: steps done, seconds used, progress reached."""

    step: int
    seconds: float
    progress: float


def save_checkpoint(
    path: Path, network: torch.nn.Module, average: dict[str, torch.Tensor] | None,
    optimizer: torch.optim.Optimizer, position: Position,
) -> None:  # fmt: skip
    """Write weights, their moving average, optimiser state and position atomically."""
    from safetensors.torch import save_file

    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in (average or {}).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items() if value is not None}
    header = {"position": json.dumps([position.step, position.seconds, position.progress])}
    with atomic(path) as temporary:
        save_file({name: _portable(value) for name, value in tensors.items()}, temporary, metadata=header)


def load_checkpoint(
    path: Path, network: torch.nn.Module, average: dict[str, torch.Tensor] | None, optimizer: torch.optim.Optimizer
) -> Position:
    """Put a checkpoint's state into network, average and optimiser; returns where the run stood.

    Raises UsageError where the file is no checkpoint of this network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            step, seconds, progress = json.loads((file.metadata() or {})["position"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
        network.load_state_dict(_below(tensors, "network."))
        for name, value in _below(tensors, "average.").items():
            if average is not None:
                average[name].copy_(value)
        _restore_optimizer(optimizer, _below(tensors, "optimizer."))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path}: is no checkpoint of this run; start it anew without --resume") from error
    return Position(int(step), float(seconds), float(progress))


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # Moments must lie in memory as their parameter does (channels last): fused optimisers
            # walk both side by side.
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _portable(value: Any) -> torch.Tensor:
    # A plain, contiguous copy: safetensors refuses tensors that share memory or have odd strides.
    return torch.as_tensor(value).detach().cpu().contiguous().clone()
