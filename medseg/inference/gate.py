"""Which scans a model may answer, and which of its answers a person should look at.

A scan of another kind (a label map, another modality) is refused; one that differs from the training
cases is answered, but marked for review. So is an answer that is implausible beside the training
cases' labels, or of which a Dice as low as the worst held-out cases' has to be expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Outcome, Prediction, Scan, Severity, Status
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.plan import Fingerprint
from medseg.core.quality import Calibration, Evidence
from medseg.core.task import Task
from medseg.core.volume import Volume
from medseg.inference.calibration import LEAST, Estimator
from medseg.preprocess import fit_channels

_SAMPLE = 2_000_000  # voxels that are looked at, at most
_SLICES = 16  # of a volume, where neighbours are compared
_FEW_VALUES = 8
_MANY_VALUES = 256
# Neighbours of one value among the voxels that are not zero: 0.51 and more in the label maps looked
# at, 0.22 and less in the images (most of them below 0.1).
_FLAT = 0.4
_HU_AIR = -500.0  # everything below it is air or lung
_HU_LOWEST = -200.0  # a CT's lowest value lies below it
_FACTOR = 2.5  # how far outside the training cases' range spacing and extent may lie
_IN_RANGE = 0.005  # part of the voxels that must lie in the trained structures' intensity range
# How far outside the training's range a label's volume may lie, and its pieces outside the held-out
# cases': of two volumes that differ by a factor of two, Dice is 2/3 at best.
_VOLUME_FACTOR = 2.0
_PIECES_FACTOR = 2
_PICTURE = "image"  # the format of pictures, whose spacing is mostly unknown
_PIXELS = (1.0, 1.0, 1.0)  # the spacing of pictures that state none


def check_scan(scan: Scan, task: Task, fingerprint: Fingerprint) -> Outcome:
    """Whether the model of `task`, trained on cases like `fingerprint`, may answer this scan.

    refused: broken, a label map, another modality, channels or dimensions that do not fit, spacing
    outside the task's limits; review: the reader warned, or spacing, extent or intensities lie far
    outside the training cases'. The reason names all that is odd.
    """
    refusal = _refusal(scan, task, fingerprint)
    if refusal:
        return Outcome(Status.REFUSED, refusal)
    warned = [finding.message for finding in scan.findings if finding.severity is Severity.WARNING]
    volume = fit_channels(scan, task).volume
    odd = [*warned, *(finding.message for finding in departures(scan, volume, task, fingerprint))]
    return Outcome(Status.REVIEW, "; ".join(odd)) if odd else Outcome(Status.OK)


def departures(scan: Scan, volume: Volume, task: Task, fingerprint: Fingerprint) -> list[Finding]:
    """Where a scan differs from the training cases: spacing-outlier, size-outlier, intensity-range, with the numbers.

    volume: the scan's, with the task's channels.
    """
    return [*_odd_grid(scan, task, fingerprint), *_odd_intensities(volume, fingerprint)]


def in_training_units(scan: Scan, fingerprint: Fingerprint) -> Scan:
    """A picture stack without its spacing, where the training's pictures had none; any other scan as it is."""
    volume = scan.volume
    if scan.source.format != _PICTURE or volume.geometry.spacing == _PIXELS or not _in_pixels(fingerprint):
        return scan
    return replace(scan, volume=Volume(volume.array, Geometry.from_spacing(_PIXELS, volume.geometry.shape)))


def judge(prediction: Prediction, fingerprint: Fingerprint, estimator: Estimator) -> Prediction:
    """The prediction with its expected Dice, marked for review where its evidence gives reason to.

    Reasons, beside those it has already: implausible (see there), or a lower bound of the expected
    Dice that is no better than those of the worst held-out cases (`Estimator.threshold`).
    """
    evidence, outcome = prediction.evidence, prediction.outcome
    if evidence is None or outcome.status not in (Status.OK, Status.REVIEW):
        return prediction
    expected = estimator.expect(evidence)
    picture = prediction.scan.source.format == _PICTURE
    odd = implausible(evidence, estimator.calibration, fingerprint, picture=picture)
    if expected is not None and estimator.threshold is not None and expected.low <= estimator.threshold:
        odd.append(
            f"a Dice of {expected.dice:.2f} ({expected.low:.2f} to {expected.high:.2f}) is expected, "
            f"with a lower bound as low as the worst held-out cases' ({estimator.threshold:.2f})"
        )
    if odd:
        outcome = Outcome(Status.REVIEW, "; ".join([outcome.reason, *odd] if outcome.reason else odd))
    return replace(prediction, outcome=outcome, expected=expected)


def implausible(
    evidence: Evidence, calibration: Calibration, fingerprint: Fingerprint, *, picture: bool = False
) -> list[str]:
    """What is odd about the labels found, one sentence each.

    A volume below half or above twice those of the training cases; a label in more than twice the
    pieces of any held-out case; a label missing that every held-out case has; nothing found at all
    where that was wrong before. Pictures, whose field of view is arbitrary, may hold any volume and
    number.
    """
    held_out = [case.evidence for case in calibration.cases]
    odd = [] if picture else [*_odd_volumes(evidence, fingerprint), *_odd_pieces(evidence, held_out)]
    if len(held_out) >= LEAST:
        always = set(held_out[0].volumes_ml).intersection(*(one.volumes_ml for one in held_out))
        missing = sorted(always - set(evidence.volumes_ml))
        if missing:
            odd.append(f"it lacks {', '.join(missing)}, found in each of the {len(held_out)} held-out cases")
    if not evidence.volumes_ml:
        empty = [case for case in calibration.cases if not case.evidence.volumes_ml]
        wrong = sum(case.dice is not None for case in empty)
        if wrong:
            odd.append(f"nothing was found, which was wrong in {wrong} of {len(empty)} such held-out cases")
    return odd


def _odd_volumes(evidence: Evidence, fingerprint: Fingerprint) -> list[str]:
    odd = []
    for name, volume in evidence.volumes_ml.items():
        low, _, high = fingerprint.label_volumes_ml.get(name, (0.0, 0.0, 0.0))
        if high > 0 and not low / _VOLUME_FACTOR <= volume <= high * _VOLUME_FACTOR:
            odd.append(f"its {name} of {volume:.4g} ml is far outside the training cases' ({low:.4g}…{high:.4g} ml)")
    return odd


def _odd_pieces(evidence: Evidence, held_out: Sequence[Evidence]) -> list[str]:
    odd = []
    for name, pieces in evidence.pieces.items():
        known = [one.pieces[name] for one in held_out if name in one.pieces]
        if len(known) >= LEAST and pieces > _PIECES_FACTOR * max(known):
            odd.append(f"its {name} lies in {pieces} pieces, in the held-out cases in {max(known)} at most")
    return odd


# ---- refused --------------------------------------------------------------------------------


def _refusal(scan: Scan, task: Task, fingerprint: Fingerprint) -> str:
    """The first reason not to answer, or nothing."""
    broken = next((f.message for f in scan.findings if f.severity is Severity.ERROR), "")
    return (
        broken
        or _other_modality(scan, task)
        or _other_dimensions(scan, task)
        or _label_map(scan)
        or _other_channels(scan, task)
        or _other_units(scan, task, fingerprint)
        or _outside_limits(scan, task)
        or _unknown_scale(scan, fingerprint)
    )


def _other_modality(scan: Scan, task: Task) -> str:
    """Only where the file names its modality; pictures never do."""
    given = scan.modality
    if given is None or scan.source.format == _PICTURE or task.modality == "other":
        return ""
    scanner = ("CT", "MR", "PT", "NM")
    fits = given == task.modality if task.modality in scanner else given not in scanner
    return "" if fits else f"its modality is {given}, but the task {task.name!r} is for {task.modality}"


def _other_dimensions(scan: Scan, task: Task) -> str:
    shape = scan.volume.geometry.shape
    if task.dimensions == 3 and min(shape) == 1:
        return f"it is a single slice ({_times(shape)}), but the task {task.name!r} is for volumes"
    return ""


def _other_channels(scan: Scan, task: Task) -> str:
    try:
        fit_channels(scan, task)
    except FormatError as error:
        return error.reason
    return ""


def _label_map(scan: Scan) -> str:
    """Whole numbers, few of them, and in patches: a segmentation. A picture only where it is black and white."""
    array = scan.volume.array
    lowest, highest = float(array.min()), float(array.max())
    if lowest == highest:
        return f"every voxel is {lowest:g}, so there is nothing to segment"
    if not scan.integral or lowest < 0:
        return ""
    values = np.unique(_sample(array))
    if scan.source.format == _PICTURE:
        return "it holds two values only, so it is a mask and no image" if len(values) == 2 else ""
    if len(values) > _MANY_VALUES or (len(values) > _FEW_VALUES and _flatness(array[0]) < _FLAT):
        return ""
    return f"it looks like a label map ({len(values)} whole values from {lowest:g} to {highest:g}), not an image"


def _flatness(array: NDArray[np.float32]) -> float:
    """Among neighbours [I, J] of which one at least is not zero, the part that are equal."""
    chosen = np.linspace(0, array.shape[2] - 1, min(_SLICES, array.shape[2])).round().astype(int)
    slices = array[:, :, chosen]
    equal = counted = 0
    for one, other in ((slices[1:], slices[:-1]), (slices[:, 1:], slices[:, :-1])):
        occupied = (one != 0) | (other != 0)
        counted += int(occupied.sum())
        equal += int(((one == other) & occupied).sum())
    return equal / counted if counted else 1.0


def _other_units(scan: Scan, task: Task, fingerprint: Fingerprint) -> str:
    """Files that name no modality are judged by their values: only CT reaches down to air's -1000 HU."""
    if scan.modality is not None or scan.source.format == _PICTURE:
        return ""
    array = scan.volume.array[0]
    lowest = float(array.min())
    if task.modality == "CT" and lowest >= _HU_LOWEST:
        hint = "; if it is a CT, its values lack the rescale intercept" if lowest >= 0 and array.max() > 1500 else ""
        return f"its lowest value is {lowest:g}, so it is no CT in Hounsfield units (air is near -1000){hint}"
    trained = fingerprint.channels[0].minimum if fingerprint.channels else 0.0
    if task.modality in ("MR", "PT") and lowest < _HU_AIR < trained:
        air = float((_sample(array) < _HU_AIR).mean())
        if air > 0.01:
            return f"{air:.0%} of it is below {_HU_AIR:g} as in a CT, but the task {task.name!r} is for {task.modality}"
    return ""


def _outside_limits(scan: Scan, task: Task) -> str:
    if scan.source.format == _PICTURE:
        return ""
    limits, spacing = task.limits, _canonical(scan.volume.geometry).spacing[: task.dimensions]
    if limits.min_spacing is not None and min(spacing) < limits.min_spacing:
        return f"its spacing of {_mm(spacing)} is finer than the {limits.min_spacing:g} mm the task allows"
    if limits.max_spacing is not None and max(spacing) > limits.max_spacing:
        return f"its spacing of {_mm(spacing)} is coarser than the {limits.max_spacing:g} mm the task allows"
    return ""


def _unknown_scale(scan: Scan, fingerprint: Fingerprint) -> str:
    """A picture stack that states no spacing, for a model of stacks that do."""
    geometry = scan.volume.geometry
    if scan.source.format != _PICTURE or geometry.shape[2] == 1 or geometry.spacing != _PIXELS:
        return ""
    if not fingerprint.spacings or _in_pixels(fingerprint):
        return ""
    trained = _range(np.array(fingerprint.spacings))
    return f"the stack states no spacing (ImageJ or OME), but those of the training do ({trained})"


def _in_pixels(fingerprint: Fingerprint) -> bool:
    return all(spacing == _PIXELS for spacing in fingerprint.spacings)


# ---- marked for review ----------------------------------------------------------------------


def _odd_grid(scan: Scan, task: Task, fingerprint: Fingerprint) -> list[Finding]:
    """Spacing and extent (RAS axes; those in the plane for a 2D task) against the training cases'."""
    if scan.source.format == _PICTURE or not fingerprint.spacings:
        return []
    grid, n = _canonical(scan.volume.geometry), task.dimensions
    spacings = np.array(fingerprint.spacings)
    extents = spacings * np.array(fingerprint.shapes)
    return [
        Finding(
            f"{what}-outlier",
            Severity.WARNING,
            f"its {what} of {_mm(values[:n])} is far outside the training cases' ({_range(trained[:, :n])})",
            {"mm": list(values[:n]), "trained_mm": [trained[:, :n].min(axis=0).tolist(),
                                                    trained[:, :n].max(axis=0).tolist()]},
        )
        for what, values, trained in (("spacing", grid.spacing, spacings), ("size", grid.extent, extents))
        if _far_outside(values[:n], trained[:, :n])
    ]  # fmt: skip


def _far_outside(values: Sequence[float], trained: NDArray[np.float64]) -> bool:
    low, high = trained.min(axis=0) / _FACTOR, trained.max(axis=0) * _FACTOR
    return any(not a <= value <= b for value, a, b in zip(values, low, high, strict=True))


def _odd_intensities(volume: Volume, fingerprint: Fingerprint) -> list[Finding]:
    """Channels that hold next to nothing in the range (0.5th to 99.5th percentile) of the trained structures."""
    odd = []
    for number, (array, stats) in enumerate(zip(volume.array, fingerprint.channels, strict=False), start=1):
        voxels = _sample(array)
        inside = float(((voxels >= stats.p005) & (voxels <= stats.p995)).mean())
        if inside < _IN_RANGE:
            which = f" in channel {number}" if volume.channels > 1 else ""
            text = (
                f"only {inside:.1%} of its voxels{which} have intensities like the trained structures "
                f"({stats.p005:g} to {stats.p995:g})"
            )
            values = {"channel": number, "share": inside, "trained": [stats.p005, stats.p995]}
            odd.append(Finding("intensity-range", Severity.WARNING, text, values))
    return odd


# ---- small things ---------------------------------------------------------------------------


def _sample(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every n-th voxel, so that large scans are judged as fast as small ones; n is odd, as most shapes are not."""
    flat = array.ravel(order="K")  # as it lies in memory: no copy, whichever axis runs fastest
    return flat[:: (len(flat) // _SAMPLE) | 1]


def _canonical(geometry: Geometry) -> Geometry:
    return geometry.reordered(*geometry.to_canonical())


def _range(trained: NDArray[np.float64]) -> str:
    ends = zip(trained.min(axis=0), trained.max(axis=0), strict=True)
    return " × ".join(f"{low:.3g}…{high:.3g}" for low, high in ends) + " mm"


def _mm(values: Sequence[float]) -> str:
    return "×".join(f"{value:.3g}" for value in values) + " mm"


def _times(shape: Sequence[int]) -> str:
    return "×".join(str(n) for n in shape)
