"""From a scan's own grid to the network's and back: orientation, spacing, intensities, channels.

`prepare` and its inverse `restore` stand side by side in `grid.py`; a `Trace` carries from one to
the other what was done.
"""

from __future__ import annotations

from medseg.preprocess.channels import fit_channels
from medseg.preprocess.grid import (
    Prepared,
    Restoration,
    Trace,
    prepare,
    prepare_instances,
    prepare_labels,
    restore,
    trace_of,
)
from medseg.preprocess.normalize import NORMALIZATIONS

__all__ = [
    "NORMALIZATIONS",
    "Prepared",
    "Restoration",
    "Trace",
    "fit_channels",
    "prepare",
    "prepare_instances",
    "prepare_labels",
    "restore",
    "trace_of",
]
