"""From a scan and a bundle to a label map: the gate, the sliding window, the clean-up."""

from __future__ import annotations

from medseg.inference.device import precision, resolve_device, training_precision
from medseg.inference.gate import check_scan, departures
from medseg.inference.postprocess import postprocess
from medseg.inference.predictor import Predictor
from medseg.inference.window import sliding_window

__all__ = [
    "Predictor",
    "check_scan",
    "departures",
    "postprocess",
    "precision",
    "resolve_device",
    "sliding_window",
    "training_precision",
]
