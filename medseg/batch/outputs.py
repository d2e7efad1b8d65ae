"""Where the files of one scan go, and writing them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from medseg.core.case import Finding, Prediction, Severity, Source
from medseg.core.errors import FormatError, UsageError
from medseg.core.reading import Reading

PREVIEWS = "previews"
# What --outputs may name. The label map (`nifti`) is always written: everything else is made of it.
KINDS = ("nifti", "seg", "rtstruct", "sr", "sc", "preview")
DEFAULT_KINDS = frozenset({"nifti", "seg", "preview"})
_LABELMAPS = (".nii.gz", ".png", ".tif")
_DICOM = {"seg": ".seg.dcm", "rtstruct": ".rtstruct.dcm", "sr": ".sr.dcm", "sc": ".sc.dcm"}


@dataclass(frozen=True, slots=True)
class Targets:
    """The files that one scan may give: `stem` + .nii.gz, .png, .tif, .seg.dcm, …, and a preview."""

    stem: Path
    preview: Path

    def dicom(self, kind: str) -> Path:
        """The file of a DICOM object: seg, rtstruct, sr or sc."""
        return self.stem.with_name(self.stem.name + _DICOM[kind])

    def all(self) -> tuple[Path, ...]:
        return (*(self.stem.with_name(self.stem.name + suffix) for suffix in _suffixes()), self.preview)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outputs are wanted beside the label map, and what they say of how they were made.

    kinds: of KINDS; provenance goes into every DICOM object; policy is what scans are read with (None:
    the default one); deidentify: DICOM objects without what identifies the patient (PS3.15 annex E).

    Raises UsageError for a kind that there is not.
    """

    kinds: frozenset[str]
    provenance: Mapping[str, str]
    policy: Reading | None = None
    deidentify: bool = False

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
    """Write the label map and what is wanted beside it.

    Only the label map is essential: an object that cannot be made or a preview that cannot be drawn
    becomes a finding. Raises FormatError or OSError where the label map cannot be written.
    """
    from medseg import formats

    source = prediction.scan.source
    findings: list[Finding] = []
    path = formats.write_labelmap(prediction.labelmap, source, targets.stem)
    made = [("nifti", path)]
    if "seg" in wanted.kinds and source.format == "dicom":
        findings += _write_seg(prediction, targets.dicom("seg"), wanted)
        made.append(("seg", targets.dicom("seg")))
    if "preview" in wanted.kinds:
        findings += _write_preview(prediction, targets.preview)
        made.append(("preview", targets.preview))
    outputs = tuple(Output(kind, file, sha256_of(file)) for kind, file in made if file.exists())
    volumes = {label: {"volume_ml": ml} for label, ml in prediction.labelmap.volumes_ml().items()}
    return Written(path, outputs, tuple(findings), volumes)


def sha256_of(path: Path) -> str:
    """64 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _suffixes() -> tuple[str, ...]:
    return (*_LABELMAPS, *_DICOM.values())


def _write_seg(prediction: Prediction, path: Path, wanted: Wanted) -> list[Finding]:
    from medseg.formats.dicom_seg import write_segmentation

    try:
        source = prediction.scan.source
        write_segmentation(prediction.labelmap, source, path, wanted.provenance, wanted.policy)
    except FormatError as error:
        return [Finding(error.code, Severity.WARNING, f"no DICOM SEG: {error.reason}")]
    except Exception as error:  # a good label map is worth more than a reason to throw it away
        return [Finding("no-seg", Severity.WARNING, f"no DICOM SEG: {type(error).__name__}: {error}")]
    return []


def _write_preview(prediction: Prediction, path: Path) -> list[Finding]:
    from medseg.evaluation.pictures import preview

    try:
        preview(prediction.scan.volume, prediction.labelmap, path)
    except Exception as error:  # as above
        return [Finding("no-preview", Severity.WARNING, f"no preview: {type(error).__name__}: {error}")]
    return []


def remove_outputs(targets: Targets) -> None:
    """Remove what an earlier run wrote for this scan, so that nothing stale stands beside the new."""
    for path in targets.all():
        path.unlink(missing_ok=True)


def remove_half_files(output: Path) -> None:
    """Remove the temporary files that a killed run left in `output`."""
    for path in output.rglob(".medseg-*"):
        if path.is_file():
            path.unlink(missing_ok=True)
