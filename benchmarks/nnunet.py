"""nnU-Net on the same cases in the same minutes: its own plan, trainer and prediction, as its users run it on a CPU.

    PYTHON benchmarks/nnunet.py --data ../shared/data/hippocampus_mr --split SPLIT.json --out FOLDER [--minutes 20]
    medseg evaluate FOLDER/predictions ../shared/data/hippocampus_mr/labels -o FOLDER/scores

PYTHON is that of an environment with nnunetv2; SPLIT is what few_labels.py wrote (lists train and test). Fingerprint,
plan and preprocessing count against the minutes, and so do the predictions (with mirroring, its default): the number of
steps is what the time that is left allows, measured on the first ones, so that its learning rate decays to the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STEPS_PER_EPOCH, WARM, TIMED = 20, 3, 10
_DATASET = "Dataset004_Hippocampus"
PREDICTION_SECONDS = 1.5  # of one case on two cores, mirrored eight-fold; with it the last case ends in time


def main() -> None:
    """Prepare, train, predict."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    given = parser.parse_args()
    root = given.out.resolve()
    split = json.loads(given.split.read_text())
    tests = [given.data / "images" / f"{case}.nii.gz" for case in split["test"]]
    plans, dataset = prepared(root, given.data, split["train"])
    left = given.minutes * 60 - (time.monotonic() - started) - PREDICTION_SECONDS * len(tests)
    folder, steps = _trained(plans, dataset, left)
    _predicted(folder, tests, root / "predictions")
    seconds = round(time.monotonic() - started, 1)
    (root / "nnunet.json").write_text(json.dumps({"steps": steps, "seconds": seconds}))
    print(f"{steps} steps; {seconds} s, predictions of {len(tests)} cases included")


def prepared(root: Path, data: Path, train: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cases laid out below `root` as nnU-Net wants them, measured, planned, preprocessed: its plans and dataset.json.

    Says in the environment where nnU-Net finds them, so call it before anything of nnU-Net is imported.
    """
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(root / name)
    os.environ.update(nnUNet_compile="f", nnUNet_n_proc_DA="2")
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    raw, train = root / "nnUNet_raw" / _DATASET, list(train)
    for kind, target, suffix in (("images", "imagesTr", "_0000"), ("labels", "labelsTr", "")):
        (raw / target).mkdir(parents=True, exist_ok=True)
        for case in train:
            shutil.copy(data / kind / f"{case}.nii.gz", raw / target / f"{case}{suffix}.nii.gz")
    described = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "anterior": 1, "posterior": 2},
                 "numTraining": len(train), "file_ending": ".nii.gz"}  # fmt: skip
    (raw / "dataset.json").write_text(json.dumps(described))
    extract_fingerprints([4], num_processes=2)
    plan_experiments([4])
    preprocess([4], configurations=("3d_fullres",), num_processes=(2,))
    home = root / "nnUNet_preprocessed" / _DATASET
    plans = json.loads((home / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False  # nnU-Net 2.8's trainer wants to be told
    return plans, json.loads((home / "dataset.json").read_text())


def _trained(plans: dict[str, Any], dataset: dict[str, Any], seconds: float) -> tuple[Path, int]:
    """Trained for that long; the folder of the model, and the steps it took."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    started = time.monotonic()

    def trainer_of() -> nnUNetTrainer:  # which takes things out of the plans
        return nnUNetTrainer(dict(plans), "3d_fullres", "all", dataset, torch.device("cpu"))

    trial = trainer_of()
    trial.on_train_start()
    trial.network.train()
    for _ in range(WARM):
        trial.train_step(next(trial.dataloader_train))
    timed = time.monotonic()
    for _ in range(TIMED):
        trial.train_step(next(trial.dataloader_train))
    step = (time.monotonic() - timed) / TIMED
    del trial
    left = seconds - (time.monotonic() - started)
    trainer = trainer_of()
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = STEPS_PER_EPOCH, 1
    trainer.num_epochs = max(int(left / (step * (STEPS_PER_EPOCH + 0.5))), 1)
    print(f"{step:.3f} s a step; {trainer.num_epochs} epochs of {STEPS_PER_EPOCH} steps")
    trainer.run_training()
    return Path(trainer.output_folder_base), trainer.num_epochs * STEPS_PER_EPOCH


def _predicted(model: Path, images: list[Path], target: Path) -> None:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    target.mkdir(exist_ok=True)
    predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), ("all",), "checkpoint_final.pth")
    names = [str(target / path.name.replace(".nii.gz", "")) for path in images]
    predictor.predict_from_files(
        [[str(path)] for path in images], names, num_processes_preprocessing=1, num_processes_segmentation_export=1
    )


if __name__ == "__main__":
    main()
