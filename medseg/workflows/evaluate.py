"""`medseg evaluate`: how well one folder of label maps agrees with another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg import formats
from medseg.core.case import Source
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message, Progress, silent
from medseg.core.labels import Label
from medseg.core.report import Report
from medseg.core.task import Task
from medseg.data.shipped import find_task
from medseg.evaluation.compare import Compared, compare, value_labels, with_all_labels
from medseg.evaluation.matching import Match, match, without_helpers
from medseg.evaluation.report import build_report, case_table, representative_cases, viewing_order
from medseg.evaluation.values import Meaning, meaning
from medseg.evaluation.write import write_report
from medseg.workflows.illustrate import Album, illustrate

# More different values than this, and the maps hold instances rather than structures.
_MOST_VALUES = 100


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """How predictions and references are read and compared.

    task: name or path; names the labels, and maps the references' values as it does for training
    (predictions hold the task's values). Without one, every value found is a label named by its number.
    map: name -> values that are merged into one label of that name, {"lung": (1, 2)}, on both sides
    (after the task's own mapping); other values are background. reference_map: the same for the
    references, where their values differ. binary: every value but 0 is one label (instances, too).
    ignore: the references' value of voxels that do not count; a task says it itself.
    images: folder of the scans, for overlay pictures. resample: put a prediction on another grid onto
    its reference's by nearest neighbour, instead of reporting it. leave_out_missing: references
    without a usable prediction are listed, not scored as empty. groups: case -> patient, over which
    the interval of the mean is drawn (the task's `data.group` otherwise).
    """

    task: str | None = None
    map: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reference_map: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    binary: bool = False
    ignore: int | None = None
    images: Path | None = None
    resample: bool = False
    leave_out_missing: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)


_DEFAULTS = EvaluateOptions()


def evaluate(
    predictions: Path | str,
    references: Path | str,
    output: Path | str,
    options: EvaluateOptions = _DEFAULTS,
    listener: Listener = silent,
) -> Report:
    """Score label maps against references; write report.json, report.csv and report.html into `output`.

    Both are folders (of any depth) or single files of label maps: NIfTI, NRRD, MetaImage, PNG, TIFF,
    matched by name. References without a usable prediction are reported by name and scored as empty;
    a prediction on another grid is reported and not scored (see EvaluateOptions for both).
    Raises FormatError where a folder is missing, UsageError where nothing can be compared, TaskError
    for a wrong task or map.
    """
    predictions, references, output = Path(predictions), Path(references), Path(output)
    task = find_task(options.task) if options.task is not None else None
    means = meaning(task, options.map, options.reference_map, options.binary, options.ignore)
    matched = _matched(predictions, references, output)
    pairs = _pairs(matched)
    compared: dict[str, Compared] = {}
    for reference, prediction in pairs.values():
        listener(Progress("evaluate", len(compared), len(pairs)))
        compared[reference.name] = compare(
            reference, prediction, means, resample=options.resample, score_missing=not options.leave_out_missing
        )
    listener(Progress("evaluate", len(pairs), len(pairs)))
    labels = means.labels or _found_labels(compared.values())
    scores = with_all_labels([case.scores for case in compared.values() if case.scores is not None], labels)
    problems = {name: case.problem for name, case in compared.items() if case.problem}
    remarks = _remarks(list(compared.values()), means)
    told = {
        "predictions": str(predictions),
        "references": str(references),
        **_told(options, task),
        "missing_predictions": [name for name, case in compared.items() if case.missing],
        "extra_predictions": [source.name for source in matched.extra],
        "resampled": [name for name, case in compared.items() if case.resampled],
        "remarks": remarks,
    }
    groups = options.groups or _groups(list(pairs), task)
    context = {key: value for key, value in told.items() if value not in (None, [], {}, False)}
    report = build_report(scores, "given", context, groups=groups, problems=problems)
    for text in remarks:
        listener(Message(text, "warning"))
    album = Album(
        {name: (reference, [prediction]) for name, (reference, prediction) in pairs.items()},
        means, labels, options.images, output / "pictures", options.resample,
    )  # fmt: skip
    figures = {case["id"]: case["mean_dice"] for case in case_table(report)}
    captions = {c: (rank, f"mean Dice {figures[c]:.3f}") for rank, c in representative_cases(report).items()}
    write_report(report, output, illustrate(album, viewing_order(report), captions, listener))
    return report


def _matched(predictions: Path, references: Path, output: Path) -> Match:
    """Which file belongs to which reference; what medseg itself wrote beside predictions is left out."""
    true = [source for source in formats.discover(references) if not _below(source.path, output)]
    if not true:
        raise UsageError(f"{references}: holds no label map (NIfTI, NRRD, MetaImage, PNG, TIFF)")
    found = [s for s in without_helpers(formats.discover(predictions), predictions) if not _below(s.path, output)]
    if not found:
        raise UsageError(f"{predictions}: holds no predicted label map (NIfTI, NRRD, MetaImage, PNG, TIFF)")
    if predictions.is_file() and references.is_file():
        return Match(((true[0], found[0]),), (), ())
    matched = match(found, true)
    if not matched.pairs:
        raise UsageError(
            f"no prediction has a reference's name: {predictions} holds {found[0].name!r} (1 of {len(found)}) "
            f"and {references} holds {true[0].name!r} (1 of {len(true)})"
        )
    return matched


def _below(path: Path, output: Path) -> bool:
    """Whether the file lies among the pictures of an earlier report in `output`."""
    return path.resolve().is_relative_to((output / "pictures").resolve())


def _pairs(matched: Match) -> dict[str, tuple[Source, Source | None]]:
    """Reference and prediction (None where there is none) under the reference's name, sorted."""
    pairs: dict[str, tuple[Source, Source | None]] = {source.name: (source, None) for source in matched.missing}
    pairs.update({reference.name: (reference, prediction) for reference, prediction in matched.pairs})
    return dict(sorted(pairs.items()))


def _found_labels(compared: Iterable[Compared]) -> tuple[Label, ...]:
    values = sorted(set().union(*(side for case in compared for side in case.values)))
    if len(values) > _MOST_VALUES:
        raise UsageError(
            f"the label maps hold {len(values)} different values, as instance maps do; "
            "score them as one structure (binary), or name a task or a map of values"
        )
    return value_labels(values)


def _remarks(compared: Sequence[Compared], means: Meaning) -> list[str]:
    """What the reader should know that is no problem of a single case."""
    used = [case for case in compared if not case.missing]
    true, found = (sorted(set().union(*(case.values[side] for case in used))) for side in (0, 1))
    if means.labels or not true or not found or set(true) & set(found):
        return []
    listed = [", ".join(map(str, values[:5])) for values in (true, found)]
    return [
        f"references hold the values {listed[0]} and predictions {listed[1]}, none in common: "
        "name a task or a map of values, or score every value but 0 as one structure (binary)"
    ]


def _told(options: EvaluateOptions, task: Task | None) -> dict[str, Any]:
    """The options that shape the figures, for the report."""
    return {
        "task": task.name if task is not None else None,
        "merged_labels": {name: list(values) for name, values in options.map.items()},
        "merged_labels_of_references": {name: list(values) for name, values in options.reference_map.items()},
        "binary": options.binary,
        "ignored_value": options.ignore,
        "missing_predictions_left_out": options.leave_out_missing,
    }


def _groups(cases: Sequence[str], task: Task | None) -> dict[str, str]:
    """case -> patient by the task's own rule; cases that it does not fit are their own patient."""
    if task is None or task.data.group is None:
        return {}
    found = {case: re.search(task.data.group, case) for case in cases}
    return {case: hit.group(1) for case, hit in found.items() if hit is not None}
