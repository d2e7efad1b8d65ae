"""What a network may cost: the machine's budget, and how much of a night the user gives it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from medseg.core.errors import UsageError

Preset = Literal["fast", "balanced", "best"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
# Seconds of training up to which the smaller network is the better one: many steps beat many features.
_ENOUGH = {"cpu": (3600.0, 6 * 3600.0), "gpu": (600.0, 2 * 3600.0)}


@dataclass(frozen=True, slots=True)
class Machine:
    """What the network may cost.

    patch_voxels: of one sample; volume_voxels: of the median case at the planned spacing;
    features: of the first stage and of the widest; batch: samples a step; preset: how long it may
    learn, from which residual encoders, deep supervision and test-time flips follow.
    """

    name: Literal["cpu", "gpu"]
    patch_voxels: int
    volume_voxels: int
    features: tuple[int, int]
    batch: int
    preset: Preset = "fast"

    @property
    def residual(self) -> bool:
        """Whether the encoder is residual: better and a third slower, so for long trainings."""
        return self.preset == "best"

    @property
    def deep_supervision(self) -> bool:
        """Whether coarser outputs are trained too."""
        return self.preset != "fast"

    @property
    def flips(self) -> bool:
        """Whether prediction averages over mirrored copies, where training saw them mirrored."""
        return self.preset == "best"


def machine(device: Literal["cpu", "cuda"], ndim: int, preset: Preset = "fast") -> Machine:
    """The budget of a laptop's processor or of one GPU, for 2D or 3D networks.

    fast has 16 features (GPU: 32) in the first stage, balanced half as many again, best twice as many.
    Raises UsageError for a preset that does not exist.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    if device == "cpu":
        budget = Machine("cpu", 2**17, 2**20, (16, 192), 2)
        budget = budget if ndim == 3 else Machine("cpu", 2**16, 2**22, (16, 256), 4)
    else:
        budget = Machine("gpu", 2**21, 2**26, (32, 320), 2)
        budget = budget if ndim == 3 else Machine("gpu", 2**18, 2**24, (32, 512), 12)
    first, widest = budget.features
    halves = {"fast": 2, "balanced": 3, "best": 4}[preset]
    return replace(budget, features=(first * halves // 2, widest * halves // 2), preset=preset)


def preset_for(device: Literal["cpu", "cuda"], seconds: float | None) -> Preset:
    """The preset that suits a training of so many seconds; fast where no time budget says otherwise."""
    short, long = _ENOUGH["gpu" if device == "cuda" else "cpu"]
    if seconds is None or seconds <= short:
        return "fast"
    return "balanced" if seconds <= long else "best"
