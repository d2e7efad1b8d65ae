"""What a reader does where a scan's slices make no regular, rectangular grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from medseg.core.case import Finding, Severity, Source

Policy = Literal["refuse", "repair", "warn"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A task's policy for odd DICOM series.

    gantry_tilt, uneven_spacing, missing_slices: refuse the series; repair it, which resamples it onto
    a rectilinear grid (predictions are brought back to its own slices); or warn and take the
    slices as they are, sheared or at their mean distance. A distance between neighbouring slices of
    more than `largest_gap` mm is refused whatever the policy says. pet: PET is converted to
    body-weight SUV or refused naming the missing tag ("suv"), or stays in the file's units ("stored").
    """

    gantry_tilt: Policy = "repair"
    uneven_spacing: Policy = "repair"
    missing_slices: Policy = "refuse"
    largest_gap: float = 10.0
    pet: Literal["suv", "stored"] = "suv"

    # Read by pydantic where a task file is checked: an unknown key is refused, as everywhere in it.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.largest_gap > 0:
            raise ValueError(f"largest_gap is a distance in mm above 0, not {self.largest_gap}")

    def policy(self, code: str) -> Policy:
        """What to do about the finding `code` (a key of POLICIES)."""
        policy: Policy = getattr(self, POLICIES[code])
        return policy


# Findings that a policy decides about: code -> the policy's name.
POLICIES = {
    "gantry-tilt": "gantry_tilt",
    "uneven-spacing": "uneven_spacing",
    "missing-slices": "missing_slices",
}


def refused_by_all(source: Source) -> Finding | None:
    """The first error among what is known of a scan before it is read that no policy can change."""
    errors = (finding for finding in source.findings if finding.severity is Severity.ERROR)
    return next((finding for finding in errors if finding.code not in POLICIES), None)
