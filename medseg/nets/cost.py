"""What a network costs: parameters, multiply-adds and memory at a patch, found without computing anything.

Networks are built and run on torch's `meta` device, which knows shapes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from medseg.core.plan import NetworkSpec
from medseg.nets import build

_FLOAT = 4  # bytes
_COPIES = 4  # of a parameter while AdamW trains it: itself, its gradient, two moments
_ONCE_FIXED = ("fcn32s", "fcn16s", "fcn8s")  # whose transposed convolutions papers do not count


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network: its place and kind, the shape it gives [C, *spatial], and what it costs."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one sample of a patch.

    parameters: all that is learnt; published: the same as papers count it, without the transposed
    convolutions of FCN on VGG, which were once fixed; multiply_adds: of convolutions and matrix products in one forward
    pass; training_bytes: estimated peak of a training step in float32 with AdamW, as all maps of the
    forward pass are kept for the way back.
    """

    parameters: int
    published: int
    multiply_adds: int
    training_bytes: int
    layers: tuple[Layer, ...]


def cost(spec: NetworkSpec, patch: Sequence[int]) -> Cost:
    """What the network of `spec` costs at a patch (`ndim` voxels) that it can take.

    Raises PlanError where it cannot.
    """
    with torch.device("meta"):
        network = build(spec).eval()
    fixed = nn.modules.conv._ConvTransposeNd if spec.name in _ONCE_FIXED else ()
    left_out = sum(_count(module) for module in network.modules() if isinstance(module, fixed))
    learnt = {name: _count(module) for name, module in network.named_modules()}
    kinds = {name: type(module).__name__ for name, module in network.named_modules()}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(_note(name, shapes))
    counter, maps = FlopCounterMode(display=False), _Maps()
    with torch.inference_mode(), counter, maps:
        network(torch.empty(1, spec.in_channels, *patch, device="meta"))
    root = type(network).__name__
    counted = {str(place): sum(by.values()) // 2 for place, by in counter.get_flop_counts().items()}
    layers = tuple(
        Layer(name, kinds[name], shape, learnt[name], counted.get(f"{root}.{name}", 0))
        for name, shape in shapes.items()
        if kinds[name] != "Identity"
    )
    memory = _FLOAT * (_COPIES * learnt[""] + maps.numbers)
    return Cost(learnt[""], learnt[""] - left_out, counter.get_total_flops() // 2, memory, layers)


class _Maps(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it without types
    """Counts the numbers in all tensors that are made; views and what is changed in place are none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else (out,)
        if all(given.alias_info is None for given in func._schema.returns):
            self.numbers += sum(one.numel() for one in made if isinstance(one, Tensor))
        return out


def _note(name: str, shapes: dict[str, tuple[int, ...]]) -> Any:
    def hook(module: nn.Module, given: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            shapes.setdefault(name, tuple(int(n) for n in out.shape[1:]))  # one pool may serve several stages

    return hook


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
