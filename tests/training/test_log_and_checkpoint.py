"""What a kill may leave behind, and that a run goes on from it as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medseg.core.errors import UsageError
from medseg.core.plan import Schedule
from medseg.training import log
from medseg.training.checkpoint import Position, load_checkpoint, save_checkpoint
from medseg.training.fit import make_optimizer


def _steps(count: int) -> list[log.StepRecord]:
    return [log.StepRecord(step, step / 7, 1e-3 / (step + 1), 1.0 / 3 + step) for step in range(count)]


def test_steps_come_back_to_the_bit_and_without_a_torn_last_line(tmp_path: Path) -> None:
    log.append_steps(tmp_path, _steps(3))
    log.append_steps(tmp_path, [log.StepRecord(3, 3 / 7, 1e-3 / 4, 1.0 / 3 + 3)])
    assert log.read_steps(tmp_path) == _steps(4)
    path = tmp_path / log.STEPS
    path.write_text(path.read_text() + "4,0.57")
    assert log.read_steps(tmp_path) == _steps(4)
    assert log.keep_steps(tmp_path, 2) == _steps(2) == log.read_steps(tmp_path)


def test_a_run_without_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither be replayed nor resumed"):
        log.read_steps(tmp_path)


def test_epochs_round_trip(tmp_path: Path) -> None:
    records = [log.EpochRecord(25, 1, 3.5, 0.25, 1e-3, 0.5), log.EpochRecord(50, 2, 7.0, 0.5, 5e-4, 0.25, 0.8125)]
    log.write_epochs(tmp_path, records)
    assert log.read_epochs(tmp_path) == records


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2), torch.nn.Conv3d(2, 2, 3, padding=1))
    return layers.to(memory_format=torch.channels_last_3d)  # as the networks are built


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_checkpoint_continues_exactly(tmp_path: Path, name: str) -> None:
    schedule = Schedule(optimizer=name, learning_rate=1e-2)  # type: ignore[arg-type]  # parametrised literal
    batches = [torch.randn(2, 1, 5, 5, 5, generator=torch.Generator().manual_seed(i)) for i in range(6)]

    def run(network: torch.nn.Module, optimizer: torch.optim.Optimizer, part: list[torch.Tensor]) -> None:
        for batch in part:
            optimizer.zero_grad()
            network(batch).square().mean().backward()
            optimizer.step()

    whole = _network()
    optimizer = make_optimizer(whole, schedule)
    run(whole, optimizer, batches)

    first = _network()
    optimizer = make_optimizer(first, schedule)
    run(first, optimizer, batches[:3])
    average = {key: value.clone() * 2 for key, value in first.state_dict().items()}
    save_checkpoint(tmp_path / "c.safetensors", first, average, optimizer, Position(3, 12.5, 0.5))

    second = _network()
    optimizer = make_optimizer(second, schedule)
    loaded = {key: torch.zeros_like(value) for key, value in second.state_dict().items()}
    position = load_checkpoint(tmp_path / "c.safetensors", second, loaded, optimizer)
    assert position == Position(3, 12.5, 0.5)
    assert all(torch.equal(loaded[key], average[key]) for key in average)
    run(second, optimizer, batches[3:])
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all!")
    network = _network()
    with pytest.raises(UsageError, match="no checkpoint of this run"):
        load_checkpoint(path, network, None, make_optimizer(network, Schedule()))
