"""`--folds K`: K models that answer as one, a report on every case, and a stopped ensemble that goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medseg import formats
from medseg.bundle import Bundle
from medseg.core.errors import UsageError
from medseg.inference import Predictor
from medseg.workflows.train import TrainOptions, train


@pytest.mark.slow
def test_folds_are_one_model_that_is_scored_on_every_case(blobs: Path, tmp_path: Path) -> None:
    options = TrainOptions(steps=30, folds=2, device="cpu")
    result = train(blobs / "task.yaml", blobs, tmp_path / "run", options)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {case["id"] for case in report["cases"]} == {f"case_{number}" for number in range(8)}
    assert report["summary"]["mean_dice"] > 0.3
    # The bundle alone predicts, with the mean of what its members find.
    bundle = Bundle.load(tmp_path / "run")
    assert bundle.hash == result.bundle_hash and bundle.plan.network.members == 2
    image = torch.zeros(1, 1, 24, 24, 16)
    found = bundle.network()(image).softmax(1)
    single = [Bundle.load(tmp_path / "run" / f"fold-{n}").network()(image).softmax(1) for n in range(2)]
    torch.testing.assert_close(found, torch.stack(single).mean(0), atol=1e-5, rtol=0)
    scan = formats.read(formats.source_of(next((blobs / "images").iterdir())))
    assert Predictor(bundle, "cpu").predict(scan).labelmap.array.shape == scan.volume.array.shape[1:]
    # Half of it is lost: only that is trained again.
    kept = (tmp_path / "run" / "fold-0" / "training.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "run" / "fold-1")
    shutil.rmtree(tmp_path / "run" / "bundle")
    again = train(output=tmp_path / "run", options=TrainOptions(resume=True, device="cpu"))
    assert again.bundle_hash == result.bundle_hash
    assert (tmp_path / "run" / "fold-0" / "training.json").stat().st_mtime_ns == kept
    with pytest.raises(UsageError, match="2 to 8"):
        train(blobs / "task.yaml", blobs, tmp_path / "many", replace(options, folds=9))


@pytest.mark.slow
def test_test_cases_of_a_split_are_scored_by_all_models_together(blobs: Path, tmp_path: Path) -> None:
    options = TrainOptions(steps=10, folds=2, split=blobs / "split.json", device="cpu")
    result = train(blobs / "task.yaml", blobs, tmp_path / "run", options)
    assert result.report.scored_on == "test"
    assert {row.case for row in result.report.rows} == {"case_6", "case_7"}
    trained = [json.loads((tmp_path / "run" / f"fold-{n}" / "split.json").read_text()) for n in range(2)]
    assert all(not {"case_6", "case_7"} & {*split["train"], *split["validation"]} for split in trained)
