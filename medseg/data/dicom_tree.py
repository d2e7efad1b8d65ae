"""Cases of a folder tree of DICOM, where SEG and RTSTRUCT objects lie somewhere beside their images.

Neither file names nor folders matter, and neither gets into the name of a case, nor does anything
else that tells who the patient is.

- An object belongs to the series that it names; where that is not there, to a series of its study in
  its frame of reference. Of several, those of the task's modality count, and then the one that holds
  the most of the images it refers to; a draw is ambiguous.
- Several objects of one image are taken together (one of the liver, one of the spleen) unless two of
  them draw the same structure, as versions and second readers do: that is ambiguous. With a task,
  only objects that draw one of its labels count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg import formats
from medseg.core.case import Case, Source
from medseg.core.errors import FormatError
from medseg.core.identifiers import Identifiers
from medseg.core.task import Task
from medseg.data.dataset import Problem
from medseg.data.drawn import is_drawn
from medseg.data.pairs import Found, ambiguous
from medseg.formats.dicom_references import (
    Identity,
    Reference,
    belongs,
    identity,
    image_uids,
    reference,
    short_hash,
)
from medseg.formats.structures import structure_names

LAYOUT = "DICOM with SEG or RTSTRUCT beside the images"
_MODALITIES = ("CT", "MR", "PT")
_NO_SCANS = ("not-an-image", "localizer")


@dataclass(frozen=True, slots=True)
class _Image:
    source: Source
    identity: Identity


@dataclass(frozen=True, slots=True)
class _Object:
    """One SEG or RTSTRUCT file."""

    source: Source
    reference: Reference
    names: tuple[str, ...]

    @property
    def case(self) -> str:
        """What its problems are listed under, as it belongs to no case."""
        own = self.reference.identity
        return f"{own.patient}_{(self.source.modality or '').lower()}_{short_hash(self.reference.uid)}"


def find_drawn(root: Path, task: Task | None) -> Found | None:
    """The cases below `root` that SEG or RTSTRUCT objects label; None where there are no such objects.

    group: 8 hex digits that stand for the patient (for the study, where the header names nobody); case:
    that, the modality and 8 digits that stand for the series. Objects that belong to no image or to
    several, and images with contradicting objects, are problems: unpaired, ambiguous.
    """
    sources = [source for source in formats.discover(root) if source.format == "dicom"]
    files = [replace(s, path=file, files=(file,), findings=()) for s in sources if is_drawn(s) for file in s.files]
    if not files:
        return None
    problems: list[Problem] = []
    images = list(_images(sources, problems))
    objects = _without_copies(_objects(files, problems))
    drawn_on, elsewhere = _assigned(objects, images, task, problems)
    ids = _case_ids(images)
    cases: list[Case] = []
    for image in images:
        name, own = ids[image.source.name], drawn_on.get(image.source.name, [])
        label = _together(name, own, task, problems)
        if _is_wanted(image, task) and (label is not None or not own):
            cases.append(Case(name, image.identity.patient, (image.source,), label))
    # Sentences name files, and names of files may tell who the patient is.
    patients = Identifiers.among(sources)
    masked = tuple(replace(problem, message=patients.mask(problem.message)) for problem in problems)
    return Found(LAYOUT, tuple(cases), masked, _notes(elsewhere, task))


# ---- what is there ----------------------------------------------------------------------------


def _images(sources: Iterable[Source], problems: list[Problem]) -> Iterator[_Image]:
    """Series that may be scans, also broken ones: what was drawn on them should be told why it is of no use."""
    for source in sources:
        if is_drawn(source) or any(finding.code in _NO_SCANS for finding in source.findings):
            continue
        try:
            yield _Image(source, identity(source))
        except FormatError as error:
            problems.append(Problem.of(f"unreadable_{short_hash(str(source.path))}", error))


def _objects(files: Iterable[Source], problems: list[Problem]) -> Iterator[_Object]:
    for source in files:
        try:
            yield _Object(source, reference(source.path), structure_names(source))
        except FormatError as error:
            problems.append(Problem.of(f"unreadable_{short_hash(str(source.path))}", error))


def _without_copies(objects: Iterable[_Object]) -> list[_Object]:
    kept: dict[str, _Object] = {}
    for drawing in objects:
        kept.setdefault(drawing.reference.uid or str(drawing.source.path), drawing)
    return list(kept.values())


def _case_ids(images: Sequence[_Image]) -> dict[str, str]:
    """Source name -> case id; the volumes of one series are numbered."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        modality = (image.source.modality or "image").lower()
        named[f"{image.identity.patient}_{modality}_{short_hash(image.identity.series)}"].append(image.source.name)
    return {
        source: name if number == 1 else f"{name}_{number}"
        for name, sources in named.items()
        for number, source in enumerate(sorted(sources), start=1)
    }


# ---- what belongs together --------------------------------------------------------------------


def _assigned(
    objects: Sequence[_Object], images: Sequence[_Image], task: Task | None, problems: list[Problem]
) -> tuple[dict[str, list[_Object]], int]:
    """Source name -> the objects drawn on it, and how many were drawn on images of another modality."""
    drawn_on: defaultdict[str, list[_Object]] = defaultdict(list)
    elsewhere = 0
    for drawing in objects:
        ways = {
            way: [i for i in images if belongs(drawing.reference, i.identity) == way] for way in ("series", "frame")
        }
        related = ways["series"] or ways["frame"]
        fitting = [image for image in related if _is_wanted(image, task)]
        if not related:
            text = "the series it was drawn on is not here, nor any other of its study and frame of reference"
            problems.append(Problem(drawing.case, "unpaired", f"{drawing.source.path}: {text}"))
        elif not fitting:
            elsewhere += 1
        elif len(best := _nearest(drawing, fitting)) == 1:
            drawn_on[best[0].source.name].append(drawing)
        else:
            where = ", ".join(str(image.source.path) for image in best)
            text = f"may have been drawn on any of {len(best)} series: {where}; keep one of them"
            problems.append(Problem(drawing.case, "ambiguous", f"{drawing.source.path}: {text}"))
    return dict(drawn_on), elsewhere


def _is_wanted(image: _Image, task: Task | None) -> bool:
    return task is None or task.modality not in _MODALITIES or image.source.modality == task.modality


def _nearest(drawing: _Object, images: Sequence[_Image]) -> list[_Image]:
    """Of several images those that hold the most of the images that a drawing refers to."""
    if len(images) == 1:
        return list(images)
    shares = [len(drawing.reference.images & image_uids(image.source)) for image in images]
    return [image for image, share in zip(images, shares, strict=True) if share == max(shares)]


def _together(case: str, objects: Sequence[_Object], task: Task | None, problems: list[Problem]) -> Source | None:
    """The label of an image: all objects drawn on it as one source; None where there are none, or they contradict."""
    fitting = [drawing for drawing in objects if _wanted_names(drawing, task)] or list(objects)
    if not fitting:
        return None
    seen: set[str] = set()
    twice: set[str] = set()
    for drawing in fitting:
        own = _wanted_names(drawing, task)
        twice |= seen & own
        seen |= own
    paths = [drawing.source.path for drawing in fitting]
    if twice:
        problem = ambiguous(case, f"label: each draws {', '.join(map(repr, sorted(twice)))}", paths)
        problems.append(problem)
        return None
    return replace(fitting[0].source, files=tuple(sorted(paths)))


def _wanted_names(drawing: _Object, task: Task | None) -> set[str]:
    """The names it draws that count, upper and lower case as one; with a task, the labels they mean."""
    if task is None:
        return {name.strip().casefold() for name in drawing.names}
    return {label.name for label in task.label_table() if any(label.is_called(name) for name in drawing.names)}


def _notes(elsewhere: int, task: Task | None) -> tuple[str, ...]:
    if not elsewhere or task is None:
        return ()
    many = "objects were" if elsewhere > 1 else "object was"
    return (f"{elsewhere} SEG or RTSTRUCT {many} drawn on images that are no {task.modality} and left out",)
