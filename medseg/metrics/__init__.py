"""What agreement between two label maps is: one file per metric, each measured from voxel counts."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from medseg.core.errors import UsageError
from medseg.metrics.confusion import Counts

METRICS: dict[str, str] = {
    "dice": "medseg.metrics.dice",
    "iou": "medseg.metrics.iou",
}

Measure = Callable[[Counts], float | None]


def metric(name: str) -> Measure:
    """The function `measure(counts) -> value or None` of the metric called `name`.

    Raises UsageError with the list of known metrics for any other name.
    """
    if name not in METRICS:
        raise UsageError(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
    return cast(Measure, import_module(METRICS[name]).measure)
