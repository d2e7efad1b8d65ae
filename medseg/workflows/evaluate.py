"""`medseg evaluate`: how well one folder of label maps, or several, agree with another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg import formats
from medseg.core.case import Source
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message, Progress, silent
from medseg.core.labels import Label
from medseg.core.report import Report
from medseg.core.task import Task
from medseg.data.drawn import is_drawn
from medseg.data.pairs import Found
from medseg.data.shipped import find_task
from medseg.evaluation.compare import Compared, compare, value_labels, with_all_labels
from medseg.evaluation.matching import Match, match, without_helpers
from medseg.evaluation.models import Comparison, compare_reports, write_comparison
from medseg.evaluation.models_page import case_rows
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
    matched by name. References may be a folder of DICOM series with the SEG or RTSTRUCT drawn on them, which
    need a task and are called by their series, as `predict` calls its outputs. References without a
    usable prediction are reported by name and scored as empty; a prediction on another grid is reported
    and not scored (see EvaluateOptions for both).
    Raises FormatError where a folder is missing, UsageError where nothing can be compared, TaskError
    for a wrong task or map.
    """
    output = Path(output)
    asked = _Asked.of(Path(references), output, options)
    run = _compare(Path(predictions), asked, listener)
    labels = asked.means.labels or _found_labels(run.compared.values())
    report = _report(run, labels, asked)
    for text in report.context.get("remarks", ()):
        listener(Message(text, "warning"))
    album = _album([run], labels, asked)
    figures = {case["id"]: case["mean_dice"] for case in case_table(report)}
    captions = {c: (rank, f"mean Dice {figures[c]:.3f}") for rank, c in representative_cases(report).items()}
    write_report(report, output, illustrate(album, viewing_order(report), captions, listener))
    return report


def evaluate_models(
    predictions: Sequence[Path | str],
    references: Path | str,
    output: Path | str,
    options: EvaluateOptions = _DEFAULTS,
    listener: Listener = silent,
) -> Comparison:
    """Score the predictions of several models, each a folder, against the same references.

    Leaves report.json (per model what `evaluate` writes, `tests` and `ranking`), report.csv and report.html
    in `output`. Models are called by their folders, as far as these differ. A reference without a prediction
    of some model counts for it as empty, or, left out, for the others only.
    Raises as `evaluate` does, and UsageError where a folder is named twice or there is one only.
    """
    names = model_names([Path(folder) for folder in predictions])
    asked = _Asked.of(Path(references), Path(output), options)
    runs = {
        name: _compare(Path(folder), asked, listener, f"evaluate {name}")
        for name, folder in zip(names, predictions, strict=True)
    }
    labels = asked.means.labels or _found_labels([case for run in runs.values() for case in run.compared.values()])
    reports = {name: _report(run, labels, asked) for name, run in runs.items()}
    for name, report in reports.items():
        for text in report.context.get("remarks", ()):
            listener(Message(f"{name}: {text}", "warning"))
    context = {
        "models": {name: str(run.folder) for name, run in runs.items()},
        "references": str(asked.references),
        **{key: value for key, value in _told(options, asked.task).items() if value},
    }
    comparison = compare_reports(reports, asked.groups(next(iter(runs.values())).pairs), context)
    order = [row["case"] for row in case_rows(reports)]
    shown = illustrate(_album(list(runs.values()), labels, asked), order, {}, listener)
    write_comparison(comparison, asked.output, shown)
    return comparison


def model_names(folders: Sequence[Path]) -> list[str]:
    """What folders of predictions are called: by the part of their path that tells them apart.

    Raises UsageError where there are fewer than two, or one of them twice.
    """
    paths = [folder.resolve() for folder in folders]
    if len(paths) < 2:
        raise UsageError("there is nothing to compare: give at least two folders of predictions")
    again = next((folder for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1), None)
    if again is not None:
        raise UsageError(f"{again}: is named twice; each model needs predictions of its own")
    parts = [list(path.parts) for path in paths]
    while len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What predictions are scored against, and how.

    drawn: references that are DICOM SEG or RTSTRUCT; problems: of those that cannot be used.
    """

    references: Path
    output: Path
    options: EvaluateOptions
    task: Task | None
    means: Meaning
    drawn: tuple[Source, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, references: Path, output: Path, options: EvaluateOptions) -> _Asked:
        task = find_task(options.task) if options.task is not None else None
        means = meaning(task, options.map, options.reference_map, options.binary, options.ignore)
        found = _drawn(references, task)
        if found is None:
            return cls(references, output, options, task, means)
        # A drawing is called by its series, as predictions are.
        pairs = {case.images[0].name: (case.label, case.images[0]) for case in found.cases}
        drawn = {name: replace(label, name=name) for name, (label, _) in pairs.items() if label is not None}
        means = replace(means, drawn_on={name: pairs[name][1] for name in drawn})
        problems = {problem.case: problem.message for problem in found.problems}
        return cls(references, output, options, task, means, tuple(drawn.values()), problems)

    def groups(self, cases: Iterable[str]) -> Mapping[str, str]:
        """case -> patient, as far as it is known."""
        return self.options.groups or _groups(list(cases), self.task)


@dataclass(frozen=True, slots=True)
class _Run:
    """One folder of predictions beside the references: who belongs to whom, and what became of each."""

    folder: Path
    matched: Match
    pairs: Mapping[str, tuple[Source, Source | None]]
    compared: Mapping[str, Compared]


def _compare(predictions: Path, asked: _Asked, listener: Listener, stage: str = "evaluate") -> _Run:
    matched = _matched(predictions, asked)
    pairs = _pairs(matched)
    compared: dict[str, Compared] = {}
    for reference, prediction in pairs.values():
        listener(Progress(stage, len(compared), len(pairs)))
        compared[reference.name] = compare(
            reference,
            prediction,
            asked.means,
            resample=asked.options.resample,
            score_missing=not asked.options.leave_out_missing,
        )
    listener(Progress(stage, len(pairs), len(pairs)))
    return _Run(predictions, matched, pairs, compared)


def _report(run: _Run, labels: Sequence[Label], asked: _Asked) -> Report:
    compared = run.compared
    scores = with_all_labels([case.scores for case in compared.values() if case.scores is not None], labels)
    problems = {**asked.problems, **{name: case.problem for name, case in compared.items() if case.problem}}
    told = {
        "predictions": str(run.folder),
        "references": str(asked.references),
        **_told(asked.options, asked.task),
        "missing_predictions": [name for name, case in compared.items() if case.missing],
        "extra_predictions": [source.name for source in run.matched.extra],
        "resampled": [name for name, case in compared.items() if case.resampled],
        "remarks": _remarks(list(compared.values()), asked.means),
    }
    context = {key: value for key, value in told.items() if value not in (None, [], {}, False)}
    return build_report(scores, "given", context, groups=asked.groups(run.pairs), problems=problems)


def _album(runs: Sequence[_Run], labels: Sequence[Label], asked: _Asked) -> Album:
    """What the page's pictures are made from: every reference with the predictions of all runs."""
    references = {name: reference for run in runs for name, (reference, _) in run.pairs.items()}
    pairs = {
        name: (reference, [run.pairs[name][1] if name in run.pairs else None for run in runs])
        for name, reference in references.items()
    }
    options = asked.options
    return Album(pairs, asked.means, labels, options.images, asked.output / "pictures", options.resample)


def _drawn(references: Path, task: Task | None) -> Found | None:
    """The series below `references` with what is drawn on them, where drawings (SEG, RTSTRUCT) are all it holds."""
    sources = formats.discover(references)
    if not any(map(is_drawn, sources)) or any(source.format != "dicom" for source in sources):
        return None
    if task is None:
        raise UsageError(
            f"{references}: holds DICOM SEG or RTSTRUCT, whose structures have names and no values; "
            "name a task, whose labels say which of them are meant"
        )
    from medseg.data.dicom_tree import find_drawn

    return find_drawn(references, task)


def _matched(predictions: Path, asked: _Asked) -> Match:
    """Which file belongs to which reference; what medseg itself wrote beside predictions is left out."""
    references, output = asked.references, asked.output
    true = list(asked.drawn) or [
        source for source in formats.discover(references) if not (_below(source.path, output) or is_drawn(source))
    ]
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
