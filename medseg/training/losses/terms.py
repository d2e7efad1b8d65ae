"""The terms that losses are sums of, by name. Each is one file here with `make(schedule) -> Term`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from medseg.core.plan import Schedule
from medseg.training.losses.voxels import Voxels

# Scalar float32 of a batch; the smaller, the better, and of no gradient where a voxel does not count.
Term = Callable[[Voxels], torch.Tensor]

TERMS: dict[str, str] = {
    "cross_entropy": "medseg.training.losses.cross_entropy",
    "focal": "medseg.training.losses.focal",
    "dice": "medseg.training.losses.dice",
    "tversky": "medseg.training.losses.tversky",
    "generalized_dice": "medseg.training.losses.generalized_dice",
    "boundary": "medseg.training.losses.boundary",
    "cldice": "medseg.training.losses.cldice",
    "regions": "medseg.training.losses.regions",
}


def make_term(name: str, schedule: Schedule) -> Term:
    """The term of this name (a key of TERMS), as the schedule sets it."""
    term: Term = import_module(TERMS[name]).make(schedule)
    return term
