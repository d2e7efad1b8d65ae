"""Fitting how a trained model tells objects apart, on cases that its report does not score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.bundle import Bundle
from medseg.core.events import Listener, Message
from medseg.data.cache import PreparedCase
from medseg.workflows.prepare import Preparation

if TYPE_CHECKING:
    from medseg.inference import Predictor
    from medseg.inference.instances import Example

MOST_CASES = 32
_MOST_VOXELS = 2**18  # of a case, its middle: fitting takes seconds
SECONDS = 10.0  # that it takes at most, measured on two cores


def fit_instances(preparation: Preparation, bundle: Bundle, device: str, listener: Listener) -> Bundle:
    """The bundle with `plan.instances` fitted (not saved yet); the same one for tasks without instances.

    On validation cases where others are there to test on, else on training cases: never on what the
    report scores. Settings that the user gave stay as they are.
    """
    start = bundle.plan.instances
    if start is None or any(key.startswith("instances.") for key in bundle.plan.reasons):
        return bundle
    from medseg.inference import Predictor
    from medseg.inference.instances import fitted

    chosen, kind = fitting_cases(preparation, MOST_CASES)
    predictor = Predictor(bundle, device)
    # Neighbours in the list are often alike, and settings are searched on the first ones only.
    chosen = [case for first in range(4) for case in chosen[first::4]]
    spec = fitted([_example(predictor, case) for case in chosen], start)
    spec = replace(spec, smoothing=round(spec.smoothing, 4), smallest=round(spec.smallest, 4), sure=round(spec.sure, 4))
    reason = f"fitted on {len(chosen)} {kind} cases"
    listener(
        Message(
            f"objects are told apart by seeds above {spec.seed:g}, smoothed by {spec.smoothing:g}, "
            f"of a certainty from {spec.certain:g}, {spec.sure:g} on average, and a size from {spec.smallest:g} "
            f"({reason})"
        )
    )
    plan = replace(bundle.plan, instances=spec, reasons={**bundle.plan.reasons, "instances": reason})
    return replace(bundle, plan=plan)


def fitting_cases(preparation: Preparation, most: int) -> tuple[list[PreparedCase], str]:
    """At most so many cases that no report scores, to fit what comes after the network on, and which kind they are.

    Validation cases where others are there to test on, else training cases.
    """
    split = preparation.split
    names, kind = (split.validation, "validation") if split.test and split.validation else (split.train, "training")
    return [preparation.prepared[name] for name in spread(names, most)], kind


def spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many names, spread over the list, as neighbours are often alike."""
    count = min(most, len(names))
    return [names[place * len(names) // count] for place in range(count)]


def cut_to(shape: Sequence[int], most: int) -> list[int]:
    """The sides of a box of at most so many voxels in a volume of this shape: the longest ones are cut."""
    sizes = list(shape)
    while np.prod(sizes) > most:
        longest = int(np.argmax(sizes))
        sizes[longest] -= max(1, sizes[longest] // 16)
    return sizes


def _example(predictor: Predictor, case: PreparedCase) -> Example:
    """A case as the network sees it, the middle of a large one."""
    from medseg.inference.instances import Example

    if case.objects is None:
        raise ValueError(f"{case.id} was prepared without objects")
    box = _middle(case.label.shape)
    found = predictor.predict_array(np.ascontiguousarray(case.image[:, *box])).numpy()
    ids = np.asarray(case.objects.ids[box])
    return Example(found[1] > found[0], found[2], found[1], ids, case.trace.prepared.spacing)


def _middle(shape: Sequence[int]) -> tuple[slice, ...]:
    """A box of at most _MOST_VOXELS voxels in the middle."""
    sizes = cut_to(shape, _MOST_VOXELS)
    return tuple(slice((n - size) // 2, (n - size) // 2 + size) for n, size in zip(shape, sizes, strict=True))
