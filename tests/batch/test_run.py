"""Segmenting folders: every scan has its row, one bad scan never stops the others, nothing leaves OUT."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from medseg import formats
from medseg.batch.outputs import Wanted
from medseg.batch.run import BatchOptions, predict_folder
from medseg.batch.segment import Setup
from medseg.core.case import Prediction, Scan, Status
from medseg.core.errors import UsageError
from medseg.core.events import Event, Progress, silent
from medseg.executors.pipeline import Pipeline
from medseg.inference import Predictor

Write = Callable[..., Path]
OPTIONS = BatchOptions()


@pytest.fixture
def scans(write_scan: Write, tmp_path: Path) -> Path:
    """Two good scans, a label map, and files broken in several ways."""
    folder = tmp_path / "scans"
    write_scan(folder / "a.nii.gz", 1)
    write_scan(folder / "deep/down/b.nii", 2)
    source = formats.source_of(folder / "a.nii.gz")
    geometry = formats.read(source).volume.geometry
    mask = np.zeros(geometry.shape, dtype=np.uint8)
    mask[4:9, 4:9, 4:9] = 1
    formats.write_labelmap(formats.LabelMap(mask, geometry), source, folder / "mask")
    (folder / "empty.nii.gz").touch()
    (folder / "text.nii.gz").write_text("this is no scan", encoding="utf-8")
    whole = (folder / "deep/down/b.nii").read_bytes()
    (folder / "cut.nii").write_bytes(whole[: len(whole) // 2])
    (folder / "README.txt").write_text("about these scans", encoding="utf-8")
    return folder


def _rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["scan"] for row in rows}) == len(rows)
    return {row["scan"]: row for row in rows}


def test_every_scan_has_one_row_and_the_good_ones_a_label_map(
    scans: Path, predictor: Predictor, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    events: list[Event] = []
    result = predict_folder(scans, predictor, output, OPTIONS, events.append)
    rows = _rows(output)
    assert set(rows) == {"a", "deep/down/b", "mask", "empty", "text", "cut"}
    assert [name for name, row in rows.items() if row["status"] in ("ok", "review")] == ["a", "deep/down/b"]
    assert rows["mask"]["status"] == "refused" and "label" in rows["mask"]["reason"]
    for name in ("empty", "text", "cut"):
        assert rows[name]["status"] in ("refused", "failed")
        assert name in rows[name]["path"] and rows[name]["reason"] and rows[name]["findings"]
    assert result.exit_code == 1
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert (last.done, last.total) == (6, 6)


def test_outputs_lie_at_the_scans_names_on_the_scans_grids(scans: Path, predictor: Predictor, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = predict_folder(scans, predictor, output, OPTIONS, silent)
    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert files == {
        "results.csv", "ledger.sqlite", "ledger.backup.sqlite", "measurements.json",
        "measurements.csv", "a.nii.gz", "previews/a.png", "deep/down/b.nii.gz", "previews/deep/down/b.png",
    }  # fmt: skip
    for row in result.rows:
        if row.segmented and row.output is not None:
            scan = formats.read(formats.source_of(scans / row.path))
            labelmap = formats.read_labels(formats.source_of(output / row.output))
            assert labelmap.geometry.same_grid(scan.volume.geometry, 1e-4)
            counts = [int((labelmap.array == value).sum()) for value in (1, 2)]
            voxel = scan.volume.geometry.voxel_volume_ml
            assert [round(ml / voxel) for ml in row.volumes_ml.values()] == counts


def test_out_inside_scans_is_not_segmented_itself(scans: Path, predictor: Predictor) -> None:
    first = predict_folder(scans, predictor, scans / "out", OPTIONS, silent)
    again = predict_folder(scans, predictor, scans / "out", OPTIONS, silent)
    assert [row.scan for row in again.rows] == [row.scan for row in first.rows]


def test_a_single_file_is_a_folder_of_one(write_scan: Write, predictor: Predictor, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in/one.nii.gz")
    result = predict_folder(scan, predictor, tmp_path / "out", BatchOptions(frozenset({"nifti"})), silent)
    assert [(row.scan, row.path, row.output) for row in result.rows] == [("one", "one.nii.gz", "one.nii.gz")]
    assert not (tmp_path / "out/previews").exists()


def test_scans_inside_out_are_segmented(write_scan: Write, predictor: Predictor, tmp_path: Path) -> None:
    write_scan(tmp_path / "in/a.nii.gz")
    result = predict_folder(tmp_path / "in", predictor, tmp_path, OPTIONS, silent)
    assert result.exit_code == 0 and (tmp_path / "a.nii.gz").is_file()


def test_a_scan_that_cannot_be_segmented_any_more_loses_its_old_label_map(
    write_scan: Write, predictor: Predictor, tmp_path: Path
) -> None:
    scan, output = write_scan(tmp_path / "in/a.nii.gz"), tmp_path / "out"
    write_scan(tmp_path / "in/b.nii.gz")
    predict_folder(scan.parent, predictor, output, OPTIONS, silent)
    foreign = output / "notes.nii.gz"
    foreign.write_bytes(b"mine")
    scan.write_bytes(b"broken")
    predict_folder(scan.parent, predictor, output, OPTIONS, silent)
    assert not (output / "a.nii.gz").exists() and not (output / "previews/a.png").exists()
    assert (output / "b.nii.gz").exists() and foreign.read_bytes() == b"mine"


class Failing:
    """A predictor that raises `error` on one scan and is the real one on all others."""

    def __init__(self, real: Predictor, name: str, error: BaseException) -> None:
        self.bundle = real.bundle
        self._real, self._name, self._error = real, name, error

    def predict(self, scan: Scan) -> Prediction:
        if scan.source.name == self._name:
            raise self._error
        return self._real.predict(scan)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("out of\n  luck"), "RuntimeError: out of luck"),
        (MemoryError(), "there is not enough memory for this scan"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_any_exception_is_one_scans_failure(
    write_scan: Write, predictor: Predictor, tmp_path: Path, error: Exception, reason: str
) -> None:
    for name in "abc":
        write_scan(tmp_path / f"in/{name}.nii.gz")
    messages: list[Event] = []
    result = predict_folder(
        tmp_path / "in",
        Failing(predictor, "b", error),
        tmp_path / "out",
        BatchOptions(tracebacks=True),
        messages.append,
    )
    assert [row.segmented for row in result.rows] == [True, False, True]
    assert result.rows[1].status is Status.FAILED and result.rows[1].reason == reason
    assert any("Traceback" in getattr(event, "text", "") for event in messages)


def test_a_preview_that_cannot_be_drawn_is_a_finding(
    write_scan: Write, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no canvas")

    monkeypatch.setattr("medseg.evaluation.pictures.preview", fail)
    write_scan(tmp_path / "in/a.nii.gz")
    (row,) = predict_folder(tmp_path / "in", predictor, tmp_path / "out", OPTIONS, silent).rows
    assert row.segmented and "no-preview" in row.findings and (tmp_path / "out/a.nii.gz").is_file()


def test_an_interrupt_finishes_the_table_and_is_raised_again(
    write_scan: Write, predictor: Predictor, tmp_path: Path
) -> None:
    for name in "abc":
        write_scan(tmp_path / f"in/{name}.nii.gz")
    with pytest.raises(KeyboardInterrupt):
        predict_folder(tmp_path / "in", Failing(predictor, "b", KeyboardInterrupt()), tmp_path / "out", OPTIONS, silent)
    rows = _rows(tmp_path / "out")
    assert [row["status"] in ("ok", "review") for row in rows.values()] == [True, False, False]
    assert "stopped" in rows["c"]["reason"]


def test_wrong_folders_are_refused(write_scan: Write, predictor: Predictor, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "in/a.nii.gz")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match="no such file or folder"):
        predict_folder(tmp_path / "nowhere", predictor, tmp_path / "out", OPTIONS, silent)
    with pytest.raises(UsageError, match="holds no scan"):
        predict_folder(tmp_path / "bare", predictor, tmp_path / "out", OPTIONS, silent)
    with pytest.raises(UsageError, match="the folder of scans itself"):
        predict_folder(tmp_path / "in", predictor, tmp_path / "in", OPTIONS, silent)
    with pytest.raises(UsageError, match="would overwrite the scan"):
        predict_folder(scan, predictor, tmp_path / "in", OPTIONS, silent)
    with pytest.raises(UsageError, match="is a file"):
        predict_folder(tmp_path / "in", predictor, scan, OPTIONS, silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_names_that_are_no_text_are_escaped_in_the_table(
    write_scan: Write, predictor: Predictor, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "in/a.nii.gz")
    scan.rename(scan.with_name(os.fsdecode(b"a\xff.nii.gz")))
    result = predict_folder(tmp_path / "in", predictor, tmp_path / "out", OPTIONS, silent)
    assert result.rows[0].scan == "a\\udcff"
    assert set(_rows(tmp_path / "out")) == {"a\\udcff"}


def test_a_worker_has_one_thread_for_products_of_matrices(predictor: Predictor, tmp_path: Path) -> None:
    # More than one would spin on the cores of the network. A caller's own process keeps what it has.
    make = Setup(lambda: predictor, Wanted(frozenset({"nifti"}), {}), tmp_path)
    with threadpool_limits(2, "blas"):
        before = _blas_threads()
        make()
        assert _blas_threads() == before
        Pipeline(make)
        assert set(_blas_threads()) == {1}


def _blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
