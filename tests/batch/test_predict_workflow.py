"""`medseg.predict` and `medseg predict`, from a saved model to files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner, Result

import medseg
from medseg import formats
from medseg.cli.app import app
from medseg.core.errors import BundleError, UsageError
from medseg.core.reading import Reading
from medseg.formats.dicom_write import write_series
from medseg.formats.structures import read_drawing
from medseg.workflows.predict import PredictOptions, predict

Write = Callable[..., Path]


def _command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments), "--device", "cpu"], prog_name="medseg")


def test_a_run_folder_or_its_bundle_is_the_model(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "in/a.nii.gz")
    options = PredictOptions(device="cpu", previews=False)
    one = predict(tmp_path / "in", bundle_folder, tmp_path / "one", options)
    two = medseg.predict(str(tmp_path / "in"), str(bundle_folder.parent), str(tmp_path / "two"), options)
    assert one.exit_code == two.exit_code == 0
    assert one.model == two.model and len(one.model) == 64
    assert (tmp_path / "one/a.nii.gz").read_bytes() == (tmp_path / "two/a.nii.gz").read_bytes()


def test_flips_and_overlap_reach_the_window(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "in/a.nii.gz")
    confidences = []
    for flips, overlap in ((False, None), (True, None), (False, 0.0)):
        options = PredictOptions("cpu", flips, overlap, previews=False)
        confidences.append(predict(tmp_path / "in", bundle_folder, tmp_path / "out", options).rows[0].confidence)
    assert len(set(confidences)) == 3


def test_an_unusable_model_or_option_is_refused(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in/a.nii.gz")
    with pytest.raises(BundleError, match="no such model"):
        predict(scan, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="overlap"):
        predict(scan, bundle_folder, tmp_path / "out", PredictOptions(overlap=1.0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "stored"), [("binary", "BINARY"), ("labelmap", "LABELMAP")])
def test_the_type_of_the_segmentation_is_chosen(
    write_scan: Write, bundle_folder: Path, tmp_path: Path, kind: str, stored: str
) -> None:
    volume = formats.read(formats.source_of(write_scan(tmp_path / "x.nii.gz"))).volume
    write_series(volume, tmp_path / "in/series", modality="MR")
    result = _command(tmp_path / "in", "--model", bundle_folder, "-o", tmp_path / "out", "--seg-type", kind)
    assert result.exit_code == 0, result.output
    (path,), (labelmap,) = ((tmp_path / "out").rglob(pattern) for pattern in ("*.seg.dcm", "*.nii.gz"))
    assert pydicom.dcmread(path).SegmentationType == stored
    (source,) = formats.discover(tmp_path / "in")
    drawn = read_drawing(formats.source_of(path), source, Reading()).structures
    found = formats.read_labels(formats.source_of(labelmap)).array
    for value, name in enumerate(("near", "far"), start=1):
        patches = [patch for structure in drawn if structure.name == name for patch in structure.patches]
        assert sum(int(patch.mask.sum()) for patch in patches) == int((found == value).sum())


def test_an_unknown_type_of_segmentation_is_refused(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in/a.nii.gz")
    with pytest.raises(UsageError, match="'fractional'; there are binary, labelmap"):
        predict(scan, bundle_folder, tmp_path / "out", PredictOptions(seg_type="fractional"))


def test_the_command_tells_what_became_of_every_scan(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "in/a.nii.gz")
    (tmp_path / "in/b.nii.gz").write_text("no scan", encoding="utf-8")
    result = _command(tmp_path / "in", "--model", bundle_folder, "-o", tmp_path / "out")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["scan", "status", "near", "(ml)", "far", "(ml)", "seconds"]
    assert any(": b: " in line for line in lines)
    assert lines[-1].startswith("1 of 2 scans segmented")
    assert "segmenting: 100 %" in result.stderr


def test_debug_shows_why_a_scan_failed(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b.nii.gz").write_text("no scan", encoding="utf-8")
    result = _command(tmp_path / "in", "--model", bundle_folder, "-o", tmp_path / "out", "--debug")
    assert "Traceback" in result.stderr and "FormatError" in result.stderr


def test_json_is_results_csv_as_json(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "in/sub/a.nii.gz")
    result = _command(tmp_path / "in", "--model", bundle_folder, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    with (tmp_path / "out/results.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    (scan,) = plain["scans"]
    assert {key: row[key] for key in ("scan", "path", "format", "status", "reason", "output")} == {
        key: scan[key] for key in ("scan", "path", "format", "status", "reason", "output")
    }
    assert float(row["volume_ml near"]) == scan["volume_ml"]["near"]
    assert row["model"] == plain["model"]


def test_nothing_segmented_is_exit_code_2(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b.nii.gz").touch()
    result = _command(tmp_path / "in", "--model", bundle_folder, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stdout.splitlines()[-1].startswith("0 of 1 scans segmented")


def test_a_dicom_series_gives_a_seg_on_its_frames(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    from medseg.formats.dicom_write import write_series

    volume = formats.read(formats.source_of(write_scan(tmp_path / "a.nii.gz"))).volume
    write_series(volume, tmp_path / "in/series", modality="MR")
    result = predict(tmp_path / "in", bundle_folder, tmp_path / "out", PredictOptions("cpu"))
    (row,) = result.rows
    assert row.segmented and row.scan.startswith("series/series-") and row.output == f"{row.scan}.nii.gz"
    assert (tmp_path / f"out/{row.scan}.seg.dcm").is_file()
    labelmap = formats.read_labels(formats.source_of(tmp_path / "out" / row.output))
    assert np.isclose(row.volumes_ml["near"], (labelmap.array == 1).sum() * labelmap.geometry.voxel_volume_ml)


def test_what_would_need_more_memory_is_refused_with_its_size(
    write_scan: Write, bundle_folder: Path, tmp_path: Path
) -> None:
    from medseg.batch.ledger import read_ledger

    write_scan(tmp_path / "in/a.nii.gz")
    result = predict(tmp_path / "in", bundle_folder, tmp_path / "out", PredictOptions("cpu", memory=50 << 20))
    assert result.exit_code == 2 and "GB of memory" in result.rows[0].reason
    assert read_ledger(tmp_path / "out")[0][0].code == "too-large"
    again = predict(
        tmp_path / "in", bundle_folder, tmp_path / "out", PredictOptions("cpu", memory=4 << 30, retry=("refused",))
    )
    assert again.exit_code == 0


def test_every_kind_of_output_is_in_the_ledger_with_its_checksum(
    write_scan: Write, bundle_folder: Path, tmp_path: Path
) -> None:
    from medseg.batch.ledger import read_ledger
    from medseg.batch.outputs import KINDS, sha256_of
    from medseg.formats.dicom_write import write_series

    volume = formats.read(formats.source_of(write_scan(tmp_path / "a.nii.gz"))).volume
    write_series(volume, tmp_path / "in/series", modality="MR")
    options = PredictOptions("cpu", outputs=KINDS, deidentify=True)
    predict(tmp_path / "in", bundle_folder, tmp_path / "out", options)
    (entry,) = read_ledger(tmp_path / "out")[0]
    assert {file.kind for file in entry.files} == set(KINDS) and not [f for f in entry.findings if f.startswith("no-")]
    assert all(sha256_of(tmp_path / "out" / file.path) == file.sha256 for file in entry.files)
    assert {label["label"] for label in entry.measurements.values()} == {"near", "far"}
    with pytest.raises(UsageError, match="there is no output 'nrrd'; there are nifti, seg"):
        predict(tmp_path / "in", bundle_folder, tmp_path / "out", PredictOptions("cpu", outputs=("nrrd",)))
    with pytest.raises(UsageError, match="there is no 'done'; there are failed"):
        predict(tmp_path / "in", bundle_folder, tmp_path / "out", PredictOptions("cpu", retry=("done",)))


@pytest.mark.parametrize(("given", "words"), [("4", "'4' is not a size"), ("-4G", "'-4G' is not a size")])
def test_a_wrong_size_is_refused(tmp_path: Path, given: str, words: str) -> None:
    result = _command(tmp_path, "--model", tmp_path, "-o", tmp_path / "out", f"--memory={given}")
    assert result.exit_code == 2 and words in result.stderr


def test_selection_leaves_series_out_with_the_reason(write_scan: Write, bundle_folder: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from medseg.batch.run import BatchOptions, predict_folder
    from medseg.bundle import Bundle
    from medseg.core.events import silent
    from medseg.core.selection import Selection
    from medseg.formats.dicom_write import write_series
    from medseg.inference import Predictor

    volume = formats.read(formats.source_of(write_scan(tmp_path / "in/small.nii.gz"))).volume
    write_series(volume, tmp_path / "in/ct", modality="CT")
    write_series(volume, tmp_path / "in/mr", modality="MR")
    bundle = Bundle.load(bundle_folder)
    for selection, reason in (
        (Selection(include_descriptions=("thorax",)), "its series description matches none of those the task includes"),
        (Selection(min_slices=99), "it has 12 slices, fewer than the 99 the task asks for"),
    ):
        task = bundle.task.model_copy(update={"selection": selection})
        picky = Predictor(replace(bundle, task=task, hash=reason), "cpu")
        rows = predict_folder(tmp_path / "in", picky, tmp_path / "out", BatchOptions(), silent).rows
        reasons = {row.path.split("/")[0]: row.reason for row in rows if row.status == "refused"}
        assert reasons["ct"] == "its modality is CT, but the task 'toy' is for MR" and reasons["mr"] == reason
        assert all("not-selected" in row.findings for row in rows if row.status == "refused")
