"""Dense conditional random field after the network (Krähenbühl & Koltun, NIPS 2011, arXiv:1210.5644).

Every voxel is tied to every other one: near ones, and near ones that look alike, had better agree.
As DeepLab v1 and v2 used it in pictures; here in 2D and 3D with distances in mm. Off by default: for
3D the published evidence is that it seldom helps, and a network that sees enough has little to gain.
Needs pydensecrf2: `pip install 'medseg[crf]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import MissingDependencyError, PlanError
from medseg.core.plan import CrfSpec, Plan
from medseg.metrics.confusion import confusion

Floats = NDArray[np.float32]

_LEAST = 1e-5  # of a probability, whose logarithm is taken
# Peak bytes of a voxel: of the two lattices, per dimension of their features and one more, and per label
# (energies, marginals, messages). Measured at 64^3: 261 with 2 labels and 394 with 6, one channel.
_LATTICE_BYTES, _LABEL_BYTES = 60, 40
# What fitting tries: weights of nearness and of likeness; reach of likeness in finest voxels; contrast.
_WEIGHTS = ((1.0, 2.0), (3.0, 4.0))
_REACHES = (5.0, 20.0)
_CONTRASTS = (0.1, 0.4)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A case to fit on: probabilities [L, I, J, K], image [C, I, J, K] as prepared, and its labels [I, J, K]."""

    probabilities: Floats
    image: Floats
    label: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Fit:
    """The field that did best, and the mean Dice over the examples without and with it."""

    spec: CrfSpec
    before: float
    after: float


def check(plan: Plan) -> None:
    """Raise PlanError where the plan's field cannot work, MissingDependencyError where its package is missing."""
    spec = plan.crf
    if not spec.iterations:
        return
    if spec.iterations < 0 or min(spec.smoothness, spec.appearance) < 0:
        raise PlanError("crf: iterations, smoothness and appearance must not be negative")
    if min(spec.smoothness_mm, spec.appearance_mm, spec.contrast) <= 0:
        raise PlanError("crf: smoothness_mm, appearance_mm and contrast must be positive")
    if plan.instances is not None:
        raise PlanError("crf: a task with instances tells its objects apart in another way; leave crf.iterations at 0")
    if find_spec("pydensecrf") is None:
        raise MissingDependencyError("crf.iterations: the dense CRF needs pydensecrf2: pip install 'medseg[crf]'")


def refine(probabilities: Floats, image: Floats, plan: Plan) -> Floats:
    """Probabilities [L, I, J, K] after the field of `plan.crf`, given the prepared image [C, I, J, K].

    2D plans go slice by slice over K. Raises as `check` does.
    """
    check(plan)
    if not plan.crf.iterations:
        return probabilities
    spacing = plan.spacing[: plan.ndim]
    if plan.ndim == 3:
        return _refined(probabilities, image, plan.crf, spacing)
    slices = [_refined(probabilities[..., k], image[..., k], plan.crf, spacing) for k in range(image.shape[3])]
    return np.stack(slices, axis=3)


def fitted(examples: Sequence[Example], plan: Plan) -> Fit:
    """The best of a small grid of fields around `plan.crf`; one without iterations where none helps.

    Dice is the mean over labels and cases, as far as it is defined; voxels to ignore are left out.
    """
    before = _score([one.probabilities for one in examples], examples)
    finest = min(plan.spacing[: plan.ndim])
    best = Fit(replace(plan.crf, iterations=0), before, before)
    tried = -1.0
    for (smoothness, appearance), reach, contrast in product(_WEIGHTS, _REACHES, _CONTRASTS):
        spec = replace(
            plan.crf,
            smoothness=smoothness,
            appearance=appearance,
            smoothness_mm=round(finest, 4),
            appearance_mm=round(reach * finest, 4),
            contrast=contrast,
        )
        wanted = replace(plan, crf=spec)
        after = _score([refine(one.probabilities, one.image, wanted) for one in examples], examples)
        tried = max(tried, after)
        if after > best.after:
            best = Fit(spec, before, after)
    return best if best.spec.iterations else replace(best, after=tried)


def peak_bytes(shape: Sequence[int], labels: int, plan: Plan) -> int:
    """Bytes that refining a prepared image of this shape takes, the probabilities of the whole volume included."""
    dimensions = plan.ndim + plan.network.in_channels
    at_a_time = prod(shape[: plan.ndim])
    return 2 * 4 * labels * prod(shape) + at_a_time * (_LATTICE_BYTES * (dimensions + 1) + _LABEL_BYTES * labels)


def _refined(probabilities: Floats, image: Floats, spec: CrfSpec, spacing: Sequence[float]) -> Floats:
    """The field over [L, *spatial], with one spacing (mm) per axis."""
    from pydensecrf.densecrf import DenseCRF
    from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian

    labels, shape = len(probabilities), probabilities.shape[1:]
    field = DenseCRF(prod(shape), labels)
    energy = -np.log(np.clip(probabilities, _LEAST, 1.0)).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(energy, dtype=np.float32))
    # A feature's difference of 1 is one standard deviation of the tie.
    near = [spec.smoothness_mm / step for step in spacing]
    far = [spec.appearance_mm / step for step in spacing]
    contrasts = [spec.contrast] * len(image)
    if spec.smoothness:
        field.addPairwiseEnergy(create_pairwise_gaussian(near, shape), compat=spec.smoothness)
    if spec.appearance:
        alike = create_pairwise_bilateral(far, contrasts, image, chdim=0)
        field.addPairwiseEnergy(np.ascontiguousarray(alike), compat=spec.appearance)
    marginals: Floats = np.array(field.inference(spec.iterations), dtype=np.float32).reshape(labels, *shape)
    return marginals


def _score(maps: Sequence[Floats], examples: Sequence[Example]) -> float:
    """Mean Dice over the labels and cases in which it is defined."""
    dice: list[float] = []
    for found, example in zip(maps, examples, strict=True):
        winners = found.argmax(axis=0).astype(np.uint8)
        counts = confusion(winners, example.label, range(1, len(found))).counts.values()
        dice += [2 * c.tp / (c.predicted + c.reference) for c in counts if c.predicted + c.reference]
    return float(np.mean(dice)) if dice else 0.0
