"""How long a training step takes: medseg beside a plain MONAI loop and nnU-Net's trainer, all else alike.

    python benchmarks/training.py DATA [--steps 20] [--features 32] [--rounds 3] [--nnunet PYTHON]

DATA: images/ and labels/ of 3D cases (the hippocampus set). All sides train on the same cases with the
same U-Net of medseg's (nnU-Net, and MONAI's loop once more as `dynunet`: their own of the same features), patch
and batch, with rotation, scaling, flips, noise, blur, brightness and contrast at the same probabilities;
medseg and nnU-Net end in their own losses, MONAI in DiceCELoss. They take turns, so that a busy machine
is busy for all; the figure is the median over the rounds of seconds a step, augmentation and optimiser
included. Peak memory is of the process of one side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

FEATURES = 32
PATCH = (40, 56, 40)
BATCH = 2


def main() -> None:
    """Time every side in turns, each in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--nnunet", help="python of an environment that has nnunetv2")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measured(given.side, given)))
        return
    sides = [name for name in SIDES if name != "nnunet" or given.nnunet]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name in sides:
            python = given.nnunet if name == "nnunet" else sys.executable
            arguments = [str(given.data), "--steps", str(given.steps), "--features", str(given.features)]
            done = subprocess.run(
                [python, __file__, *arguments, "--side", name], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{name}: {done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(name, found[name][-1], flush=True)
    print(f"\n| side | s a step (median of {given.rounds}) | patches a s | peak GB | medseg is faster by |")
    print("|---|---|---|---|---|")
    own = statistics.median(one["seconds"] for one in found["medseg"])
    for name, rounds in found.items():
        seconds = statistics.median(one["seconds"] for one in rounds)
        peak = max(one["peak_gb"] for one in rounds)
        print(f"| {name} | {seconds:.3f} | {BATCH / seconds:.1f} | {peak:.2f} | {seconds / own:.2f} |")


def measured(side: str, given: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step of one side, and the peak memory of this process in GB."""
    import resource

    step = SIDES[side](given)
    seconds = []
    for _ in range(given.steps + 3):
        started = time.perf_counter()
        next(step)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    # The first steps choose kernels and fill caches.
    return {"seconds": statistics.median(seconds[3:]), "mean": statistics.mean(seconds[3:]), "peak_gb": peak}


# ---- medseg ---------------------------------------------------------------------------------------


def prepared(given: argparse.Namespace, folder: Path) -> Any:
    """medseg's preparation of the data with the network, patch and batch that all sides have."""
    from medseg.workflows.prepare import PrepareOptions, prepare

    stages = [given.features * 2**n for n in range(4)]
    changes = {
        "patch": str(list(PATCH)),
        "batch": str(BATCH),
        "network.features": str([min(n, 320) for n in stages]),
        "network.deep_supervision": "true",
        "augment.elastic_probability": "0",
        "augment.flips": "[0, 1, 2]",
    }
    return prepare("hippocampus_mr", given.data, folder, PrepareOptions(overrides=changes))


def medseg_steps(given: argparse.Namespace) -> Iterator[None]:
    """One training step at a time, with what `medseg.training.fit` is made of."""
    import torch

    from medseg.core.labels import mirrored_values
    from medseg.inference import precision
    from medseg.nets import build
    from medseg.training.batches import make_batches
    from medseg.training.fit import add_gradients, make_optimizer
    from medseg.training.losses import make_loss

    with tempfile.TemporaryDirectory() as folder:
        preparation = prepared(given, Path(folder) / "run")
        plan, device = preparation.plan, torch.device("cpu")
        cases = [preparation.prepared[name] for name in preparation.split.train]
        batches = make_batches(plan, cases, mirrored_values(preparation.task.label_table()), device)
        network = build(plan.network).train()
        optimizer, loss = make_optimizer(network, plan.schedule), make_loss(plan.schedule, None)
        kind, step = precision(plan.schedule, device), 0
        while True:
            network.zero_grad(set_to_none=True)
            add_gradients(network, loss, batches(step), kind)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
            optimizer.step()
            step += 1
            yield


# ---- MONAI ----------------------------------------------------------------------------------------


def monai_steps(given: argparse.Namespace, own: bool = False) -> Iterator[None]:
    """MONAI's tutorial loop: dictionary transforms on cached cases, a data loader, DiceCELoss, float32.

    own: with DynUNet, MONAI's U-Net of the same stages, instead of medseg's.
    """
    import warnings

    warnings.simplefilter("ignore")
    import torch
    from monai import transforms as t
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss
    from monai.networks.nets import DynUNet

    from medseg.nets import build

    with tempfile.TemporaryDirectory() as folder:
        preparation = prepared(given, Path(folder) / "run")
    names = sorted(path.name for path in (given.data / "images").glob("*.nii.gz"))[:40]
    both = ["image", "label"]
    always = [
        t.LoadImaged(both), t.EnsureChannelFirstd(both), t.Orientationd(both, axcodes="RAS"),
        t.NormalizeIntensityd("image"), t.SpatialPadd(both, PATCH),
    ]  # fmt: skip
    chance = [
        t.RandSpatialCropd(both, PATCH, random_size=False),
        t.RandAffined(both, prob=0.5, rotate_range=[0.26] * 3, scale_range=[0.2] * 3, mode=("bilinear", "nearest")),
        *[t.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)],
        t.RandGaussianNoised("image", prob=0.15, std=0.1),
        t.RandGaussianSmoothd("image", prob=0.15),
        t.RandScaleIntensityd("image", factors=0.15, prob=0.15),
        t.RandAdjustContrastd("image", prob=0.15, gamma=(0.7, 1.4)),
    ]
    items = [{"image": given.data / "images" / name, "label": given.data / "labels" / name} for name in names]
    cached = CacheDataset(items, t.Compose([*always, *chance]), progress=False)
    loader = DataLoader(cached, batch_size=BATCH, shuffle=True, drop_last=True)
    spec = replace(preparation.plan.network, deep_supervision=False)
    network: torch.nn.Module = build(spec)
    if own:
        steps, kernels = [list(one) for one in spec.strides], [list(one) for one in spec.kernels]
        network = DynUNet(
            3, spec.in_channels, spec.out_channels, kernels, steps, steps[1:], spec.features, norm_name="instance"
        )
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    while True:
        for batch in loader:
            optimizer.zero_grad()
            loss_function(network(batch["image"].as_tensor()), batch["label"].as_tensor()).backward()
            optimizer.step()
            yield


# ---- nnU-Net --------------------------------------------------------------------------------------


def nnunet_steps(given: argparse.Namespace) -> Iterator[None]:
    """nnU-Net's trainer on its own preprocessed data: loader, augmentation, deep supervision, SGD."""
    import torch
    from nnunet import prepared

    names = sorted(path.name.removesuffix(".nii.gz") for path in (given.data / "labels").glob("*.nii.gz"))
    with tempfile.TemporaryDirectory() as folder:
        plans, dataset = prepared(Path(folder), given.data, names)
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # reads where its folders are

        shape = plans["configurations"]["3d_fullres"]
        shape["patch_size"], shape["batch_size"] = list(PATCH), BATCH
        network = shape["architecture"]["arch_kwargs"]
        network["features_per_stage"] = [
            min(given.features * 2**n, 320) for n in range(len(network["features_per_stage"]))
        ]
        trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
        trainer.on_train_start()
        trainer.network.train()
        while True:
            trainer.train_step(next(trainer.dataloader_train))
            yield


SIDES: dict[str, Callable[[argparse.Namespace], Iterator[None]]] = {
    "medseg": medseg_steps,
    "monai": monai_steps,
    "dynunet": partial(monai_steps, own=True),
    "nnunet": nnunet_steps,
}

if __name__ == "__main__":
    main()
