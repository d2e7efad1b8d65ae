"""Labels from annotation tools, turned into a folder that medseg trains with."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import formats
from medseg.core.case import Finding, Severity
from medseg.core.errors import DataError, FormatError, UsageError
from medseg.core.events import Listener, Progress, silent
from medseg.core.files import atomic_folder, write_json
from medseg.core.task import Task
from medseg.core.volume import LabelMap
from medseg.data.classes import Classes, NewClasses, Target, TaskClasses
from medseg.data.shipped import find_task
from medseg.formats.annotations import Collection, Pending, Picture, copy_image, detect, load
from medseg.formats.archives import is_archive, unpack

_OF_SHAPES = ("labelme", "cvat", "supervisely", "coco")
_UNDECLARED = ("background", "ignore", "refuse")
_NAMED = 20  # problems that an error lists


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What may be asked of an import beyond source and task.

    format: a key of `medseg.formats.annotations.READERS` (found out unless given); partial: pixels
    outside all shapes are unknown and become the ignore value, not background; undeclared: what a
    class means that no label of the task is called: background, ignore or refuse (default: ignore
    where the task says so, else background).
    """

    format: str | None = None
    partial: bool = False
    undeclared: str | None = None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """What became of one class: the label it is, in how many images, shapes and pixels."""

    name: str
    label: str
    value: int
    images: int
    shapes: int
    pixels: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not in the data set as it was drawn: how often, why, and in which image first."""

    count: int
    severity: Severity
    code: str
    why: str
    first: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A data set made from annotations: `folder` holds images/, labels/, dataset.json and import.json."""

    folder: Path
    format: str
    images: int
    classes: tuple[ClassRow, ...]
    left_out: tuple[LeftOut, ...]
    next: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "folder": str(self.folder),
            "format": self.format,
            "images": self.images,
            "classes": [asdict(row) for row in self.classes],
            "left_out": [asdict(row) for row in self.left_out],
            "next": list(self.next),
        }


def import_labels(
    source: Path | str,
    output: Path | str,
    task: str | Path | Task | None = None,
    options: ImportOptions | None = None,
    listener: Listener = silent,
) -> Imported:
    """Turn what an annotation tool wrote (or a DICOM tree with SEG or RTSTRUCT) into a data set of medseg.

    source: a folder, an annotation file, or a zip archive as tools export it. `output` gets images/,
    labels/ and a dataset.json that names the labels' values. With a task its labels decide which
    classes become what, and the values are those that it reads.
    Pictures that cannot be used are left out and told; the others go on.
    Raises UsageError (nothing to import, `output` in use, options that do not fit), TaskError, and
    DataError where no picture can be used.
    """
    folder, options = Path(output), options or ImportOptions()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is not an empty folder; choose another one for the data set")
    wanted = task if isinstance(task, Task) or task is None else find_task(str(task))
    with _unpacked(Path(source)) as root:
        name = options.format or detect(root)
        if name is None:
            return _import_dicom(root, folder, wanted, options, listener)
        classes = _classes(wanted, options)
        collection = load(root, name)
        if wanted is not None and wanted.partial and collection.format in _OF_SHAPES:
            options = replace(options, partial=True)
        _check(collection, wanted, options)
        run = _Run(NewClasses(collection.classes) if classes is None else classes, options.partial)
        with atomic_folder(folder) as temporary:
            _fill(temporary, run, collection, listener)
            if not run.images:
                count = len(collection.pictures)
                raise DataError(f"{source}: none of its {count} pictures can be used:", run.problems[:_NAMED])
            result = run.result(folder, name, _next(folder, task, run))
            _write_json(temporary, folder.resolve().name, run, result)
    return result


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    """The source, or the folder that a zip archive was unpacked into for as long as the block runs."""
    if not (source.is_file() and is_archive(source)):
        yield source
        return
    with TemporaryDirectory(prefix="medseg-") as temporary:
        folder = Path(temporary) / source.stem
        unpack(source, folder)
        yield folder


def _fill(folder: Path, run: _Run, collection: Collection, listener: Listener) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    run.tell("", collection.findings)
    names = case_names([pending.name for pending in collection.pictures])
    for done, (case, pending) in enumerate(zip(names, collection.pictures, strict=True), start=1):
        run.add(case, pending, folder)
        listener(Progress("importing", done, len(names)))


def case_names(paths: Sequence[str]) -> list[str]:
    """A file name for every picture, unique also where upper and lower case are one.

    Folders that all paths share are dropped, the others are kept in the name: a/1 becomes a__1.
    """
    parts = [PurePosixPath(path).parts for path in paths]
    shared = _shared([part[:-1] for part in parts])
    names: list[str] = []
    taken: set[str] = set()
    for part in parts:
        wanted = "__".join(step for step in part[shared:] if step not in ("/", "..", "."))
        base = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", wanted).strip(" .") or "image"
        name, number = base, 2
        while name.casefold() in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _shared(folders: Sequence[tuple[str, ...]]) -> int:
    """How many leading folders are the same in all paths."""
    steps = zip(*folders, strict=False)
    return next((depth for depth, step in enumerate(steps) if len(set(step)) > 1), min(map(len, folders), default=0))


@dataclass(slots=True)
class _Run:
    """What an import has seen so far."""

    classes: Classes
    partial: bool
    images: int = 0
    empty: int = 0
    ignored: bool = False  # whether any pixel is not to be judged
    problems: list[str] = field(default_factory=list)
    _targets: dict[str, Target] = field(default_factory=dict)
    _in_images: Counter[str] = field(default_factory=Counter)
    _shapes: Counter[str] = field(default_factory=Counter)
    _pixels: Counter[str] = field(default_factory=Counter)
    _left_out: dict[tuple[str, str], LeftOut] = field(default_factory=dict)
    _seen: dict[Path, str] = field(default_factory=dict)

    def add(self, case: str, pending: Pending, folder: Path) -> None:
        """Read one picture and write its image and label map; whatever is wrong with it is told, not raised."""
        try:
            picture = pending.read()
            self._require_new(picture, pending.name)
            values = self._values(picture)
            self._write(picture, values, case, folder)
        except FormatError as error:
            self.problems.append(str(error))
            self.tell(
                pending.name,
                [Finding(error.code, Severity.ERROR, f"an image is left out: {error.path.name}: {error.reason}")],
            )
            return
        self.images += 1
        self.ignored |= bool((values == self.classes.ignore).any())
        self.empty += not ((values != 0) & (values != self.classes.ignore)).any()
        self._shapes.update(picture.shapes)
        for value, name in enumerate(picture.classes, start=1):
            self._in_images[name] += 1
            self._pixels[name] += int((picture.labels == value).sum())
        self.tell(pending.name, [*picture.findings, *self._lost(picture)])

    def tell(self, name: str, findings: Iterable[Finding]) -> None:
        """Count findings by what they say."""
        for finding in findings:
            of = finding.values.get("class")
            why = f"{finding.values.get('why', finding.message)}" + (f": {of}" if of else "")
            row = self._left_out.get((finding.code, why), LeftOut(0, finding.severity, finding.code, why, name))
            self._left_out[finding.code, why] = replace(row, count=row.count + 1)

    def result(self, folder: Path, name: str, following: tuple[str, ...]) -> Imported:
        rows = (
            ClassRow(
                of, target.label, target.value, self._in_images[of], self._shapes[of], self._pixels[of]
            )
            for of, target in self._targets.items()
        )  # fmt: skip
        return Imported(folder, name, self.images, tuple(rows), tuple(self._left_out.values()), following)

    def _require_new(self, picture: Picture, name: str) -> None:
        if isinstance(picture.image, Path):
            first = self._seen.setdefault(picture.image.resolve(), name)
            if first != name:
                reason = f"is annotated twice; {first} is used and {name} is not"
                raise FormatError(picture.image, reason, "duplicate-file")
        if not picture.shapes and any(finding.severity is not Severity.INFO for finding in picture.findings):
            image = picture.image if isinstance(picture.image, Path) else Path(name)
            raise FormatError(image, f"none of its shapes can be used ({picture.findings[0].message})", "empty-label")

    def _values(self, picture: Picture) -> NDArray[np.int32]:
        """The label map in the values of the data set [rows, columns, pages]."""
        for name in picture.classes:
            if name not in self._targets:
                self._targets[name] = self.classes.target(name, name in picture.unknown)
        if picture.instances is not None and isinstance(self.classes, TaskClasses) and self.classes.takes_all:
            return picture.instances
        outside = self.classes.ignore if self.partial and self.classes.ignore is not None else 0
        table = np.array([outside, *(self._targets[name].value for name in picture.classes)], dtype=np.int32)
        mapped: NDArray[np.int32] = table[picture.labels]
        return mapped

    def _write(self, picture: Picture, values: NDArray[np.int32], case: str, folder: Path) -> None:
        image = copy_image(picture.image, folder / "images" / case, "apply" if picture.upright else "keep")
        try:
            source = formats.source_of(image)
            geometry = formats.read(source).volume.geometry
            if geometry.shape != values.shape:
                raise FormatError(
                    case, f"its label map has {values.shape} pixels, its image {geometry.shape}", "grid-mismatch"
                )
            formats.write_labelmap(LabelMap(values, geometry), source, folder / "labels" / case)
        except FormatError as error:
            image.unlink(missing_ok=True)
            name = picture.image.name if isinstance(picture.image, Path) else case
            raise FormatError(name, error.reason, error.code) from error

    def _lost(self, picture: Picture) -> list[Finding]:
        """Classes that are in the picture but not in the label map."""
        lost = [(name, self._targets[name]) for name in picture.shapes if self._targets[name].why]
        return [
            Finding("undeclared-label", Severity.WARNING, target.why, {
                "why": f"{name!r} became {target.label}: {target.why}"
            })
            for name, target in lost
        ]  # fmt: skip


def _classes(task: Task | None, options: ImportOptions) -> TaskClasses | None:
    if options.undeclared is not None and options.undeclared not in _UNDECLARED:
        raise UsageError(f"--undeclared {options.undeclared}: choose one of {', '.join(_UNDECLARED)}")
    if task is None:
        if options.undeclared is not None:
            raise UsageError("--undeclared says what classes mean that a task does not name: it needs --task")
        return None
    return TaskClasses(task, options.undeclared or ("ignore" if task.undeclared == "ignore" else "background"))


def _check(collection: Collection, task: Task | None, options: ImportOptions) -> None:
    if not options.partial:
        return
    if collection.format not in _OF_SHAPES:
        raise UsageError(f"--partial is for shapes ({', '.join(_OF_SHAPES)}); {collection.format} labels every pixel")
    if task is not None and task.ignore is None:
        raise UsageError(f"--partial: task {task.name} has no value for unknown pixels; add `ignore: 255` to it")


def _import_dicom(root: Path, folder: Path, task: Task | None, options: ImportOptions, listener: Listener) -> Imported:
    if not any(source.format == "dicom" for source in formats.discover(root)):
        raise UsageError(
            f"{root}: holds no annotations that medseg recognises; see docs/labels.md for the formats, name one with "
            "--format, or use `medseg init` for images that already have label maps"
        )
    if options.partial or options.undeclared:
        raise UsageError(f"{root}: is DICOM, for which --partial and --undeclared are not meant (see the task's keys)")
    from medseg.workflows.import_dicom import import_dicom

    return import_dicom(root, folder, task, listener)


def _next(folder: Path, task: str | Path | Task | None, run: _Run) -> tuple[str, ...]:
    data, skip = shlex.quote(str(folder)), " --skip-broken" if run.empty else ""
    if task is None:
        return (f"medseg init {data}", f"medseg train --task {shlex.quote(str(folder / 'task.yaml'))} -o run{skip}")
    name = "TASK" if isinstance(task, Task) else shlex.quote(str(task))
    return (f"medseg train --task {name} --data {data} -o run{skip}",)


def _write_json(folder: Path, name: str, run: _Run, result: Imported) -> None:
    labels = {"background": 0, **run.classes.labels()}
    if run.ignored and run.classes.ignore is not None:
        labels["ignore"] = run.classes.ignore
    write_json(folder / "dataset.json", {"name": name, "labels": labels, "numTraining": run.images})
    told = {key: value for key, value in result.plain().items() if key not in ("folder", "next")}
    write_json(folder / "import.json", told)
