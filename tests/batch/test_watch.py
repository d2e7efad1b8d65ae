"""Scans that arrive while the batch runs are taken when they are quiet, and only then."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg import formats
from medseg.batch.ledger import State, read_ledger
from medseg.batch.run import BatchOptions, predict_folder
from medseg.batch.watch import Arrivals, snapshot
from medseg.core.case import Source
from medseg.core.events import Event, Message, Progress
from medseg.formats.dicom_write import write_series
from medseg.inference import Predictor


def test_a_series_is_ready_when_nothing_of_it_changed_for_long_enough(tmp_path: Path) -> None:
    now = 0.0
    arrivals = Arrivals(10.0, lambda: now, tmp_path / "unpacked")
    one, two = tmp_path / "1.dcm", tmp_path / "2.dcm"
    one.write_bytes(b"abc")
    series = Source(tmp_path, (one,), "dicom", "s")
    assert arrivals.quiet([series]) == []
    now = 9.0
    assert arrivals.quiet([series]) == []
    two.write_bytes(b"def")
    series = Source(tmp_path, (one, two), "dicom", "s")
    now = 10.0  # a file more: wait anew
    assert arrivals.quiet([series]) == []
    now = 19.0
    two.write_bytes(b"defg")
    assert arrivals.quiet([series]) == []
    now = 29.0
    assert arrivals.quiet([series]) == [series]
    arrivals.take([series])
    now = 99.0
    assert arrivals.quiet([series]) == []
    arrivals.put_back("s")
    assert arrivals.quiet([series]) == []
    now = 110.0
    assert arrivals.quiet([series]) == [series]


def test_a_folder_that_cannot_be_read_is_taken_too(tmp_path: Path) -> None:
    clock = [0.0]
    arrivals = Arrivals(10, lambda: clock[0], tmp_path / "unpacked")
    folder = Source(tmp_path, (), "unknown", "locked")
    assert arrivals.quiet([folder]) == []
    clock[0] = 11
    assert arrivals.quiet([folder]) == [folder]


def test_times_of_unpacked_files_mean_nothing(tmp_path: Path) -> None:
    now = 0.0
    arrivals = Arrivals(10.0, lambda: now, tmp_path)
    path = tmp_path / "a.nii"
    path.write_bytes(b"abc")
    source = Source(path, (path,), "nifti", "a")
    arrivals.quiet([source])
    path.unlink()
    path.write_bytes(b"abc")
    now = 10.0
    assert arrivals.quiet([source]) == [source]


def test_a_snapshot_leaves_the_outputs_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "a").write_bytes(b"a")
    before = snapshot(tmp_path, tmp_path / "out")
    (tmp_path / "out" / "b").write_bytes(b"b")
    assert snapshot(tmp_path, tmp_path / "out") == before and len(before) == 1


def test_what_arrives_is_segmented_once_it_is_whole(
    write_scan: Callable[..., Path], predictor: Predictor, tmp_path: Path
) -> None:
    inbox, output = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    volume = formats.read(formats.source_of(write_scan(tmp_path / "x.nii.gz", 3))).volume
    write_series(volume, tmp_path / "series", modality="MR")

    def arrive() -> None:
        write_scan(inbox / "a.nii.gz", 1)
        for path in sorted((tmp_path / "series").iterdir()):
            (inbox / path.name).write_bytes(path.read_bytes())
            time.sleep(0.03)

    def listener(event: Event) -> None:
        said.append(event)
        if isinstance(event, Progress) and event.done == 2:
            raise KeyboardInterrupt

    said: list[Event] = []
    sender = threading.Thread(target=arrive)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        predict_folder(inbox, predictor, output, BatchOptions(frozenset({"nifti"}), quiet_for=0.3), listener)
    sender.join()
    entries = read_ledger(output)[0]
    assert len(entries) == 2 and {entry.state for entry in entries} <= {State.DONE, State.REVIEW}
    assert [entry.attempts for entry in entries] == [1, 1]
    series = next(entry for entry in entries if entry.format == "dicom")
    assert formats.read_labels(formats.source_of(output / str(series.output))).array.shape == volume.geometry.shape
    assert any(isinstance(event, Message) and event.text.startswith("watching") for event in said)


def _listening() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not what():
        assert process.poll() is None and time.monotonic() < until, process.communicate()[1]
        time.sleep(0.05)


def test_the_command_watches_until_it_is_interrupted(
    write_scan: Callable[..., Path], bundle_folder: Path, tmp_path: Path
) -> None:
    inbox, output = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    command = [sys.executable, "-m", "medseg", "predict", inbox, "--model", bundle_folder, "-o", output]
    options = ["--device", "cpu", "--no-previews", "--watch", "--quiet-for", "0.3s"]
    process = subprocess.Popen(
        [*map(str, command), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listening,
    )
    try:
        for name in ("first", "second"):  # the second one arrives while the command watches
            write_scan(tmp_path / f"{name}.nii.gz", len(name)).rename(inbox / f"{name}.nii.gz")
            _wait_for((output / f"{name}.nii.gz").exists, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in said
    entries = read_ledger(output)[0]
    assert sorted(entry.scan for entry in entries) == ["first", "second"]
    assert (output / "results.csv").read_text(encoding="utf-8").count("\n") == 3
    assert not list(output.rglob(".medseg-*")) and not (output / ".ledger.lock").exists()
