"""Peak memory of predicting one large CT: a 512×512×300 volume must take < 3 GB beyond the volume itself.

    python benchmarks/predict_memory.py [--model RUN] [--shape 512 512 300] [--spacing 0.8 0.8 1.0]

Without --model an untrained network of three labels is used (what is measured does not depend on the
weights). The scan is generated, no file is needed. The prediction runs in a process of its own, whose
peak resident size is compared with its size right before, when the volume is already in memory; the
import of torch, which takes some 0.3 GB, is counted with the prediction.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.case import Scan, Source
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

if TYPE_CHECKING:
    from medseg.bundle import Bundle

LIMIT_GB = 3.0


def main() -> int:
    arguments = _arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return 0
    command = [sys.executable, __file__, "--measure", *sys.argv[1:]]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print("| shape | spacing mm | plan spacing mm | windows of | volume GB | beyond it, peak GB | seconds |")
    print("|---|---|---|---|---|---|---|")
    print("| " + " | ".join(str(value) for value in figures.values()) + " |")
    return 0 if figures["beyond"] < LIMIT_GB else 1


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Generate, predict, compare sizes."""
    scan = phantom(tuple(arguments.shape), tuple(arguments.spacing))
    volume = scan.volume.array.nbytes / 1e9
    before = _resident_gb()
    from medseg.inference import Predictor

    bundle = _bundle(arguments.model, tuple(arguments.plan_spacing))
    started = time.monotonic()
    Predictor(bundle, "cpu").predict(scan)
    return {
        "shape": "×".join(map(str, scan.volume.geometry.shape)),
        "spacing": "×".join(f"{s:g}" for s in scan.volume.geometry.spacing),
        "plan": "×".join(f"{s:g}" for s in bundle.plan.spacing),
        "patch": "×".join(map(str, bundle.plan.patch)),
        "volume": round(volume, 2),
        "beyond": round(_peak_gb() - before, 2),
        "seconds": round(time.monotonic() - started, 1),
    }


def phantom(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Scan:
    """A chest of cylinders in HU with noise, made slice by slice so that nothing but the volume is large."""
    rng = np.random.default_rng(0)
    array = np.empty((1, *shape), dtype=np.float32)
    i, j = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2])
    body = (i[:, None] / 0.9) ** 2 + (j[None] / 0.7) ** 2 < 1
    lungs = ((np.abs(i[:, None]) - 0.45) / 0.3) ** 2 + (j[None] / 0.5) ** 2 < 1
    still = np.where(lungs, -850, np.where(body, 40, -1000)).astype(np.float32)
    for k in range(shape[2]):
        array[0, :, :, k] = np.round(still + rng.normal(0, 20, still.shape))
    geometry = Geometry.from_spacing(spacing, shape)
    source = Source(Path("phantom.nii.gz"), (Path("phantom.nii.gz"),), "nifti", "phantom")
    return Scan(source, Volume(array, geometry), integral=True)


def _bundle(model: Path | None, spacing: tuple[float, ...]) -> Bundle:
    from medseg.bundle import Bundle

    if model is not None:
        return Bundle.load(model)
    from medseg.core.plan import ChannelStats, Fingerprint, NetworkSpec, Normalization, Plan
    from medseg.core.task import parse_task
    from medseg.nets import build

    task = parse_task({"name": "lungs", "modality": "CT", "labels": {"left lung": 1, "right lung": 2}}, "benchmark")
    stats = ChannelStats(-1000, -850, -100, -820, 130, -1024, 2000, True)
    shape, x, y, z = (512, 512, 300), *spacing
    fingerprint = Fingerprint(1, (shape,), ((x, y, z),), (stats,), {}, {}, 0.2)
    features, stages = (16, 32, 64, 128), 4
    network = NetworkSpec("unet", 3, 1, 3, features, ((1, 1, 1), *((2, 2, 2),) * 3), ((3, 3, 3),) * stages)
    normalization = (Normalization("ct", -1000, 400, -820, 130),)
    plan = Plan("lungs", 3, (x, y, z), normalization, (64, 64, 64), 1, network)
    return Bundle(task, plan, fingerprint, build(network).state_dict())


def _resident_gb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e9


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run folder or bundle; default: an untrained network")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 300])
    parser.add_argument("--spacing", type=float, nargs=3, default=[0.8, 0.8, 1.0], help="of the scan, mm")
    parser.add_argument("--plan-spacing", type=float, nargs=3, default=[3.0, 3.0, 3.0], help="of the network, mm")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
