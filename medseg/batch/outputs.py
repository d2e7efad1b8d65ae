"""Where the files of one scan go, and writing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medseg.core.case import Finding, Prediction, Severity, Source
from medseg.core.errors import FormatError, UsageError
from medseg.core.reading import Reading

PREVIEWS = "previews"
_LABELMAPS = (".nii.gz", ".png", ".tif")
_SEG = ".seg.dcm"


@dataclass(frozen=True, slots=True)
class Targets:
    """The files that one scan may give: `stem` + .nii.gz, .png, .tif or .seg.dcm, and a preview."""

    stem: Path
    preview: Path

    @property
    def seg(self) -> Path:
        return self.stem.with_name(self.stem.name + _SEG)

    def all(self) -> tuple[Path, ...]:
        maps = tuple(self.stem.with_name(self.stem.name + suffix) for suffix in _LABELMAPS)
        return (*maps, self.seg, self.preview)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outputs beside the label map are wanted.

    provenance goes into DICOM SEG; policy is what scans are read with (None: the default one).
    """

    seg: bool
    previews: bool
    provenance: Mapping[str, str]
    policy: Reading | None = None


def targets_of(sources: Iterable[Source], output: Path) -> dict[str, Targets]:
    """The targets of every source, by name; no two share a file and none leaves `output`.

    Raises UsageError where a name would lead out of the folder or a target is one of the scans.
    """
    sources = tuple(sources)
    scans = {file.resolve() for source in sources for file in source.files}
    stems = {source.name: _stem(source.name, output) for source in sources}
    taken = {stem.with_name(stem.name + suffix) for stem in stems.values() for suffix in (*_LABELMAPS, _SEG)}
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


def write_outputs(prediction: Prediction, targets: Targets, wanted: Wanted) -> tuple[Path, list[Finding]]:
    """Write label map, DICOM SEG and preview; returns the label map's path and what went amiss.

    Only the label map is essential: a SEG that cannot be made or a preview that cannot be drawn
    becomes a finding. Raises FormatError or OSError where the label map cannot be written.
    """
    from medseg import formats

    source = prediction.scan.source
    findings: list[Finding] = []
    path = formats.write_labelmap(prediction.labelmap, source, targets.stem)
    if wanted.seg and source.format == "dicom":
        findings += _write_seg(prediction, targets.seg, wanted)
    if wanted.previews:
        findings += _write_preview(prediction, targets.preview)
    return path, findings


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
