"""Several processes that train one model: the same result as one, and a clean end when one is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medseg.training import log
from medseg.training.team import Team

PROGRAM = Path(__file__).with_name("distributed_run.py")


def _run(processes: int, task: Path, output: Path, steps: int, dies_at: int = -1) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, str(PROGRAM), str(task / "task.yaml"), str(task), str(output), str(steps), str(dies_at)]
    # One thread each, as torchrun has it: sums are then added up in one order.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def test_a_team_of_one_keeps_everything_to_itself() -> None:
    team = Team(torch.device("cpu"))
    values = torch.arange(3.0)
    network = torch.nn.Linear(2, 2)
    assert team.leads and team.share("text") == "text" and team.agree(0.5) == 0.5
    assert team.mean(values) is values and team.shared(network) is network


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_with_accumulated_gradients(blobs: Path, tmp_path: Path) -> None:
    one = _run(1, blobs, tmp_path / "one", 20)
    two = _run(2, blobs, tmp_path / "two", 20)
    assert one.returncode == 0, one.stderr[-2000:]
    assert two.returncode == 0, two.stderr[-2000:]
    alone, together = ([record.loss for record in log.read_steps(tmp_path / name)] for name in ("one", "two"))
    assert len(alone) == 20 and alone[-1] < alone[0]
    assert together == pytest.approx(alone, abs=1e-4)
    # Both processes give the leader's result, one of them as the leader.
    told = [line.split()[2:] for line in two.stdout.splitlines() if line.startswith("rank ")]
    assert sorted(leads for leads, *_ in told) == ["False", "True"] and told[0][1:] == told[1][1:]


@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_it_goes_on_from_its_checkpoint(blobs: Path, tmp_path: Path) -> None:
    whole = _run(2, blobs, tmp_path / "whole", 20)
    broken = _run(2, blobs, tmp_path / "broken", 20, dies_at=12)
    assert whole.returncode == 0 and broken.returncode != 0
    assert (tmp_path / "broken" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "broken" / "bundle").exists() and not list((tmp_path / "broken").rglob(".medseg-*"))
    resumed = subprocess.run(
        [sys.executable, "-m", "medseg", "train", str(tmp_path / "broken"), "--resume"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    losses = [[record.loss for record in log.read_steps(tmp_path / name)] for name in ("whole", "broken")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
