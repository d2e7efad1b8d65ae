"""Where the files of one scan go, and writing them."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from medseg.core.case import Finding, Prediction, Severity, Source
from medseg.core.errors import FormatError, UsageError
from medseg.core.files import write_text
from medseg.core.measurement import Measurement
from medseg.core.reading import Reading

if TYPE_CHECKING:
    from medseg.formats.dicom_derived import Derived

PREVIEWS = "previews"
OBJECTS = "objects"  # how many there are, in the measurements of tasks that tell them apart
# What --outputs may name. The label map (`nifti`) is always written: everything else is made of it.
KINDS = ("nifti", "seg", "rtstruct", "sr", "sc", "preview")
DEFAULT_KINDS = frozenset({"nifti", "seg", "preview"})
# Faults of the place that outputs go to: full, or not to be written to any more.
PLACE_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
SegType = Literal["BINARY", "LABELMAP"]
_CELLS = ".cells.csv"
_LABELMAPS = (".nii.gz", ".png", ".tif")
_DICOM = {"seg": ".seg.dcm", "rtstruct": ".rtstruct.dcm", "sr": ".sr.dcm", "sc": ".sc.dcm"}
_NAMES = {"seg": "DICOM SEG", "rtstruct": "RTSTRUCT", "sr": "DICOM SR", "sc": "secondary capture", "preview": "preview"}


@dataclass(frozen=True, slots=True)
class Targets:
    """The files that one scan may give: `stem` + .nii.gz, .png, .tif, .seg.dcm, …, and a preview."""

    stem: Path
    preview: Path

    def dicom(self, kind: str) -> Path:
        """The file of a DICOM object: seg, rtstruct, sr or sc."""
        return self.stem.with_name(self.stem.name + _DICOM[kind])

    @property
    def cells(self) -> Path:
        """The table of objects, of tasks that tell them apart."""
        return self.stem.with_name(self.stem.name + _CELLS)

    def all(self) -> tuple[Path, ...]:
        return (*(self.stem.with_name(self.stem.name + suffix) for suffix in _suffixes()), self.preview)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outputs are wanted beside the label map, and what they say of how they were made.

    kinds: of KINDS; provenance goes into every DICOM object; policy is what scans are read with (None:
    the default one); deidentify: DICOM objects without what identifies the patient (PS3.15 annex E);
    seg_type: LABELMAP stores all labels in one frame a slice, for archives that know DICOM of 2024.

    Raises UsageError for a kind that there is not.
    """

    kinds: frozenset[str]
    provenance: Mapping[str, str]
    policy: Reading | None = None
    deidentify: bool = False
    seg_type: SegType = "BINARY"

    def __post_init__(self) -> None:
        unknown = sorted(self.kinds - set(KINDS))
        if unknown:
            raise UsageError(f"there is no output {unknown[0]!r}; there are {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True)
class Output:
    """One file that was written. kind: of KINDS; sha256: 64 hex digits of its bytes."""

    kind: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for one scan.

    labelmap: its path; outputs: every file, the label map first; findings: what could not be made, and
    why; measurements: label -> what was measured (the rows of measurements.json), ready for JSON.
    """

    labelmap: Path
    outputs: tuple[Output, ...]
    findings: tuple[Finding, ...] = ()
    measurements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def targets_of(sources: Iterable[Source], output: Path) -> dict[str, Targets]:
    """The targets of every source, by name; no two share a file and none leaves `output`.

    Raises UsageError where a name would lead out of the folder or a target is one of the scans.
    """
    sources = tuple(sources)
    scans = {file.resolve() for source in sources for file in source.files}
    stems = {source.name: _stem(source.name, output) for source in sources}
    taken = {stem.with_name(stem.name + suffix) for stem in stems.values() for suffix in _suffixes()}
    made: dict[str, Targets] = {}
    for name, stem in stems.items():
        # A scan in a folder that is itself called previews/ may claim the file already.
        preview = output / PREVIEWS / f"{name}.png"
        while preview in taken:
            preview = preview.with_name(f"{preview.stem}-preview.png")
        taken.add(preview)
        made[name] = Targets(stem, preview)
        for path in made[name].all():
            if path.resolve() in scans:
                raise UsageError(f"{output}: the results would overwrite the scan {path}; choose another -o")
    return made


def _stem(name: str, output: Path) -> Path:
    parts = PurePosixPath(name)
    if parts.is_absolute() or not parts.parts or ".." in parts.parts:
        raise UsageError(f"{name!r} would lead out of {output}; rename that scan")
    return output / parts


def write_outputs(prediction: Prediction, targets: Targets, wanted: Wanted) -> Written:
    """Write the label map, measure it, and write what is wanted beside it, all from the one label map.

    Only the label map is essential: an object that cannot be made or a preview that cannot be drawn
    becomes a finding, and no file of an earlier run stays in its place. A structured report refers to
    the segmentation, which is therefore written with it. Raises FormatError or OSError where the
    label map cannot be written.
    """
    from medseg import formats
    from medseg.evaluation.cells import cell_table
    from medseg.evaluation.measure import measure

    for stale in (*(targets.dicom(kind) for kind in _DICOM), targets.preview, targets.cells):
        stale.unlink(missing_ok=True)
    path = formats.write_labelmap(prediction.written, prediction.scan.source, targets.stem)
    measured = measure(prediction.scan, prediction.labelmap)
    made = [("nifti", path)]
    if prediction.instances is not None:
        write_text(targets.cells, cell_table(prediction))
        made.append(("cells", targets.cells))
    findings: list[Finding] = []
    for kind, write in _writers(prediction, targets, wanted, measured):
        file = targets.preview if kind == "preview" else targets.dicom(kind)
        finding = _attempt(kind, write)
        if finding is None:
            made.append((kind, file))
        else:
            file.unlink(missing_ok=True)
            findings.append(finding)
    outputs = tuple(Output(kind, file, sha256_of(file)) for kind, file in made)
    channels = prediction.scan.volume.channels
    counted = {} if prediction.instances is None else {OBJECTS: int(prediction.instances.max(initial=0))}
    rows = {measurement.label: {**measurement.plain(channels), **counted} for measurement in measured}
    return Written(path, outputs, tuple(findings), rows)


def sha256_of(path: Path) -> str:
    """64 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _suffixes() -> tuple[str, ...]:
    return (*_LABELMAPS, _CELLS, *_DICOM.values())


def _writers(
    prediction: Prediction, targets: Targets, wanted: Wanted, measured: Sequence[Measurement]
) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is to be written beside the label map: (kind, what writes it), in an order in which each can refer back."""
    if prediction.scan.source.format == "dicom" and wanted.kinds & set(_DICOM):
        yield from _Objects(prediction, targets, wanted, measured).writers()
    if "preview" in wanted.kinds:
        yield "preview", lambda: _write_preview(prediction, targets.preview)


def _attempt(kind: str, write: Callable[[], None]) -> Finding | None:
    """Write one output; what went amiss, where something did."""
    try:
        write()
    except Exception as error:  # a good label map is worth more than a reason to throw it away
        if isinstance(error, OSError) and error.errno in PLACE_FAULTS:
            raise  # but no other output of this batch would fare better
        reason = error.reason if isinstance(error, FormatError) else f"{type(error).__name__}: {error}"
        values = {"because": error.code} if isinstance(error, FormatError) else {}
        return Finding(f"no-{kind}", Severity.WARNING, f"no {_NAMES[kind]}: {reason}", values)
    return None


class _Objects:
    """The DICOM objects of one prediction. Headers are read once; the report needs the segmentation."""

    def __init__(
        self, prediction: Prediction, targets: Targets, wanted: Wanted, measured: Sequence[Measurement]
    ) -> None:
        self._prediction, self._targets, self._wanted, self._measured = prediction, targets, wanted, measured
        self._derived: Derived | None = None
        self._segmentation: Any = None

    def writers(self) -> Iterator[tuple[str, Callable[[], None]]]:
        kinds = self._wanted.kinds
        makers = {"seg": self._seg, "rtstruct": self._rtstruct, "sr": self._sr, "sc": self._sc}
        for kind, make in makers.items():
            if kind in kinds or (kind == "seg" and "sr" in kinds):
                yield kind, partial(self._write, kind, make)

    def _write(self, kind: str, make: Callable[[], Any]) -> None:
        from medseg.formats.dicom_deidentify import without_dates
        from medseg.formats.dicom_derived import save

        made = make()
        save(without_dates(made) if self._wanted.deidentify else made, self._targets.dicom(kind), self._source())

    def _source(self) -> Derived:
        from medseg.formats.dicom_derived import derive

        if self._derived is None:
            scan, wanted = self._prediction.scan, self._wanted
            words = {**wanted.provenance, **_judgement(self._prediction)}
            self._derived = derive(
                self._prediction.labelmap, scan.source, words, wanted.policy, deidentify=wanted.deidentify
            )
        return self._derived

    def _seg(self) -> Any:
        from medseg.formats.dicom_seg import segmentation

        self._segmentation = segmentation(self._source(), self._wanted.seg_type)
        return self._segmentation

    def _rtstruct(self) -> Any:
        from medseg.formats.rtstruct_write import structure_set

        return structure_set(self._source())

    def _sr(self) -> Any:
        from medseg.formats.dicom_sr import report

        if self._segmentation is None:
            source = self._prediction.scan.source.path
            raise FormatError(source, "there is no segmentation that it could refer to", "no-seg")
        return report(self._source(), self._segmentation, self._measured)

    def _sc(self) -> Any:
        from medseg.evaluation.overlays import overlays
        from medseg.formats.dicom_sc import MOST_FRAMES, capture

        return capture(self._source(), overlays(self._prediction.scan.volume, self._prediction.labelmap, MOST_FRAMES))


def _judgement(prediction: Prediction) -> dict[str, str]:
    """What every object says of the result's quality: the review gate's word, and the Dice that is expected."""
    words = {"review": prediction.outcome.status.value}
    if prediction.expected is not None:
        dice, low, high = prediction.expected.dice, prediction.expected.low, prediction.expected.high
        words["expected_dice"] = f"{dice:.3f} ({low:.3f} to {high:.3f})"
    return words


def _write_preview(prediction: Prediction, path: Path) -> None:
    from medseg.evaluation.cells import painted
    from medseg.evaluation.pictures import preview

    preview(prediction.scan.volume, painted(prediction), path)


def remove_outputs(targets: Targets) -> None:
    """Remove what an earlier run wrote for this scan, so that nothing stale stands beside the new."""
    for path in targets.all():
        path.unlink(missing_ok=True)


def remove_half_files(output: Path) -> None:
    """Remove the temporary files that a killed run left in `output`."""
    for path in output.rglob(".medseg-*"):
        if path.is_file():
            path.unlink(missing_ok=True)
