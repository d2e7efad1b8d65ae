"""Volumes of one label in prediction and reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Volumes:
    """Millilitres of a label in the prediction and in the reference, ignored voxels left out."""

    predicted: float
    reference: float
