"""A label map from what was drawn in DICOM: structures, found by their names, become the labels of a task.

A structure belongs to the first label of the task that calls it by its name; several structures of
one label are taken together. Where structures of two labels overlap, the later label (the one of the
higher value) keeps the voxels, and the overlap is a finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medseg.core.case import Finding, Severity, Source
from medseg.core.errors import FormatError, UsageError
from medseg.core.labels import IGNORE, Label, default_color
from medseg.core.reading import Reading
from medseg.core.task import Task
from medseg.core.volume import LabelMap

if TYPE_CHECKING:  # pydicom takes a while to load, and most data hold nothing drawn
    from medseg.formats.structures import Drawing, Structure

_MODALITIES = ("SEG", "RTSTRUCT")
_SHOWN = 12
_MOST_LABELS = IGNORE - 1


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A label map made of drawn structures, and what is odd about them (overlap, missing-structure, off-slice …).

    voxels: structure name -> how many it was drawn with, before overlaps; those that were read only.
    """

    labelmap: LabelMap
    findings: tuple[Finding, ...]
    voxels: Mapping[str, int]


def is_drawn(source: Source) -> bool:
    """Whether a source is a DICOM object that holds drawn structures (SEG, RTSTRUCT), and no image."""
    return source.format == "dicom" and source.modality in _MODALITIES


def read_drawn(label: Source, image: Source, task: Task) -> Drawn:
    """What a SEG or RTSTRUCT draws on a DICOM series, in the task's values on the series' grid.

    Structures that no label of the task names are background, or IGNORE where the task says
    `undeclared: ignore`: such objects usually hold many more than a task wants, so that `refuse` is
    not meant for them. Raises FormatError: missing-structure where none of the labels is there,
    off-slice where all of one lies beside the image's slices, and as `read_drawing` does.
    """
    return read_labels(label, image, task.label_table(), task.reading, others=others_of(task))


def examine_drawing(label: Source, image: Source, task: Task | None) -> Drawn:
    """`read_drawn`; without a task every structure that is drawn is a label, sorted by name."""
    return read_labels(label, image, all_labels([label]), Reading()) if task is None else read_drawn(label, image, task)


def read_labels(label: Source, image: Source, labels: Sequence[Label], policy: Reading, others: int = 0) -> Drawn:
    """`read_drawn` for any table of labels; others: the value of structures that none of them names."""
    from medseg.formats.structures import blank, read_drawing, structure_names, to_labelmap

    there = structure_names(label)
    _require_any(label, labels, there)
    drawing = read_drawing(label, image, policy, None if others else lambda name: label_of(name, labels) is not None)
    _require_on_slices(label, drawing)
    slices = blank(drawing)
    findings = [*drawing.findings, *_missing(labels, there)]
    findings += _paint(slices, drawing.structures, labels, others)
    voxels: Counter[str] = Counter()
    for structure in drawing.structures:
        voxels[structure.name] += sum(int(piece.mask.sum()) for piece in structure.patches)
    return Drawn(to_labelmap(slices, drawing, labels), tuple(findings), voxels)


def all_labels(sources: Iterable[Source]) -> tuple[Label, ...]:
    """A label for each name that these SEG and RTSTRUCT objects hold, sorted, values from 1.

    Names that differ in upper and lower case are one. Raises UsageError beyond 254 names.
    """
    from medseg.formats.structures import structure_names

    names: dict[str, str] = {}
    for name in sorted(name for source in sources for name in structure_names(source)):
        names.setdefault(name.strip().casefold(), name.strip())
    if len(names) > _MOST_LABELS:
        raise UsageError(
            f"{len(names)} different structures were drawn, more than the {_MOST_LABELS} labels of a label map; "
            "name those that are wanted in a task (names: …)"
        )
    return tuple(
        # A bare number would be read as a value in dataset.json.
        Label(f"structure {name}", value, (value,), color=default_color(value), names=(name,))
        if name.isdigit()
        else Label(name, value, (value,), color=default_color(value))
        for value, name in enumerate(names.values(), start=1)
    )


def others_of(task: Task) -> int:
    """The value of structures that no label of the task names."""
    return IGNORE if task.undeclared == "ignore" else 0


def label_of(name: str, labels: Sequence[Label]) -> Label | None:
    """The label that a structure of this name belongs to; None where none calls it so."""
    return next((label for label in labels if label.is_called(name)), None)


def _require_any(source: Source, labels: Sequence[Label], there: Sequence[str]) -> None:
    if not any(label_of(name, labels) for name in there):
        wanted = _listed(label.name for label in labels)
        reason = f"draws none of the labels {wanted}; it draws {_listed(there)} (see `names` in docs/tasks.md)"
        raise FormatError(source.path, reason if there else "draws no structure at all", "missing-structure")


def _require_on_slices(source: Source, drawing: Drawing) -> None:
    for structure in drawing.structures:
        if structure.off_slices and not structure.patches:
            reason = f"all of {structure.name!r} lies beside the slices of its image"
            raise FormatError(source.path, reason, "off-slice")


def _missing(labels: Sequence[Label], there: Sequence[str]) -> Iterator[Finding]:
    """A finding for each label that no structure is called by. What is drawn as empty is there."""
    found = {label.name for name in there if (label := label_of(name, labels)) is not None}
    for label in labels:
        if label.name not in found:
            text = f"draws no {label.name!r}, so that it counts as absent; it draws {_listed(there)}"
            values = {"label": label.name, "structures": list(there)}
            yield Finding("missing-structure", Severity.WARNING, text, values)


def _paint(
    slices: NDArray[np.uint8], structures: Sequence[Structure], labels: Sequence[Label], others: int
) -> Iterator[Finding]:
    """Draw structures into `slices` [K, rows, columns] in the order of their labels; the overlaps, as findings."""
    of_label: dict[int, list[Structure]] = {}
    for structure in structures:
        label = label_of(structure.name, labels)
        of_label.setdefault(label.value if label else others, []).append(structure)
    if others:
        _draw(slices, of_label.get(others, ()), others)
    names = {label.value: label.name for label in labels}
    for value in sorted(names):
        covered = _draw(slices, of_label.get(value, ()), value)
        for earlier in np.flatnonzero(covered):
            if earlier in names and earlier != value:
                yield _overlap(names[int(earlier)], names[value], int(covered[earlier]))


def _draw(slices: NDArray[np.uint8], structures: Iterable[Structure], value: int) -> NDArray[np.int64]:
    """Set the voxels of the structures; returns how many of each value they covered [256]."""
    covered = np.zeros(IGNORE + 1, dtype=np.int64)
    for structure in structures:
        for piece in structure.patches:
            rows, columns = piece.mask.shape
            box = slices[piece.k, piece.row : piece.row + rows, piece.column : piece.column + columns]
            covered += np.bincount(box[piece.mask], minlength=IGNORE + 1)
            box[piece.mask] = value
    return covered


def _overlap(earlier: str, later: str, voxels: int) -> Finding:
    text = f"{voxels} voxels are drawn as {earlier!r} and as {later!r}; the later label, {later!r}, keeps them"
    return Finding("overlap", Severity.WARNING, text, {"labels": [earlier, later], "voxels": voxels})


def _listed(names: Iterable[str]) -> str:
    every = [repr(name) for name in names]
    return ", ".join(every[:_SHOWN]) + (" …" if len(every) > _SHOWN else "")
