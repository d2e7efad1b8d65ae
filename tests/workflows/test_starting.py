"""Trainings that start from weights: the file's, or another task's model with its network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.bundle import Bundle
from medseg.core.errors import BundleError, UsageError
from medseg.core.events import Event, Message
from medseg.core.geometry import Geometry
from medseg.core.task import parse_task
from medseg.core.volume import LabelMap, Volume
from medseg.formats import source_of, write_labelmap, write_volume
from medseg.training import log
from medseg.workflows.train import TrainOptions, TrainResult, train

SMALL = {"batch": 2, "schedule.epoch_steps": 2, "schedule.precision": "float32", "schedule.steps": 2}
NETWORK = {
    "network.features": [4, 6],
    "network.strides": [[1, 1], [2, 2]],
    "network.kernels": [[3, 3], [3, 3]],
    "patch": [16, 16, 1],
}


def task(name: str, labels: dict[str, int], plan: dict[str, object]) -> object:
    return parse_task(
        {"name": name, "modality": "other", "dimensions": 2, "labels": labels, "plan": plan}, name
    )  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of one bright and one dark square."""
    folder = tmp_path_factory.mktemp("squares")
    geometry = Geometry.from_spacing((1, 1, 1), (32, 32, 1))
    for number in range(4):
        labels = np.zeros((32, 32, 1), np.uint8)
        labels[4 + number : 12 + number, 5:13] = 1
        labels[18:26, 16 + number : 25 + number] = 2
        noise = np.random.default_rng(number).normal(100, 5, labels.shape)
        image = noise + 60 * (labels == 1) - 60 * (labels == 2)
        path = folder / "images" / f"case_{number}.nii.gz"
        write_volume(Volume(image[None].astype(np.float32), geometry), path)
        write_labelmap(LabelMap(labels, geometry), source_of(path), folder / "labels" / f"case_{number}")
    names = [f"case_{number}" for number in range(4)]
    (folder / "split.json").write_text(json.dumps({"train": names[:3], "validation": names[3:], "test": []}))
    return folder


def learn(name: str, labels: dict[str, int], plan: dict[str, object], where: tuple[Path, Path], **options: object
          ) -> tuple[TrainResult, list[str]]:  # fmt: skip
    cases, output = where
    told: list[Event] = []
    chosen = TrainOptions(device="cpu", split=cases / "split.json", **options)  # type: ignore[arg-type]  # by name
    result = train(task(name, labels, plan), cases, output, chosen, told.append)  # type: ignore[arg-type]
    return result, [event.text for event in told if isinstance(event, Message)]


@pytest.fixture(scope="module")
def first(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A model with two labels and a network of its own."""
    output = tmp_path_factory.mktemp("first") / "run"
    return learn("both", {"bright": 1, "dark": 2}, {**SMALL, **NETWORK}, (cases, output))[0]


def test_fine_tuning_takes_over_network_and_weights_and_records_them(
    first: TrainResult, cases: Path, tmp_path: Path
) -> None:
    plan = {**SMALL, "schedule.learning_rate": 1e-12, "schedule.ema": 0.0, "patch": [32, 32, 1]}
    labels = {"square": [1, 2]}
    result, told = learn("any", labels, plan, (cases, tmp_path / "run"), finetune=first.run)  # type: ignore[arg-type]
    ours, theirs = result.bundle.plan.network, first.bundle.plan.network
    assert (ours.features, ours.strides, ours.kernels) == (theirs.features, theirs.strides, theirs.kernels)
    assert ours.out_channels == 2 and theirs.out_channels == 3
    # At that learning rate nothing was learnt, so what fitted is still the first model's.
    assert torch.allclose(result.bundle.state["encoder.0.0.weight"], first.bundle.state["encoder.0.0.weight"])
    assert result.bundle.provenance["started_from"] == {"bundle_hash": first.bundle_hash}
    assert any("tensors taken" in text and "another number of classes" in text for text in told)
    options = json.loads((result.run / "run.json").read_text("utf-8"))["options"]
    assert options["finetune"] == str(first.run.resolve()) and options["weights"] is None

    # A repeated run starts from the same weights.
    again = train(output=tmp_path / "again", options=TrainOptions(device="cpu", replay=result.run))
    assert [record.loss for record in log.read_steps(again.run)] == [r.loss for r in log.read_steps(result.run)]
    assert again.bundle_hash == result.bundle_hash


def test_weights_of_a_file_go_into_the_planned_network(first: TrainResult, cases: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({name: value for name, value in first.bundle.state.items() if name.startswith("encoder.")}, file)
    plan = {**SMALL, **NETWORK, "schedule.learning_rate": 1e-12, "schedule.ema": 0.0}
    result, told = learn("both", {"bright": 1, "dark": 2}, plan, (cases, tmp_path / "run"), weights=file)
    assert torch.allclose(result.bundle.state["encoder.0.0.weight"], first.bundle.state["encoder.0.0.weight"])
    assert not torch.allclose(result.bundle.state["heads.0.weight"], first.bundle.state["heads.0.weight"])
    assert result.bundle.provenance["started_from"]["file"] == "weights.pth"
    assert any(text.startswith("weights.pth: ") and "fresh in the network" in text for text in told)


def test_what_cannot_be_started_from_is_refused_before_any_work(
    first: TrainResult, cases: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights.pth").write_text("no weights")
    output = tmp_path / "run"
    with pytest.raises(UsageError, match="damaged"):
        learn("both", {"bright": 1}, {}, (cases, output), weights=tmp_path / "weights.pth")
    with pytest.raises(BundleError):
        learn("both", {"bright": 1}, {}, (cases, output), finetune=tmp_path)
    with pytest.raises(UsageError, match="not from both"):
        learn("both", {"bright": 1}, {}, (cases, output), finetune=first.run, weights=tmp_path / "weights.pth")
    assert not output.exists()


def test_networks_that_were_asked_for_stay(first: TrainResult, cases: Path, tmp_path: Path) -> None:
    plan = {**SMALL, **NETWORK, "network.features": [4, 8]}
    result, told = learn("both", {"bright": 1, "dark": 2}, plan, (cases, tmp_path / "run"), finetune=first.run)
    assert result.bundle.plan.network.features == (4, 8)
    assert any("not its network" in text for text in told)
    assert Bundle.load(result.run).hash == result.bundle_hash
