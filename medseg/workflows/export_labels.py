"""Label maps, predicted or of a data set, written for an annotation tool, to be corrected there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import formats
from medseg.core.case import Case
from medseg.core.errors import DataError, FormatError, UsageError
from medseg.core.events import Listener, Message, Progress, silent
from medseg.core.files import atomic_folder
from medseg.core.labels import IGNORE
from medseg.core.task import Task
from medseg.data.labels import map_values
from medseg.data.layouts import declared_ignore, declared_labels
from medseg.data.pairs import pair_folders
from medseg.data.shipped import find_task
from medseg.formats.annotations import IGNORE as IGNORE_NAMES
from medseg.formats.annotations import writer

_RESULTS, _PREVIEWS = "results.csv", "previews__"  # of `medseg predict`
_IGNORED = IGNORE_NAMES[-1]
_FILLED = 254  # values that get a name each, so that their order gives the numbers back
_NAMED = 20  # problems that an error lists


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How label maps are written. format: labelme or coco; polygons: outlines in place of masks (labelme)."""

    format: str = "labelme"
    polygons: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the folder, how many pictures, shapes by class, and what was left out and why."""

    folder: Path
    format: str
    images: int
    shapes: Mapping[str, int]
    left_out: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "folder": str(self.folder), "format": self.format, "images": self.images, "shapes": dict(self.shapes),
            "left_out": list(self.left_out),
        }  # fmt: skip


def export_labels(
    labels: Path | str,
    images: Path | str,
    output: Path | str,
    task: str | Path | Task | None = None,
    options: ExportOptions | None = None,
    listener: Listener = silent,
) -> Exported:
    """Write the label maps in `labels` for an annotation tool, with the pictures of the same names in `images`.

    `labels` is the output of `medseg predict` or the labels/ of a data set. Values are named by the
    task, by a dataset.json beside them, or `label_1`, `label_2` …; `medseg import` gives the same
    pixels back. Volumes and pictures that cannot be read are left out and told.
    Raises UsageError (no such folder, `output` in use, unknown format), DataError where nothing is left.
    """
    maps, pictures, folder, options = Path(labels), Path(images), Path(output), options or ExportOptions()
    for given in (maps, pictures):
        if not given.is_dir():
            raise UsageError(f"{given}: there is no such folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is not an empty folder; choose another one")
    wanted = task if isinstance(task, Task) or task is None else find_task(str(task))
    names = _Names.of(maps, wanted)
    found = pair_folders(pictures, maps, None, "folders")
    cases = [case for case in found.cases if case.label is not None]
    left_out = [problem.message for problem in found.problems if not problem.case.startswith(_PREVIEWS)]
    shapes: Counter[str] = Counter()
    met: set[int] = set()
    written = 0
    with atomic_folder(folder) as temporary:
        pen = writer(options.format, temporary, options.polygons)
        for done, case in enumerate(cases, start=1):
            try:
                values = names.read(case)
                present = [value for value in np.unique(values).tolist() if value]
                shapes += pen.add(case.id, case.images[0].path, values, {value: names.name(value) for value in present})
                met.update(present)
                written += 1
            except FormatError as error:
                left_out.append(str(error))
            listener(Progress("exporting", done, len(cases)))
        if not written:
            raise DataError(
                f"{maps}: holds no label map that can be exported:", left_out[:_NAMED] or ["none was found"]
            )
        pen.finish(names.classes(met))
    for text in left_out:
        listener(Message(text, "warning"))
    return Exported(folder, options.format, written, dict(shapes), tuple(left_out))


@dataclass(frozen=True, slots=True)
class _Names:
    """What the values in the label maps are called.

    known: by value; every: the one name of all other values (of an instance map), else each gets its
    own; reader: the task that translates the files' values into its own first.
    """

    known: Mapping[int, str]
    every: str | None = None
    reader: Task | None = None

    @classmethod
    def of(cls, labels: Path, task: Task | None) -> _Names:
        """From the task, or from a dataset.json in or beside the folder of the label maps."""
        if task is None:
            return cls(next(filter(None, map(_declared, (labels, labels.parent))), {}))
        table = task.label_table()
        known = {label.value: label.name for label in table} | {IGNORE: _IGNORED}
        if (labels / _RESULTS).is_file():
            return cls(known)
        if table[0].sources:
            return cls(known, reader=task)
        return cls({} if task.ignore is None else {task.ignore: _IGNORED}, every=table[0].name)

    def name(self, value: int) -> str:
        return self.known.get(value) or self.every or f"label_{value}"

    def read(self, case: Case) -> NDArray[np.int32]:
        """The label map of a case [rows, columns]. Raises FormatError where it is none of a picture."""
        image, label = case.images[0], case.label
        if label is None or image.format != "image" or label.format != "image":
            raise FormatError(image.path, "is no picture (PNG, JPEG, TIFF); volumes are not exported")
        array = formats.read_labels(label).array
        shape = formats.read(image).volume.geometry.shape
        if array.shape != shape or shape[2] != 1:
            size = "x".join(map(str, array.shape))
            raise FormatError(label.path, f"holds {size} pixels, its image {shape}: not one picture", "grid-mismatch")
        if array.min() < 0:
            raise FormatError(label.path, "holds values below zero, so it is no label map", "not-a-label-map")
        mapped = array if self.reader is None else map_values(array, self.reader, label.path)
        return mapped[..., 0].astype(np.int32)

    def classes(self, met: set[int]) -> list[str]:
        """The names in the order of their values; where none were known, those between them too."""
        others = sorted(met - set(self.known))
        if not self.known and self.every is None and others and others[-1] <= _FILLED:
            others = list(range(1, others[-1] + 1))
        names = dict.fromkeys([*self.known.values(), *map(self.name, others)])
        return [name for name in names if name != _IGNORED]


def _declared(folder: Path) -> dict[int, str]:
    named = {value: name for name, values in declared_labels(folder).items() for value in values}
    ignore = declared_ignore(folder)
    ignored = {ignore: _IGNORED} if named and ignore is not None else {}
    return dict(sorted(named.items())) | ignored
