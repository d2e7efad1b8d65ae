"""Dice, HD95 and NSD of one volume with five labels: medseg beside MONAI, surface-distance and torchmetrics.

    python benchmarks/metrics.py [--repeats 3] [--labels 5] [--shape 256 256 128] [--json FILE]

Each tool runs in a process of its own, on one thread, after one small volume to warm up; what cannot be imported is
left out by name. Seconds are medians of processor time, since other work may share the machine; peak memory is
that of the whole process, with its libraries and both label maps. MONAI gets its one-hot tensors made beforehand and
for free. torchmetrics has no HD95 and no NSD: its Hausdorff distance stands for both.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPACING = (0.8, 0.8, 2.0)
TAU = 2.0
Labels = NDArray[np.uint8]
Figures = dict[str, list[float]]


def main() -> int:
    arguments = _arguments()
    if arguments.tool:
        print(json.dumps(measure(arguments.tool, arguments.shape, arguments.labels, arguments.repeats)))
        return 0
    found: dict[str, Any] = {}
    print(f"{'x'.join(map(str, arguments.shape))} voxels of {SPACING} mm, {arguments.labels} labels, tau {TAU} mm")
    print("| tool | Dice + HD95 + NSD, processor s | times medseg | peak GB | mean Dice | mean HD95 mm | mean NSD |")
    print("|---|---|---|---|---|---|---|")
    for tool in TOOLS:
        found[tool] = _in_own_process(tool, sys.argv[1:])
        print(_row(tool, found[tool], found["medseg"]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(tool: str, shape: tuple[int, int, int], labels: int, repeats: int) -> dict[str, Any]:
    """Figures, seconds and peak memory of one tool in this process; {"missing": why} where it cannot be imported."""
    try:
        prepare = TOOLS[tool]()
    except ImportError as error:
        return {"missing": str(error)}
    prepare(*_volumes((24, 24, 16), labels), labels)()
    work = prepare(*_volumes(shape, labels), labels)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        figures = work()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": statistics.median(seconds), "peak_gb": peak, "figures": figures}


def _volumes(shape: tuple[int, int, int], labels: int) -> tuple[Labels, Labels]:
    """A prediction and its reference: lumpy ellipsoids, the prediction's lumps others than the reference's."""
    from scipy.ndimage import zoom

    rng = np.random.default_rng(3)
    places = np.indices(shape, dtype=np.float32)
    coarse = tuple(max(2, size // 12) for size in shape)
    common = rng.normal(0, 0.10, coarse)
    maps = []
    for _ in range(2):
        lumps = common + rng.normal(0, 0.05, coarse)
        factors = [size / coarse_size for size, coarse_size in zip(shape, coarse, strict=True)]
        rough = zoom(lumps.astype(np.float32), factors, order=1)
        array = np.zeros(shape, np.uint8)
        for value in range(1, labels + 1):
            centre = [shape[0] * value / (labels + 1), shape[1] * (0.35 + 0.3 * (value % 2)), shape[2] * 0.5]
            radii = [0.9 * shape[0] / (labels + 1), shape[1] * 0.25, shape[2] * 0.35]
            parts = (((places[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3))
            array[sum(parts, rough) < 1] = value
        maps.append(array)
    return maps[0], maps[1]


# ---- the tools: each loads itself, and then turns two label maps into work that gives figures per label ---------

Work = Callable[[], Figures]
Prepare = Callable[[Labels, Labels, int], Work]


def _medseg() -> Prepare:
    from medseg.metrics.case import Wanted, measure_case

    asked = Wanted(("dice", "hd95", "nsd"), tolerance=TAU)

    def prepare(found: Labels, true: Labels, labels: int) -> Work:
        def work() -> Figures:
            case = measure_case(found, true, SPACING, range(1, labels + 1), asked).labels.values()
            return {name: [one.figure(name) or 0.0 for one in case] for name in asked.metrics}

        return work

    return prepare


def _monai() -> Prepare:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    torch.set_num_threads(1)

    def prepare(found: Labels, true: Labels, labels: int) -> Work:
        pair = [_one_hot(array, labels) for array in (found, true)]

        def work() -> Figures:
            return {
                "dice": compute_dice(*pair, include_background=False)[0].tolist(),
                "hd95": compute_hausdorff_distance(*pair, percentile=95, spacing=list(SPACING))[0].tolist(),
                "nsd": compute_surface_dice(*pair, [TAU] * labels, spacing=list(SPACING))[0].tolist(),
            }

        return work

    return prepare


def _surface_distance() -> Prepare:
    import surface_distance

    def prepare(found: Labels, true: Labels, labels: int) -> Work:
        def work() -> Figures:
            figures: Figures = {"dice": [], "hd95": [], "nsd": []}
            for value in range(1, labels + 1):
                masks = true == value, found == value
                distances = surface_distance.compute_surface_distances(*masks, SPACING)
                figures["dice"].append(float(surface_distance.compute_dice_coefficient(*masks)))
                figures["hd95"].append(float(surface_distance.compute_robust_hausdorff(distances, 95)))
                figures["nsd"].append(float(surface_distance.compute_surface_dice_at_tolerance(distances, TAU)))
            return figures

        return work

    return prepare


def _torchmetrics() -> Prepare:
    import torch
    from torchmetrics.functional.segmentation import dice_score, hausdorff_distance

    torch.set_num_threads(1)

    def prepare(found: Labels, true: Labels, labels: int) -> Work:
        pair = [_one_hot(array, labels).to(torch.int64) for array in (found, true)]

        def work() -> Figures:
            dice = dice_score(*pair, labels + 1, include_background=False, average=None)
            far = hausdorff_distance(*pair, labels + 1, include_background=False, spacing=list(SPACING))
            return {"dice": dice.reshape(-1).tolist(), "hd": far.reshape(-1).tolist()}

        return work

    return prepare


def _one_hot(array: Labels, labels: int) -> Any:
    import torch

    return torch.stack([torch.from_numpy(array == value) for value in range(labels + 1)])[None].float()


TOOLS: dict[str, Callable[[], Prepare]] = {
    "medseg": _medseg,
    "MONAI": _monai,
    "surface-distance": _surface_distance,
    "torchmetrics": _torchmetrics,
}


def _in_own_process(tool: str, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--tool", tool, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _row(tool: str, one: dict[str, Any], ours: dict[str, Any]) -> str:
    if "missing" in one:
        return f"| {tool} | did not run: {one['missing']} | | | | | |"
    means = {name: f"{statistics.mean(values):.4f}" for name, values in one["figures"].items()}
    ratio = f"{one['seconds'] / ours['seconds']:.1f}"
    shown = " | ".join(means.get(name, "–") for name in ("dice", "hd95", "nsd"))
    return f"| {tool} | {one['seconds']:.3f} | {ratio} | {one['peak_gb']:.2f} | {shown} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--labels", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 128))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tool", choices=tuple(TOOLS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
