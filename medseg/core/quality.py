"""What a prediction shows of its own quality, and what that was worth on held-out cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Expected:
    """The Dice to expect of a prediction (mean over its labels), with a 90 % interval.

    An interval of 0 to 1 promises nothing: there were too few held-out cases to learn one from.
    """

    dice: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What can be seen of one prediction without knowing the truth; labels it does not hold are left out.

    confidence: mean winning probability over the foreground (None: nothing was found); overlaps:
    per label the Dice that the probabilities themselves expect; stability: per label the Dice of
    the voxels of high and of at least low probability, near 1 where the border is sharp;
    volumes_ml; pieces: connected components at about the network's spacing.
    """

    confidence: float | None = None
    overlaps: Mapping[str, float] = field(default_factory=dict)
    stability: Mapping[str, float] = field(default_factory=dict)
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    pieces: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A labelled case that the model was not trained on: the evidence of its prediction, and how good that was.

    dice: mean over the labels, None where prediction and truth were both empty.
    """

    dice: float | None
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Calibration:
    """The held-out cases from which a bundle learns what evidence is worth; they bear no names."""

    cases: tuple[HeldOut, ...] = ()
