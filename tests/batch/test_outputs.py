"""Where outputs go: never on a scan, never on each other, never out of the folder; and what is in them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medseg import formats
from medseg.batch.measurements import write_measurements
from medseg.batch.outputs import (
    KINDS,
    Targets,
    Wanted,
    Written,
    remove_half_files,
    targets_of,
    write_outputs,
)
from medseg.core.case import Outcome, Prediction, Source, Status
from medseg.core.errors import UsageError
from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.reading import Reading
from medseg.core.volume import LabelMap, Volume
from medseg.formats.dicom_write import write_series
from medseg.formats.structures import blank, read_drawing, to_labelmap


def _source(root: Path, name: str, suffix: str = ".png") -> Source:
    path = root / f"{name}{suffix}"
    return Source(path, (path,), "image", name)


def test_no_two_scans_share_a_file(tmp_path: Path) -> None:
    names = ["a", "previews/a", "previews/a-preview", "b.seg"]
    targets = targets_of([_source(tmp_path / "in", name) for name in names], tmp_path / "out")
    files = [path for target in targets.values() for path in target.all()]
    assert len(files) == len(set(files))
    assert targets["a"].preview == tmp_path / "out/previews/a-preview-preview.png"
    assert targets["b.seg"].preview == tmp_path / "out/previews/b.seg.png"


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", ""])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="lead out"):
        targets_of([_source(tmp_path, name)], tmp_path / "out")


def test_a_scan_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would overwrite the scan"):
        targets_of([_source(tmp_path, "a")], tmp_path)


def test_half_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    half, whole = tmp_path / "sub/.medseg-x.nii.gz", tmp_path / "sub/a.nii.gz"
    half.touch()
    whole.touch()
    remove_half_files(tmp_path)
    assert whole.exists() and not half.exists()


# ---- what is written ----------------------------------------------------------------------------

LABELS = (Label("left lung", 1, color=(230, 159, 0)), Label("absent", 2))
MADE_BY = {"model": "abc", "task": "toy"}


def _ct(folder: Path) -> Prediction:
    """A prediction for a small CT series."""
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    values = np.random.default_rng(1).integers(-900, 900, (1, 12, 10, 5)).astype(np.float32)
    write_series(Volume(values, Geometry(affine, values.shape[1:])), folder)
    scan = formats.read(formats.source_of(folder))
    array = np.zeros(scan.volume.geometry.shape, np.uint8)
    array[3:9, 2:8, 1:4] = 1
    array[5, 5, 2] = 0
    return Prediction(LabelMap(array, scan.volume.geometry, LABELS), scan, Outcome(Status.REVIEW, "odd"), 0.9)


def _write(prediction: Prediction, out: Path, kinds: Iterable[str] = KINDS, **options: Any) -> Written:
    targets = Targets(out / "a", out / "previews/a.png")
    return write_outputs(prediction, targets, Wanted(frozenset(kinds), MADE_BY, **options))


def test_every_kind_is_written_with_its_checksum(tmp_path: Path) -> None:
    written = _write(_ct(tmp_path / "in"), tmp_path / "out")
    assert not written.findings
    assert [output.kind for output in written.outputs] == list(KINDS)
    names = [output.path.name for output in written.outputs]
    assert names == ["a.nii.gz", "a.seg.dcm", "a.rtstruct.dcm", "a.sr.dcm", "a.sc.dcm", "a.png"]
    for output in written.outputs:
        assert output.sha256 == hashlib.sha256(output.path.read_bytes()).hexdigest()
    assert written.labelmap == written.outputs[0].path
    assert {path for path in (tmp_path / "out").rglob("*") if path.is_file()} == {o.path for o in written.outputs}


def test_all_objects_hold_the_one_label_map(tmp_path: Path) -> None:
    prediction = _ct(tmp_path / "in")
    written = _write(prediction, tmp_path / "out")
    files = {output.kind: output.path for output in written.outputs}
    stored = formats.read_labels(formats.source_of(files["nifti"]))
    assert np.array_equal(stored.array, prediction.labelmap.array)
    for kind in ("seg", "rtstruct"):
        drawing = read_drawing(formats.source_of(files[kind]), prediction.scan.source, Reading())
        slices = blank(drawing)
        assert [structure.name for structure in drawing.structures] == ["left lung", "absent"]
        for piece in drawing.structures[0].patches:
            rows, columns = piece.mask.shape
            slices[piece.k, piece.row : piece.row + rows, piece.column : piece.column + columns] = piece.mask
        assert np.array_equal(to_labelmap(slices, drawing, ()).array, prediction.labelmap.array)
        assert not drawing.structures[1].patches
    lung = written.measurements["left lung"]
    assert lung["volume_ml"] == pytest.approx(107 * 3 / 1000)
    assert written.measurements["absent"]["volume_ml"] == 0.0
    assert b"model=abc" in files["sr"].read_bytes() and b"review=review" in files["sr"].read_bytes()


def test_a_report_brings_the_segmentation_that_it_refers_to(tmp_path: Path) -> None:
    written = _write(_ct(tmp_path / "in"), tmp_path / "out", ["sr"])
    assert [output.kind for output in written.outputs] == ["nifti", "seg", "sr"]


def test_what_cannot_be_made_is_a_finding_and_leaves_nothing_stale(tmp_path: Path) -> None:
    prediction = _ct(tmp_path / "in")
    _write(prediction, tmp_path / "out")
    for file in prediction.scan.source.files:
        dataset = pydicom.dcmread(file)
        dataset.FrameOfReferenceUID = ""
        dataset.save_as(file)
    written = _write(prediction, tmp_path / "out")
    assert [finding.code for finding in written.findings] == ["no-seg", "no-rtstruct", "no-sr"]
    assert written.findings[0].values == {"because": "missing-uids"}
    assert [output.kind for output in written.outputs] == ["nifti", "sc", "preview"]
    assert not (tmp_path / "out/a.seg.dcm").exists()


def test_an_empty_result_is_an_explicit_negative_in_every_kind(tmp_path: Path) -> None:
    prediction = _ct(tmp_path / "in")
    prediction.labelmap.array[:] = 0
    written = _write(prediction, tmp_path / "out")
    assert not written.findings and len(written.outputs) == len(KINDS)
    assert {row["volume_ml"] for row in written.measurements.values()} == {0.0}


def test_scans_that_are_no_dicom_have_a_label_map_measurements_and_a_preview(tmp_path: Path) -> None:
    prediction = _ct(tmp_path / "in")
    formats.write_volume(prediction.scan.volume, tmp_path / "a.nii.gz")
    scan = formats.read(formats.source_of(tmp_path / "a.nii.gz"))
    written = _write(Prediction(prediction.labelmap, scan, Outcome(Status.OK)), tmp_path / "out")
    assert [output.kind for output in written.outputs] == ["nifti", "preview"]
    assert written.measurements["left lung"]["mean"] is not None


def test_a_picture_has_a_capture_but_no_place_in_the_body(tmp_path: Path) -> None:
    values = np.zeros((1, 24, 10, 1), np.float32)  # columns, rows
    write_series(Volume(values, Geometry.from_spacing((1, 1, 1), values.shape[1:])), tmp_path / "in")
    (file,) = (tmp_path / "in").iterdir()
    dataset = pydicom.dcmread(file)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.FrameOfReferenceUID
    dataset.save_as(file)
    source = replace(formats.discover(tmp_path / "in")[0], findings=())
    scan = formats.read(source)
    array = np.zeros(scan.volume.geometry.shape, np.uint8)
    assert array.shape == (10, 24, 1)
    array[2:5, 12:20] = 1
    prediction = Prediction(LabelMap(array, scan.volume.geometry, LABELS), scan, Outcome(Status.OK))
    written = _write(prediction, tmp_path / "out")
    assert [finding.code for finding in written.findings] == ["no-seg", "no-rtstruct", "no-sr"]
    capture = pydicom.dcmread(next(output.path for output in written.outputs if output.kind == "sc"))
    assert capture.Columns == 512 and capture.Rows < 260


def test_a_segmentation_may_hold_all_labels_in_one_frame_a_slice(tmp_path: Path) -> None:
    prediction = _ct(tmp_path / "in")
    written = _write(prediction, tmp_path / "out", ["seg"], seg_type="LABELMAP")
    dataset = pydicom.dcmread(written.outputs[1].path)
    assert dataset.SegmentationType == "LABELMAP"
    drawing = read_drawing(formats.source_of(written.outputs[1].path), prediction.scan.source, Reading())
    voxels = {
        structure.name: sum(int(piece.mask.sum()) for piece in structure.patches) for structure in drawing.structures
    }
    assert voxels["left lung"] == 107


def test_deidentified_objects_do_not_name_the_patient(tmp_path: Path) -> None:
    prediction = _ct(tmp_path / "in")
    patient = str(pydicom.dcmread(prediction.scan.source.files[0]).PatientID).encode()
    kept = _write(prediction, tmp_path / "kept")
    removed = _write(prediction, tmp_path / "removed", deidentify=True)
    for with_it, without in zip(kept.outputs[1:5], removed.outputs[1:5], strict=True):
        assert patient in with_it.path.read_bytes()
        assert patient not in without.path.read_bytes()


def test_kinds_that_there_are_not_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no output 'stl'; there are nifti, seg, rtstruct"):
        Wanted(frozenset({"stl"}), {})


def test_measurements_become_one_row_per_scan_and_label(tmp_path: Path) -> None:
    written = _write(_ct(tmp_path / "in"), tmp_path / "out", [])
    write_measurements(tmp_path, [("ward/a", written.measurements), ("b", written.measurements)], MADE_BY)
    plain = json.loads((tmp_path / "measurements.json").read_text(encoding="utf-8"))
    assert plain["model"] == "abc"
    assert [(row["scan"], row["label"]) for row in plain["measurements"]] == [
        ("ward/a", "left lung"), ("ward/a", "absent"), ("b", "left lung"), ("b", "absent"),
    ]  # fmt: skip
    with (tmp_path / "measurements.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["volume_ml"] for row in rows] == ["0.321", "0.0", "0.321", "0.0"]
    assert rows[1]["mean"] == "" and rows[0]["unit"] == "HU" and rows[0]["model"] == "abc"


def test_a_batch_without_a_segmented_scan_has_empty_tables(tmp_path: Path) -> None:
    write_measurements(tmp_path, [], MADE_BY)
    header = (tmp_path / "measurements.csv").read_text(encoding="utf-8")
    assert header.startswith("scan,label,value,side,voxels,volume_ml,") and header.endswith(",p95,model\n")
    assert json.loads((tmp_path / "measurements.json").read_text(encoding="utf-8"))["measurements"] == []
