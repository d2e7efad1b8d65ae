"""Scans and cases: references to files and what was found odd about them, without their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.geometry import Geometry
from medseg.core.quality import Evidence, Expected
from medseg.core.volume import LabelMap, Volume


class Severity(StrEnum):
    """How bad a finding is: `error` makes a scan unusable."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is odd about an input, carried from the reader to every report.

    `code` is a stable word that scripts may rely on: missing-slices, uneven-spacing, gantry-tilt,
    shifted-slices, duplicate-position, duplicate-file, mixed-orientation, mixed-pixel-spacing,
    mixed-size, mixed-rescale, localizer, multi-volume, derived, not-an-image, color, lossy, inverted,
    unsupported-syntax, partial-file, unreadable, unknown-units, converted-units, unknown-spacing,
    missing-geometry, bad-geometry, missing-xform, sform-qform-disagreement, non-orthogonal-axes,
    exif-orientation, grid-mismatch, wrong-channels, unpaired, undeclared-label, not-a-label-map,
    not-finite, missing-uids, burned-in-annotation, no-seg, no-rtstruct, no-sr, no-sc, no-preview,
    not-selected, too-large, vanished, changed, crashed.
    docs/inspect.md explains them all.
    `values` holds the numbers behind the sentence in `message`.
    """

    code: str
    severity: Severity
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """One scan on disk: a file, or the files of one DICOM series.

    path: the file, or the folder that holds the series; files: all of them, in slice order for
    DICOM; format: a key of `medseg.formats.FORMATS`; name: relative path without extension,
    unique within one discovery, posix separators; uid: SeriesInstanceUID where there is one;
    frames: (place in `files`, frame from 0) of what belongs to it, where its files hold more than
    this one volume; identifiers: what its header says of the patient, which no output may repeat;
    description, image_type: DICOM's Series Description and Image Type, for choosing series only, as
    the first is free text that may name the patient, too; grid: where headers alone tell it.
    """

    path: Path
    files: tuple[Path, ...]
    format: str
    name: str
    modality: str | None = None
    uid: str | None = None
    findings: tuple[Finding, ...] = ()
    frames: tuple[tuple[int, int], ...] = ()
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    description: str = field(default="", repr=False)
    image_type: str = field(default="", repr=False)
    grid: Geometry | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A scan that was read: float32 `volume` on the exact source grid.

    modality: as DICOM names it (CT, MR, PT, …), None where the format does not say;
    integral: whether the stored pixels are whole numbers (a label map's mark).
    """

    source: Source
    volume: Volume
    modality: str | None = None
    integral: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled example: one image file (or DICOM series) per channel and the label file.

    `group` is the patient; splits never cut through a group.
    """

    id: str
    group: str
    images: tuple[Source, ...]
    label: Source | None = None


class Status(StrEnum):
    """What became of one scan."""

    OK = "ok"
    REVIEW = "review"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one scan, and why where it is not ok; `code` where the reason has one (see Finding)."""

    status: Status
    reason: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A label map on the source grid, with what made it and what is odd about its input.

    `instances`: objects 1, 2, 3 … [I, J, K] int32 of tasks that tell them apart; the label map is where they are.
    `confidence` is the mean winning probability over the foreground (None where nothing was found);
    `expected`: how good it is likely to be, None where the bundle has no calibration to tell that
    or nothing was found; `evidence`: what that was concluded from, None for refused scans.
    """

    labelmap: LabelMap
    scan: Scan
    outcome: Outcome
    confidence: float | None = None
    expected: Expected | None = None
    evidence: Evidence | None = None
    instances: NDArray[np.int32] | None = None

    @property
    def written(self) -> LabelMap:
        """What goes into a file: the objects by number, in 16 bits where those suffice, or the labels by value."""
        if self.instances is None:
            return self.labelmap
        few = int(self.instances.max(initial=0)) <= np.iinfo(np.uint16).max
        return LabelMap(self.instances.astype(np.uint16) if few else self.instances, self.labelmap.geometry)
