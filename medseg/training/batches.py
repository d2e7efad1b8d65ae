"""The batch of step number n: a pure function of cases, plan, seed and n, so that any run replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medseg.augment import (
    Second,
    SpatialContext,
    apply_intensity,
    apply_mixing,
    draw_intensity,
    draw_mixing,
    draw_spatial,
    sample_patch,
)
from medseg.core.geometry import Shape
from medseg.core.plan import Plan
from medseg.data.cache import PreparedCase
from medseg.data.sampler import draw_case, draw_center
from medseg.nets import margin

# Second words of the seeds, so that order, content and mixing of batches are drawn independently.
_ORDER, _CONTENT, _BALANCE, _MIXING = 1, 2, 3, 4
_GPU_SHARE = 0.4  # of a GPU's free memory for the cases; the rest is for the network and its activations


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one step learns from: images [B, C, *spatial] float32, targets [B, *spatial] long.

    weights [B, *spatial] float32: how much each voxel counts, None where all count alike; second:
    what the images show as well, after MixUp.
    """

    images: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor | None = None
    second: Second | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Draws training batches from prepared cases on a device.

    images [C, I, J, K] float32 (with weights as one more channel, where cases have them) and labels
    [I, J, K] uint8 stay where `home_of` put them; device: where training happens; answered: the part
    of a patch that the network answers for (all of it, but for networks of unpadded convolutions),
    which is what lies inside the scan.
    """

    plan: Plan
    cases: Sequence[PreparedCase]
    images: Sequence[torch.Tensor]
    labels: Sequence[torch.Tensor]
    context: SpatialContext
    device: torch.device
    answered: Shape

    def __call__(self, step: int, part: int = 0) -> Batch:
        """Batch number `part` of those (`schedule.accumulate`) whose gradients make up step number `step`."""
        seed, plan = self.plan.schedule.seed, self.plan
        number = step * plan.schedule.accumulate + part
        rng = np.random.default_rng([seed, _CONTENT, number])
        images, targets = [], []
        for place in range(number * plan.batch, (number + 1) * plan.batch):
            index = self._case_at(place)
            where = plan.schedule.foreground, rng, plan.schedule.boundary
            center = draw_center(self.cases[index], self.answered, *where)
            draw = draw_spatial(plan.augment, plan.ndim, plan.spacing, plan.patch, rng)
            image, target = sample_patch(self.images[index], self.labels[index], center, plan.patch, draw, self.context)
            images.append(image)
            targets.append(target)
        batch, target = torch.stack(images).to(self.device), torch.stack(targets).to(self.device)
        if plan.ndim == 2:
            batch, target = batch[..., 0], target[..., 0]
        batch, weights = self._split(batch)
        mixing = draw_mixing(plan.augment, len(batch), np.random.default_rng([seed, _MIXING, number]))
        batch, target, weights, second = apply_mixing(batch, target, weights, mixing)
        intensities = draw_intensity(plan.augment, len(batch), batch.shape[1], rng)
        return Batch(apply_intensity(batch, intensities), target, weights, second)

    def _split(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Images [B, C, *spatial] and the weights [B, *spatial] that came along as one more channel, if they did."""
        channels = self.plan.network.in_channels
        if batch.shape[1] == channels:
            return batch, None
        return batch[:, :channels].contiguous(), batch[:, channels].clamp_min(0.0)  # cubic splines overshoot

    def _case_at(self, place: int) -> int:
        """Cases come in shuffled rounds, each once a round; a share of the places goes to those with a rare label."""
        seed, balance = self.plan.schedule.seed, self.plan.schedule.balance
        if balance > 0:
            rng = np.random.default_rng([seed, _BALANCE, place])
            if rng.random() < balance:
                return draw_case(self.cases, rng)
        round_number, position = divmod(place, len(self.cases))
        order = np.random.default_rng([seed, _ORDER, round_number]).permutation(len(self.cases))
        return int(order[position])


def make_batches(plan: Plan, cases: Sequence[PreparedCase], mirror: Sequence[int], device: torch.device) -> Batches:
    """Batches for training on `device`, cases being kept where `home_of` says."""
    home = home_of(cases, device)
    images = [torch.from_numpy(case.sampled).to(home) for case in cases]
    labels = [torch.from_numpy(case.target).to(home) for case in cases]
    table = torch.tensor(list(mirror), dtype=torch.uint8, device=home)
    context = SpatialContext(plan.spacing, table, plan.augment.lateral)
    i, j, k = (n - 2 * m for n, m in zip(plan.patch, (*margin(plan.network), 0), strict=False))
    return Batches(plan, cases, images, labels, context, device, (i, j, k))


def home_of(cases: Sequence[PreparedCase], device: torch.device) -> torch.device:
    """Where the cases are kept: on a GPU whose memory they leave mostly free, else memory-mapped as they are.

    From there patches are cut on the processor, and only they travel.
    """
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    needed = sum(case.sampled.nbytes + case.target.nbytes for case in cases)
    return device if needed <= _GPU_SHARE * free else torch.device("cpu")
