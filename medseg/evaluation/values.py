"""What the values in two folders of label maps mean, so that both speak of the same labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg import formats
from medseg.core.case import Source
from medseg.core.errors import UsageError
from medseg.core.labels import IGNORE, Label
from medseg.core.task import Task, parse_task
from medseg.core.volume import LabelMap
from medseg.data.drawn import read_drawn
from medseg.data.labels import map_values, numbered
from medseg.evaluation.score import wanted
from medseg.metrics.case import Wanted

Merges = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Meaning:
    """How raw values become those that are scored.

    reference, prediction: tasks by which values are mapped, one after the other; labels: what comes
    out, empty where the values found are the labels themselves; ignore: the value in mapped
    references that leaves both masks, None where there is none; measured: what is measured of them;
    regions: unions of labels that are measured as well; objects: both sides number objects that are to
    be matched, too; drawn_on: name of a reference -> the DICOM series that it (SEG, RTSTRUCT) was drawn on.
    """

    reference: tuple[Task, ...]
    prediction: tuple[Task, ...]
    labels: tuple[Label, ...]
    ignore: int | None
    measured: Wanted
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    objects: bool = False
    drawn_on: Mapping[str, Source] = field(default_factory=dict)

    def read_reference(self, source: Source) -> LabelMap:
        """A reference in scored values. Raises FormatError where it is unreadable or holds undeclared ones.

        Drawn structures are found by their names (see `medseg.data.drawn.read_drawn`) and need a task.
        """
        image = self.drawn_on.get(source.name)
        if image is None:
            return _read(source, self.reference, self.labels)
        drawn = read_drawn(source, image, self.reference[0]).labelmap
        return _mapped(drawn, self.reference[1:], self.labels, source)

    def read_prediction(self, source: Source) -> LabelMap:
        """A prediction in scored values. Raises FormatError where it is unreadable or holds undeclared ones."""
        return _read(source, self.prediction, self.labels)

    def read_objects(self, source: Source, predicted: bool) -> LabelMap:
        """Objects 1, 2, 3 … of a file (see `medseg.data.labels.read_instances`); raises as the others do."""
        raw = formats.read_labels(source)
        return LabelMap(numbered(raw.array, None if predicted else self.reference[0].ignore), raw.geometry)


def meaning(task: Task | None, merge: Merges, reference_merge: Merges, binary: bool, ignore: int | None) -> Meaning:
    """The meaning that these options give; see `workflows.evaluate.EvaluateOptions` for each.

    Raises UsageError where they contradict each other and TaskError where a merge is impossible.
    """
    if binary and (merge or reference_merge):
        raise UsageError("merged labels and binary exclude each other: give one of them")
    if reference_merge and set(reference_merge) != set(merge):
        raise UsageError("the references' merged labels must have the names of the predictions' merged labels")
    reference, prediction = ([task], [_of_own_values(task)]) if task is not None else ([], [])
    merged: Mapping[str, Any] = {"foreground": "nonzero"} if binary else merge
    if merged:
        prediction.append(_merging(merged, None))
        reference.append(_merging(reference_merge or merged, IGNORE if task is not None else ignore))
    labels = prediction[-1].label_table() if prediction else ()
    left_out = IGNORE if labels else ignore
    regions = task.region_values() if task is not None and not merged else {}
    objects = task is not None and task.instances and not merged
    return Meaning(tuple(reference), tuple(prediction), labels, left_out, wanted(task, left_out), regions, objects)


def _read(source: Source, steps: tuple[Task, ...], labels: tuple[Label, ...]) -> LabelMap:
    return _mapped(formats.read_labels(source), steps, labels, source)


def _mapped(raw: LabelMap, steps: tuple[Task, ...], labels: tuple[Label, ...], source: Source) -> LabelMap:
    array = raw.array
    for step in steps:
        array = map_values(array, step, source.path)
    return LabelMap(array, raw.geometry, labels)


def _of_own_values(task: Task) -> Task:
    """The task as it reads predictions, which hold its own values and nothing to ignore."""
    specs = {
        label.name: task.labels[label.name].model_copy(
            update={"value": label.value, "sources": [label.value] if label.sources else "nonzero"}
        )
        for label in task.label_table()
    }
    return task.model_copy(update={"labels": specs, "ignore": None, "undeclared": "refuse"})


def _merging(merged: Mapping[str, Any], ignore: int | None) -> Task:
    labels = {name: values if isinstance(values, str) else list(values) for name, values in merged.items()}
    raw = {"name": "map", "modality": "other", "labels": labels, "ignore": ignore, "undeclared": "background"}
    return parse_task(raw, "the map of labels")
