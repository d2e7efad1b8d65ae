"""Finding DICOM series among files of any name: by content, from headers alone."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from medseg.core.case import Finding, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.reading import Reading
from medseg.formats.checks import in_short
from medseg.formats.dicom_frames import IDENTIFYING_TAGS, Frame, frames_of, read_dataset, sound_header, text, whole
from medseg.formats.dicom_stack import clusters, stack
from medseg.formats.dicom_volumes import split
from medseg.formats.quiet import quiet

_READERS = 8
_DICOM_EXTENSIONS = (".dcm", ".dicom", ".ima")
# Modalities whose objects describe images without being one (PS3.3 C.7.3.1.1.1).
_NO_IMAGES = frozenset(
    {"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "REG", "ANN", "FID", "DOC", "ECG", "AU"}
    | {"PLAN", "M3D", "TG", "SM"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """A file and what its header says, pixels left out."""

    path: Path
    dataset: Dataset

    @property
    def uid(self) -> str:
        return text(self.dataset, "SeriesInstanceUID")

    @property
    def key(self) -> str:
        """What the files of one series share: its UID or, where that is empty, what else names a series."""
        others = ("StudyInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "FrameOfReferenceUID")
        return self.uid or "|".join(text(self.dataset, keyword) for keyword in others)


def find_series(paths: Sequence[Path], root: Path) -> list[Source]:
    """The series among `paths` (files below `root` that may be DICOM), those that cannot be used with the reason.

    Files that are no DICOM are left out, unless their name ends in .dcm, .dicom or .ima.
    """
    with quiet(), ThreadPoolExecutor(_READERS) as pool:
        results = list(pool.map(_header, paths))
        headers = [result for result in results if isinstance(result, Header)]
        sources = [_broken(error, root) for error in results if isinstance(error, FormatError)]
        for folder, group in _groups(headers):
            sources += _series(folder, group, _series_name(folder, group[0], root))
    return sources


def sources_of_file(path: Path, name: str) -> list[Source]:
    """The volumes in one DICOM file: one, or more in an enhanced one. Raises FormatError where it is no DICOM file."""
    with quiet():
        result = _header(path)
        if result is None:
            raise FormatError(path, "is no scan (DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF)")
        if isinstance(result, FormatError):
            raise result
        return _series(path, [result], name)


def refusal(dataset: Dataset) -> Finding | None:
    """The reason why an object is no image that can be segmented, as an error finding; None where it is one."""
    try:
        return _refusal(dataset)
    except Exception as error:  # damaged header values raise when they are looked at, whatever pydicom likes
        return _error("unreadable", f"its header holds a value that cannot be read ({in_short(error)})")


def _refusal(dataset: Dataset) -> Finding | None:
    modality = text(dataset, "Modality")
    sop_class = UID(text(dataset, "SOPClassUID"))
    # pydicom names a class that it does not know by its number.
    name = sop_class.name if sop_class and not sop_class.name[:1].isdigit() else modality
    if modality in _NO_IMAGES:
        return _error("not-an-image", f"is not an image volume but {name or modality}")
    if not whole(dataset, "Rows") or not whole(dataset, "Columns"):
        if "Image Storage" in name:
            return _error("partial-file", "its header ends before the image size (cut off while copying?)")
        return _error("not-an-image", f"is not an image but {name or 'an object without pixels'}")
    if "LOCALIZER" in text(dataset, "ImageType").upper().split("\\"):
        return _error("localizer", "is a localizer (scout), not the scan itself")
    if "ModalityLUTSequence" in dataset and dataset.ModalityLUTSequence:
        return _error("unsupported-syntax", "its values go through a modality look-up table, which is not supported")
    return None


def _error(code: str, message: str) -> Finding:
    return Finding(code, Severity.ERROR, message)


# ---- headers ----------------------------------------------------------------------------------


def _header(path: Path) -> Header | FormatError | None:
    """A file's header; None where it has nothing to do with DICOM; the error where it claims to be DICOM."""
    claims = path.name.lower().endswith(_DICOM_EXTENSIONS)
    try:
        if not claims and not _looks_like_dicom(path):
            return None
        dataset = read_dataset(path)
        with sound_header(path):
            stored = text(getattr(dataset, "file_meta", Dataset()), "MediaStorageSOPClassUID")
            if stored and not text(dataset, "SOPClassUID"):
                dataset.SOPClassUID = stored
    except FormatError as error:
        return error if claims or _has_preamble(path) else None
    except OSError as error:
        return FormatError(path, f"cannot be opened ({in_short(error)})")
    return None if stored == MediaStorageDirectoryStorage else Header(path, dataset)


def _looks_like_dicom(path: Path) -> bool:
    """Whether a file has DICOM's preamble, or begins right away with an element of group 0002 or 0008."""
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return True
    return head[:2] in (b"\x02\x00", b"\x08\x00") and len(head) == 132 and head[3:4] == b"\x00"


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


# ---- grouping ---------------------------------------------------------------------------------


def _groups(headers: Sequence[Header]) -> Iterator[tuple[Path, list[Header]]]:
    """Files of one series with their folder. A series that is spread over folders is put together again."""
    by_key: dict[str, dict[Path, list[Header]]] = {}
    for header in headers:
        by_key.setdefault(header.key, {}).setdefault(header.path.parent, []).append(header)
    for folders in by_key.values():
        groups = list(folders.items())
        together = [header for _, group in groups for header in group]
        if len(groups) > 1 and together[0].uid and _one_acquisition(groups):
            yield Path(os.path.commonpath([folder for folder, _ in groups])), together
        else:
            yield from groups


def _one_acquisition(groups: Sequence[tuple[Path, Sequence[Header]]]) -> bool:
    """Whether folders hold different slices of one stack; copies and further volumes stay apart."""
    frames: list[Frame] = []
    try:
        for _, group in groups:
            for header in group:
                if refusal(header.dataset) is not None:
                    return False
                frames += frames_of(header.dataset, header.path)
    except FormatError:
        return False
    one_grid = len({(frame.size, frame.orientation, frame.spacing) for frame in frames}) == 1
    # Two files of one multi-frame object share its UID, so objects are counted by file.
    objects = {(frame.path, frame.uid) for frame in frames}
    one_object_each = len({uid for _, uid in objects}) == len(objects)
    return one_grid and one_object_each and len(clusters(frames)) == len(frames)


def _series(path: Path, group: Sequence[Header], name: str) -> list[Source]:
    """One Source for each volume of a series, and one for each kind of object in it that cannot be used."""
    kinds: dict[str, list[tuple[Header, Finding]]] = {}
    images: list[Header] = []
    for header in group:
        problem = refusal(header.dataset)
        if problem is None:
            images.append(header)
        else:
            kinds.setdefault(problem.code, []).append((header, problem))
    sources = _volumes(path, images, name) if images else []
    for number, (code, members) in enumerate(sorted(kinds.items())):
        own = name if not images and number == 0 else f"{name}-{code}"
        files = sorted(header.path for header, _ in members)
        sources.append(_source(path, files, own, members[0][0], (members[0][1],)))
    return sources


def _volumes(path: Path, images: Sequence[Header], name: str) -> list[Source]:
    """The volumes of a series: files in slice order without duplicates, and what is odd about each."""
    frames: list[Frame] = []
    broken: list[Finding] = []
    for header in sorted(images, key=lambda image: image.path):
        try:
            frames += frames_of(header.dataset, header.path)
        except FormatError as error:
            broken.append(_error(error.code, f"{header.path.name}: {error.reason}"))
    if broken or not frames:
        return [_source(path, sorted(header.path for header in images), name, images[0], tuple(broken))]
    unique, dropped = _without_copies(frames)
    parts = split(unique)
    headers = {header.path: header for header in images}
    held = Counter(frame.path for frame in frames)
    sources: list[Source] = []
    for number, part in enumerate(parts, start=1):
        ordered = stack(part.frames, Reading())
        files = list(dict.fromkeys(frame.path for frame in ordered.frames))
        source = _source(
            path,
            files,
            name if len(parts) == 1 else f"{name}-{number}",
            headers[files[0]],
            (*dropped, *part.findings, *ordered.findings),
        )
        sources.append(replace(source, frames=_some_of(files, part.frames, held), grid=ordered.geometry))
    return sources


def _some_of(files: Sequence[Path], own: Sequence[Frame], held: Mapping[Path, int]) -> tuple[tuple[int, int], ...]:
    """(place of the file, frame) of a volume's frames; nothing where it has all that its files hold (frames a file)."""
    if len(own) == sum(held[path] for path in files):
        return ()
    places = {path: place for place, path in enumerate(files)}
    return tuple(sorted((places[frame.path], frame.number) for frame in own))


def _without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], list[Finding]]:
    """Drop further copies of an object, and images at one position that are alike to the last pixel."""
    kept: dict[tuple[str, object, int], Frame] = {}
    for frame in frames:
        own = frame.uid or str(frame.path)
        kept.setdefault((own, frame.position, frame.number), frame)
    unique = list(kept.values())
    findings = _copies("duplicate-file", frames, unique, "are further copies of an object that is there already")
    crowded = [place for place in clusters(unique) if len(place) > 1 and place[0].position is not None]
    alike = (
        {id(frame) for place in crowded for frame in _repeated(place)} if crowded and _repeated(crowded[0]) else set()
    )
    single = [frame for frame in unique if id(frame) not in alike]
    findings += _copies("duplicate-position", unique, single, "repeat another image's position and pixels")
    return single, findings


def _copies(code: str, before: Sequence[Frame], after: Sequence[Frame], what: str) -> list[Finding]:
    count = len({frame.path for frame in before}) - len({frame.path for frame in after})
    if count == 0:
        return []
    return [Finding(code, Severity.INFO, f"{count} files {what} and were left out", {"files": count})]


def _repeated(place: Sequence[Frame]) -> list[Frame]:
    """Frames at one position whose pixels, size and rescaling are those of an earlier frame there."""
    seen: set[tuple[object, ...]] = set()
    repeated: list[Frame] = []
    for frame in place:
        dataset = read_dataset(frame.path, pixels=True)
        pixels = dataset.get("PixelData") or b""
        mark = (hashlib.sha256(pixels).digest(), frame.number, frame.size, frame.slope, frame.intercept)
        if mark in seen:
            repeated.append(frame)
        seen.add(mark)
    return repeated


# ---- sources ----------------------------------------------------------------------------------


def _series_name(folder: Path, header: Header, root: Path) -> str:
    relative = folder.relative_to(root).as_posix()
    identity = header.uid or f"{relative}|{header.key}"
    short = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return f"series-{short}" if relative == "." else f"{relative}/series-{short}"


def _source(path: Path, files: Sequence[Path], name: str, header: Header, findings: tuple[Finding, ...]) -> Source:
    modality = text(header.dataset, "Modality") or None
    given = (text(header.dataset, keyword) for keyword in IDENTIFYING_TAGS)
    identifiers = tuple(dict.fromkeys(value for value in given if value))
    uid = header.uid or None
    return Source(
        path, tuple(files), "dicom", name, modality, uid, findings, identifiers=identifiers,
        description=text(header.dataset, "SeriesDescription"), image_type=text(header.dataset, "ImageType"),
    )  # fmt: skip


def _broken(error: FormatError, root: Path) -> Source:
    path = error.path
    relative = path.relative_to(root).as_posix()
    extension = next((e for e in _DICOM_EXTENSIONS if relative.lower().endswith(e)), "")
    name = relative[: len(relative) - len(extension)]
    return Source(path, (path,), "dicom", name, findings=(_error(error.code, error.reason),))
