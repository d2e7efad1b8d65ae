"""Fitting the dense CRF after a trained network, where the plan asks for one, on cases that no report scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.bundle import Bundle
from medseg.core.events import Listener, Message
from medseg.workflows.prepare import Preparation
from medseg.workflows.separating import cut_to, fitting_cases

if TYPE_CHECKING:
    from medseg.data.cache import PreparedCase
    from medseg.inference import Predictor
    from medseg.inference.crf import Example

_MOST_CASES = 4
_MOST_VOXELS = 2**16  # of a case, its middle: eight fields over four of them take about ten seconds


def fit_crf(preparation: Preparation, bundle: Bundle, device: str, listener: Listener) -> Bundle:
    """The bundle with `plan.crf` fitted (not saved yet); the same one where the plan asks for none.

    On validation cases where others are there to test on, else on training cases. A field that helps
    nowhere is switched off; `reasons` tell the Dice without and with it. What the user set stays.
    """
    plan = bundle.plan
    asked = [key for key in plan.reasons if key.startswith("crf.") and key != "crf.iterations"]
    if not plan.crf.iterations or asked:
        return bundle
    from medseg.inference import Predictor
    from medseg.inference.crf import fitted

    chosen, kind = fitting_cases(preparation, _MOST_CASES)
    plain = replace(bundle, plan=replace(plan, crf=replace(plan.crf, iterations=0)))
    predictor = Predictor(plain, device)
    examples = [_example(predictor, case) for case in chosen]
    found = fitted(examples, plan)
    reason = f"mean Dice on {len(examples)} {kind} cases {found.before:.3f} without the dense CRF, "
    if found.spec.iterations:
        reason += f"{found.after:.3f} with it"
    else:
        reason += f"{found.after:.3f} with it at best, so it is off"
    listener(Message(reason))
    fitted_plan = replace(plan, crf=found.spec, reasons={**plan.reasons, "crf": reason})
    return replace(bundle, plan=fitted_plan)


def _example(predictor: Predictor, case: PreparedCase) -> Example:
    from medseg.inference.crf import Example

    box = _middle(case.label)
    image = np.ascontiguousarray(case.image[:, *box])
    return Example(predictor.predict_array(image).numpy(), image, np.asarray(case.label[box]))


def _middle(label: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> tuple[slice, ...]:
    """A box of at most _MOST_VOXELS voxels around the middle of what is labelled, its longest sides cut."""
    sizes = cut_to(label.shape, _MOST_VOXELS)
    places = np.argwhere((label > 0) & (label < 255))
    middle = places.mean(axis=0) if len(places) else np.array(label.shape) / 2
    starts = [int(min(max(0, m - s / 2), n - s)) for m, s, n in zip(middle, sizes, label.shape, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
