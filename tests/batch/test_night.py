"""A night of scans: killed at any moment, run again, it ends as if nothing had happened; none lost, none twice."""

from __future__ import annotations

import csv
import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg import formats
from medseg.batch.ledger import State, read_ledger
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.formats.dicom_write import write_series

pytestmark = pytest.mark.slow
SCANS, FEWER, KILLS = 200, 60, 5
EVERY = 5  # scan that is a DICOM series
SHAPE = (14, 12, 8)


def _image(seed: int) -> Volume:
    rng = np.random.default_rng(seed)
    array = rng.normal(40, 10, (1, *SHAPE)).astype(np.float32)
    array[0, 4:10, 3:9, 2:6] += 80
    return Volume(array, Geometry.from_spacing((1.0, 1.0, 1.2), SHAPE, (seed, 0, 0)))


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 scans, DICOM series and NIfTI, one in twenty broken, each in another way."""
    return _scans(tmp_path_factory.mktemp("night") / "scans", SCANS)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 60 of them."""
    return _scans(tmp_path_factory.mktemp("evening") / "scans", FEWER)


def _scans(folder: Path, count: int) -> Path:
    for number in range(count):
        ward = folder / f"ward_{number % 7}"
        if number % 20 == 19:
            BROKEN[number // 20](ward, number)
        elif number % EVERY == 0:
            write_series(_image(number), ward / f"series_{number}", f"s{number}", modality="MR")
        else:
            ward.mkdir(parents=True, exist_ok=True)
            formats.write_volume(_image(number), ward / f"scan_{number}.nii.gz")
    return folder


def _nifti(ward: Path, number: int) -> Path:
    ward.mkdir(parents=True, exist_ok=True)
    path = ward / f"scan_{number}.nii.gz"
    formats.write_volume(_image(number), path)
    return path


def _empty(ward: Path, number: int) -> None:
    _nifti(ward, number).write_bytes(b"")


def _text(ward: Path, number: int) -> None:
    _nifti(ward, number).write_text("no scan", encoding="utf-8")


def _cut(ward: Path, number: int) -> None:
    path = _nifti(ward, number)
    path.write_bytes(path.read_bytes()[:-200])


def _short(ward: Path, number: int) -> None:
    path = _nifti(ward, number)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-999]))


def _flipped(ward: Path, number: int) -> None:
    path = _nifti(ward, number)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _label_map(ward: Path, number: int) -> None:
    path = _nifti(ward, number)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[3:8, 3:8, 3:6] = 1
    formats.write_labelmap(LabelMap(mask, _image(number).geometry), formats.source_of(path), ward / f"scan_{number}")


def _constant(ward: Path, number: int) -> None:
    path = _nifti(ward, number)
    formats.write_volume(Volume(np.ones((1, *SHAPE), np.float32), _image(number).geometry), path)


def _missing_slice(ward: Path, number: int) -> None:
    folder = ward / f"series_{number}"
    write_series(_image(number), folder, f"s{number}", modality="MR")
    sorted(folder.iterdir())[3].unlink()


def _other_modality(ward: Path, number: int) -> None:
    write_series(_image(number), ward / f"series_{number}", f"s{number}", modality="CT")


def _cut_slice(ward: Path, number: int) -> None:
    folder = ward / f"series_{number}"
    write_series(_image(number), folder, f"s{number}", modality="MR")
    path = sorted(folder.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-60])


BROKEN: tuple[Callable[[Path, int], None], ...] = (
    _empty, _text, _cut, _short, _flipped, _label_map, _constant, _missing_slice, _other_modality, _cut_slice,
)  # fmt: skip


def command(scans: Path, bundle: Path, output: Path, *more: str) -> list[str]:
    plain = [sys.executable, "-m", "medseg", "predict", str(scans), "--model", str(bundle), "-o", str(output)]
    return [*plain, "--device", "cpu", "--no-previews", *more]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=200, check=False)


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "results.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    for row in listed:
        row.pop("seconds")
    return listed


def outputs(output: Path) -> dict[str, bytes]:
    """Every file but the ledger and what is written from it; of DICOM what is no UID and no date."""
    files = {}
    for path in sorted(output.rglob("*")):
        if not path.is_file() or path.name.startswith("ledger") or path.name == "results.csv":
            continue
        name = path.relative_to(output).as_posix()
        files[name] = _steady(path) if path.suffix == ".dcm" else path.read_bytes()
    return files


def _steady(path: Path) -> bytes:
    dataset = pydicom.dcmread(path)
    told = [f"{element.tag} {element.value!r}" for element in dataset.iterall() if element.VR not in _CHANGING]
    return "\n".join(told).encode()


_CHANGING = {"UI", "DA", "TM", "DT", "SQ"}


def test_kills_change_nothing(night: Path, bundle_folder: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run(*command(night, bundle_folder, whole))
    assert done.returncode == 1, done.stderr
    assert len(rows(whole)) == SCANS
    ended: dict[str, float | None] = {}
    rng = random.Random(4)
    for _ in range(KILLS):
        _killed(command(night, bundle_folder, killed), killed, rng)
        entries = read_ledger(killed)[0]
        for entry in entries:  # what was done stays done, untouched
            assert ended.get(entry.scan, entry.finished) == entry.finished
            if entry.state in (State.DONE, State.REVIEW):
                ended[entry.scan] = entry.finished
    assert 0 < len(ended) < SCANS
    done = run(*command(night, bundle_folder, killed))
    assert done.returncode == 1, done.stderr
    entries = {entry.scan: entry for entry in read_ledger(killed)[0]}
    assert {scan: entries[scan].finished for scan in ended} == ended
    assert rows(killed) == rows(whole)
    assert outputs(killed) == outputs(whole)
    states = [entry.state for entry in entries.values()]
    assert set(states) <= {State.DONE, State.REVIEW, State.REFUSED, State.FAILED}
    assert sum(state in (State.REFUSED, State.FAILED) for state in states) == len(BROKEN)
    assert not list(killed.rglob(".medseg-*"))


def _killed(arguments: list[str], output: Path, rng: random.Random) -> None:
    """Run until some more series are done, and then a random moment longer."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = _count(output)
    wanted = before + rng.randint(5, 30)
    deadline = time.monotonic() + 100
    while _count(output) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(rng.random() * 0.1)
    assert process.poll() is None, "ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _count(output: Path) -> int:
    return sum(1 for path in output.rglob("*.nii.gz") if not path.name.startswith("."))


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system")
def test_a_full_disk_is_one_sentence_and_no_half_file(evening: Path, bundle_folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        arguments = command(evening, bundle_folder, small / "out")
        done = run(*arguments)
        assert done.returncode == 1
        assert "disk is full" in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("medseg: ")
        for path in (small / "out").rglob("*.nii.gz"):
            formats.read_labels(formats.source_of(path))
        assert run("mount", "-o", "remount,size=20m", str(small)).returncode == 0
        done = run(*arguments)
        assert done.returncode == 1 and len(rows(small / "out")) == FEWER, done.stderr
        whole = tmp_path / "whole"
        run(*command(evening, bundle_folder, whole))
        assert rows(small / "out") == rows(whole) and outputs(small / "out") == outputs(whole)
    finally:
        run("umount", "-l", str(small))


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a read-only file system")
def test_a_read_only_folder_is_one_sentence(evening: Path, bundle_folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        process = subprocess.Popen(command(evening, bundle_folder, small / "out"), stderr=subprocess.PIPE, text=True)
        while _count(small) < 10 and process.poll() is None:
            time.sleep(0.02)
        # What is open for writing keeps a file system from becoming read-only: a bind mount on top does.
        assert run("mount", "--bind", str(small), str(small)).returncode == 0
        assert run("mount", "-o", "remount,ro,bind", str(small)).returncode == 0
        _, said = process.communicate(timeout=100)
        assert process.returncode in (0, 1) and "Traceback" not in said
        done = run(*command(evening, bundle_folder, small / "out"))
        assert done.returncode == 1 and "cannot be written to" in done.stderr and "Traceback" not in done.stderr
        assert run("umount", "-l", str(small)).returncode == 0
        done = run(*command(evening, bundle_folder, small / "out"))
        assert len(rows(small / "out")) == FEWER, done.stderr
    finally:
        run("umount", "-l", str(small))


def test_scans_that_vanish_stop_the_batch_and_come_back(evening: Path, bundle_folder: Path, tmp_path: Path) -> None:
    scans, output = tmp_path / "scans", tmp_path / "out"
    shutil.copytree(evening, scans)
    process = subprocess.Popen(
        command(scans, bundle_folder, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while _count(output) < 10 and process.poll() is None:
        time.sleep(0.02)
    scans.rename(tmp_path / "away")
    _, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert said.strip().splitlines()[-1].endswith("run the same command again when they are back")
    (tmp_path / "away").rename(scans)
    done = run(*command(scans, bundle_folder, output))
    assert done.returncode == 1 and len(rows(output)) == FEWER
    assert sum(row["status"] in ("ok", "review") for row in rows(output)) == FEWER - FEWER // 20


def _listening() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_and_a_termination_end_cleanly(night: Path, bundle_folder: Path, tmp_path: Path) -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):
        output = tmp_path / stop.name
        process = subprocess.Popen(
            command(night, bundle_folder, output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_listening,
        )
        while _count(output) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(stop)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130 and said.endswith("stopped\n") and "Traceback" not in said
        assert len(rows(output)) == SCANS
        assert not list(output.rglob(".medseg-*")) and not list(output.glob("ledger.sqlite-*"))
    assert run(*command(night, bundle_folder, output)).returncode == 1
