"""One reference and what was predicted for it, from files to scores; nothing that goes wrong stops the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.core.case import Scan, Source
from medseg.core.errors import FormatError, MedsegError
from medseg.core.labels import Label, default_color
from medseg.core.volume import LabelMap, Volume
from medseg.data.labels import align_label, present_values
from medseg.evaluation.grid import onto_grid
from medseg.evaluation.regions import score_regions
from medseg.evaluation.score import ALWAYS, CaseScores, label_score, score_case
from medseg.evaluation.values import Meaning
from medseg.metrics.case import LabelMeasurements
from medseg.metrics.confusion import Counts
from medseg.metrics.instances import match_instances
from medseg.metrics.volume import Volumes


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of one reference.

    scores: None where it was not scored; problem: one sentence, '' where nothing was wrong;
    missing: there was no usable prediction; resampled: the prediction came from another grid;
    values: those found in reference and prediction, background and ignored voxels left out.
    """

    scores: CaseScores | None
    problem: str = ""
    missing: bool = False
    resampled: bool = False
    values: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())


def compare(
    reference: Source,
    prediction: Source | None,
    meaning: Meaning,
    *,
    resample: bool = False,
    score_missing: bool = True,
) -> Compared:
    """Score a prediction file against a reference file.

    A prediction that is not there (None) or cannot be read is scored as empty if `score_missing`. One
    on another grid is not scored, unless `resample` puts it onto the reference's by nearest neighbour.
    """
    try:
        true = meaning.read_reference(reference)
    except MedsegError as error:
        return Compared(None, f"not scored, its reference cannot be used: {error}")
    if prediction is None:
        return _without(reference, true, meaning, "there is no prediction for it", score_missing)
    try:
        given = meaning.read_prediction(prediction)
    except MedsegError as error:
        return _without(reference, true, meaning, f"its prediction cannot be used: {error}", score_missing)
    try:
        found, resampled = on_reference(given, prediction, true, reference, resample)
    except FormatError as error:
        return Compared(None, f"not scored: {error}")
    outcome = "resampled onto the reference's grid" if resampled else ""
    scored = replace(_scored(reference.name, found, true, meaning, outcome), resampled=resampled)
    return _with_objects(scored, (reference, prediction), true, meaning) if meaning.objects else scored


def _with_objects(
    scored: Compared, sources: tuple[Source, Source | None], true: LabelMap, meaning: Meaning
) -> Compared:  # fmt: skip
    """The same with the objects of both files matched, of a prediction that is not there none; ignored voxels leave."""
    if scored.scores is None:
        return scored
    reference, prediction = sources
    real = meaning.read_objects(reference, predicted=False)
    found = np.zeros_like(real.array)
    if prediction is not None:
        given = meaning.read_objects(prediction, predicted=True)
        found = on_reference(given, prediction, real, reference, resample=True)[0].array
    ignored = None if meaning.ignore is None else true.array == meaning.ignore
    matches = match_instances(found, real.array, ignored=ignored)
    return replace(scored, scores=replace(scored.scores, instances=matches))


def on_reference(
    given: LabelMap, prediction: Source, true: LabelMap, reference: Source, resample: bool
) -> tuple[LabelMap, bool]:
    """The prediction on the reference's grid, and whether it had to be resampled for that.

    Axes that run otherwise over the same voxels are reordered, which changes nothing. Raises
    FormatError (code grid-mismatch) where the grid is another one and `resample` is not set.
    """
    scan = Scan(reference, Volume(true.array[None], true.geometry))
    try:
        return align_label(given, prediction, scan), False
    except FormatError:
        if not resample:
            raise
    return onto_grid(given, true.geometry), True


def with_all_labels(scores: Sequence[CaseScores], labels: Sequence[Label]) -> list[CaseScores]:
    """The same scores with every label in every case; a label that a case lacks is absent in both masks."""
    completed = []
    for score in scores:
        known = {label.label: label for label in score.labels}
        absent = LabelMeasurements(Counts(0, 0, 0, sum(score.overlaps.values())), Volumes(0.0, 0.0))
        metrics = next((tuple(one.figures) for one in score.labels), ALWAYS)
        rows = tuple(known.get(label.name) or label_score(label.name, absent, metrics) for label in labels)
        completed.append(replace(score, labels=rows))
    return completed


def value_labels(values: Sequence[int]) -> tuple[Label, ...]:
    """Labels for values without names: each is called by its number."""
    return tuple(Label(str(value), value, (value,), color=default_color(value)) for value in values)


def _without(reference: Source, true: LabelMap, meaning: Meaning, problem: str, score_missing: bool) -> Compared:
    if not score_missing:
        return Compared(None, f"not scored: {problem}", missing=True)
    nothing = LabelMap(np.zeros(true.array.shape, dtype=np.uint8), true.geometry, true.labels)
    scored = _scored(reference.name, nothing, true, meaning, "no prediction, scored as empty")
    if meaning.objects:
        scored = _with_objects(scored, (reference, None), true, meaning)
    return replace(scored, problem=f"{problem}; scored as empty", missing=True)


def _scored(case: str, found: LabelMap, true: LabelMap, meaning: Meaning, outcome: str) -> Compared:
    left_out = {0} if meaning.ignore is None else {0, meaning.ignore}
    values = (
        frozenset(set(present_values(true.array)) - left_out),
        frozenset(set(present_values(found.array)) - {0}),
    )
    labels = meaning.labels or value_labels(sorted(values[0] | values[1]))
    scores = score_case(case, found, true, labels, measured=meaning.measured, outcome=outcome)
    regions = score_regions(found, true, meaning.regions, meaning.measured)
    return Compared(replace(scores, regions=regions), values=values)
