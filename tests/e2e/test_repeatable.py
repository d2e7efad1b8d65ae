"""Same seed, same weights; a replay repeats a timed run; a kill costs nothing but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medseg import TrainOptions, train
from medseg.bundle import Bundle
from medseg.core.errors import UsageError
from medseg.training import log


def _losses(run: Path) -> list[float]:
    return [record.loss for record in log.read_steps(run)]


def test_one_seed_gives_one_model_and_another_seed_another(blobs: Path, tmp_path: Path) -> None:
    options = TrainOptions(steps=8, device="cpu", seed=3)
    one = train(blobs / "task.yaml", blobs, tmp_path / "one", options)
    two = train(blobs / "task.yaml", blobs, tmp_path / "two", options)
    assert _losses(one.run) == _losses(two.run) and len(_losses(one.run)) == 8
    assert one.bundle_hash == two.bundle_hash
    other = train(blobs / "task.yaml", blobs, tmp_path / "other", TrainOptions(steps=8, device="cpu", seed=4))
    assert _losses(other.run) != _losses(one.run)


def test_a_timed_run_is_repeated_by_its_replay(blobs: Path, tmp_path: Path) -> None:
    timed = train(blobs / "task.yaml", blobs, tmp_path / "timed", TrainOptions(time_budget=14.0, device="cpu"))
    again = train(output=tmp_path / "again", options=TrainOptions(replay=timed.run, device="cpu"))
    assert len(_losses(timed.run)) > 1
    assert _losses(again.run) == _losses(timed.run)
    assert again.bundle_hash == timed.bundle_hash


def test_a_training_without_time_for_one_step_says_so(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="used up before the first step"):
        train(blobs / "task.yaml", blobs, tmp_path / "run", TrainOptions(time_budget=0.01, device="cpu"))


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(blobs: Path, tmp_path: Path) -> None:
    whole = train(blobs / "task.yaml", blobs, tmp_path / "whole", TrainOptions(steps=40, device="cpu"))
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "medseg", "train", "--task", str(blobs / "task.yaml"), "--data", str(blobs),
               "--steps", "40", "--device", "cpu", "-o", str(run)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (run / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "bundle").exists()
    done = subprocess.run([sys.executable, "-m", "medseg", "train", str(run), "--resume"], capture_output=True,
                          text=True, timeout=240, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Bundle.load(run).hash == whole.bundle_hash
    assert _losses(run) == _losses(whole.run)
    epochs = json.loads((run / "training.json").read_text())["epochs"]
    assert epochs == json.loads((whole.run / "training.json").read_text())["epochs"]
    assert not list(run.rglob(".medseg-*"))


def test_a_run_killed_before_its_first_step_still_knows_what_it_was_asked(blobs: Path, tmp_path: Path) -> None:
    asked = TrainOptions(steps=6, device="cpu", seed=5)
    whole = train(blobs / "task.yaml", blobs, tmp_path / "whole", asked)
    run = tmp_path / "early"
    run.mkdir()
    (run / "run.json").write_bytes((whole.run / "run.json").read_bytes())  # all that such a kill leaves
    done = train(output=run, options=TrainOptions(resume=True, device="cpu"))
    assert done.bundle_hash == whole.bundle_hash
