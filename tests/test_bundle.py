"""Bundles: whole ones come back equal, damaged, foreign and newer ones are refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from medseg.bundle import FORMAT_VERSION, Bundle
from medseg.core.errors import BundleError
from medseg.core.machine import machine
from medseg.core.plan import ChannelStats, Fingerprint, to_plain
from medseg.core.quality import Calibration, Evidence, HeldOut
from medseg.core.task import parse_task
from medseg.nets import build
from medseg.planning import plan


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    labels = {"zeta": None, "alpha": None}
    task = parse_task(
        {"name": "toy", "modality": "MR", "labels": {name: {} for name in labels}, "data": {"root": "secret/place"}},
        "test",
    )
    stats = ChannelStats(0, 50, 100, 50, 20, 0, 200)
    prints = Fingerprint(3, ((16, 16, 16),) * 3, ((1.0, 1.0, 1.0),) * 3, (stats,), {"zeta": 5.0}, {}, 0.1)
    small = {"features": "[4, 8]", "strides": "[[1,1,1],[2,2,2]]", "kernels": "[[3,3,3],[3,3,3]]"}
    planned = plan(prints, task, machine("cpu", 3), {f"network.{key}": value for key, value in small.items()})
    torch.manual_seed(0)
    return Bundle(task, planned, prints, build(planned.network).state_dict(), {"medseg": "test"})


def test_round_trip(bundle: Bundle, tmp_path: Path) -> None:
    saved = bundle.save(tmp_path / "run" / "bundle")
    for place in (tmp_path / "run", tmp_path / "run" / "bundle"):
        loaded = Bundle.load(place)
        assert loaded.hash == saved.hash and len(saved.hash) == 64
        assert to_plain(loaded.plan) == to_plain(bundle.plan)
        assert loaded.fingerprint == bundle.fingerprint
        assert loaded.task.label_names == ("zeta", "alpha")  # the order carries the values
        assert all(torch.equal(loaded.state[name], value) for name, value in bundle.state.items())
    image = torch.zeros(1, 1, *bundle.plan.patch)
    with torch.inference_mode():
        assert torch.isfinite(loaded.network()(image)).all()


def test_the_hash_names_the_model_and_nothing_else(bundle: Bundle, tmp_path: Path) -> None:
    one, two = bundle.save(tmp_path / "a"), bundle.save(tmp_path / "b")
    assert one.hash == two.hash
    state = {name: value + 1 for name, value in bundle.state.items()}
    other = Bundle(bundle.task, bundle.plan, bundle.fingerprint, state, bundle.provenance).save(tmp_path / "c")
    assert other.hash != one.hash


def test_no_path_of_the_training_machine_is_inside(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    assert not any(b"secret" in file.read_bytes() for file in (tmp_path / "b").iterdir())


@pytest.mark.parametrize("name", ["weights.safetensors", "plan.json", "task.json", "fingerprint.json"])
def test_a_flipped_byte_is_found(bundle: Bundle, tmp_path: Path, name: str) -> None:
    bundle.save(tmp_path / "b")
    path = tmp_path / "b" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"{name}: is damaged"):
        Bundle.load(tmp_path / "b")


def test_missing_foreign_and_newer(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such model"):
        Bundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="no medseg bundle"):
        Bundle.load(tmp_path)
    bundle.save(tmp_path / "b")
    manifest = tmp_path / "b" / "bundle.json"
    raw = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**raw, "version": FORMAT_VERSION + 1}))
    with pytest.raises(BundleError, match="has format version 2, this medseg reads up to 1"):
        Bundle.load(tmp_path / "b")
    manifest.write_text(json.dumps({"format": "other"}))
    with pytest.raises(BundleError, match="not the manifest of a medseg bundle"):
        Bundle.load(tmp_path / "b")
    manifest.write_text("{")
    with pytest.raises(BundleError, match="not readable JSON"):
        Bundle.load(tmp_path / "b")
    manifest.write_text(json.dumps(raw))
    (tmp_path / "b" / "plan.json").unlink()
    with pytest.raises(BundleError, match="incomplete"):
        Bundle.load(tmp_path / "b")


CALIBRATION = Calibration(
    (
        HeldOut(0.81, Evidence(0.9, {"zeta": 0.8}, {"zeta": 0.7}, {"zeta": 1.5}, {"zeta": 2})),
        HeldOut(None, Evidence()),
    )
)


def test_a_calibration_comes_back_and_belongs_to_the_models_identity(bundle: Bundle, tmp_path: Path) -> None:
    plain = bundle.save(tmp_path / "plain")
    saved = replace(bundle, calibration=CALIBRATION).save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.calibration == CALIBRATION == saved.calibration
    assert loaded.hash == saved.hash != plain.hash
    assert Bundle.load(tmp_path / "plain").calibration is None
    other = replace(bundle, calibration=Calibration(CALIBRATION.cases[:1])).save(tmp_path / "other")
    assert other.hash != saved.hash


def test_a_damaged_or_missing_calibration_is_found(bundle: Bundle, tmp_path: Path) -> None:
    replace(bundle, calibration=CALIBRATION).save(tmp_path / "b")
    path = tmp_path / "b" / "calibration.json"
    text = path.read_text()
    path.write_text(text.replace("0.81", "0.98"))
    with pytest.raises(BundleError, match=r"calibration.json: is damaged"):
        Bundle.load(tmp_path / "b")
    path.unlink()
    with pytest.raises(BundleError, match="incomplete"):
        Bundle.load(tmp_path / "b")


def test_a_calibration_of_the_wrong_shape_is_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    replace(bundle, calibration=CALIBRATION).save(tmp_path / "b")
    path, manifest = tmp_path / "b" / "calibration.json", tmp_path / "b" / "bundle.json"
    path.write_text(json.dumps({"cases": [{"dice": "high", "evidence": {}}]}))
    raw = json.loads(manifest.read_text())
    raw["files"]["calibration.json"] = sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"calibration.json: cases.0.dice"):
        Bundle.load(tmp_path / "b")


def test_bundles_from_before_there_were_calibrations_keep_their_hash(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert set(manifest["files"]) == {"task.json", "plan.json", "fingerprint.json", "provenance.json",
                                      "weights.safetensors"}  # fmt: skip
    lines = [f"{name} {manifest['files'][name]}" for name in ("task.json", "plan.json", "fingerprint.json",
                                                               "weights.safetensors")]  # fmt: skip
    assert manifest["hash"] == sha256("\n".join(lines).encode()).hexdigest()
