"""What a batch costs around its network: 50 lung CTs, and the seconds of every stage.

    python benchmarks/batch.py --model runs/lung_ct [--scans 50] [--grow 2] [--executor processes]

The scans are generated chest CTs (`medseg.phantoms`, written as .nii.gz before the clock starts). Overhead is the
part of the wall-clock in which the network does not run: 1 - (seconds of all predictions' windows) / (seconds of
`medseg.predict`, from the call to its return, starting of workers and loading of the model included). The time of the
network is measured in the same worker, around the module's calls. The bar is 15 %.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 0.15


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="medseg-benchmark-") as folder:
        scans = Path(folder, "scans")
        megabytes = _write_scans(scans, arguments.scans, arguments.grow)
        figures = measure(arguments, scans, Path(folder, "out"))
    print(f"{arguments.scans} scans, {megabytes:.0f} MB of .nii.gz, executor {arguments.executor}")
    print("| | seconds | of the wall-clock |")
    print("|---|---|---|")
    for name, seconds in figures.items():
        print(f"| {name} | {seconds:.1f} | {seconds / figures['wall-clock']:.1%} |")
    overhead = 1 - figures["network"] / figures["wall-clock"]
    print(f"overhead around the network: {overhead:.1%} (bar: {LIMIT:.0%})")
    return 0 if overhead <= LIMIT else 1


def measure(arguments: argparse.Namespace, scans: Path, output: Path) -> dict[str, float]:
    """Seconds of the whole batch, of its stages and of the network."""
    from medseg.batch.run import BatchOptions, Model, predict_folder
    from medseg.bundle import Bundle
    from medseg.core.events import silent
    from medseg.executors.contract import Limits
    from medseg.workflows.batch import batch_status
    from medseg.workflows.predict import PredictOptions, PredictorLoader

    clock = output.parent / "network.json"
    started = time.monotonic()
    options = PredictOptions(device=arguments.device)
    bundle = Bundle.load(arguments.model)
    load = Clocked(PredictorLoader(arguments.model, options), clock)
    batch = BatchOptions(executor=arguments.executor, limits=Limits())
    predict_folder(scans, Model(bundle, load), output, batch, silent)
    wall = time.monotonic() - started
    stages = batch_status(output).seconds
    network = sum(json.loads(line) for line in clock.read_text().splitlines())
    return {"wall-clock": wall, **stages, "network": network}


@dataclass(frozen=True)
class Clocked:
    """Loads a predictor whose network notes how long it ran, a line a scan."""

    load: Any
    clock: Path

    def __call__(self) -> Any:
        predictor = self.load()
        spent = [0.0, 0.0]

        def before(*_: object) -> None:
            spent[1] = time.monotonic()

        def after(*_: object) -> None:
            spent[0] += time.monotonic() - spent[1]

        for network in (predictor._network, predictor._head):
            if network is not None:
                network.register_forward_pre_hook(before)
                network.register_forward_hook(after)
        return Noted(predictor, spent, self.clock)


class Noted:
    """The predictor; what its network took is written down after every scan."""

    def __init__(self, predictor: Any, spent: list[float], clock: Path) -> None:
        self.bundle = predictor.bundle
        self._predictor, self._spent, self._clock = predictor, spent, clock

    def predict(self, scan: Any) -> Any:
        self._spent[0] = 0.0
        prediction = self._predictor.predict(scan)
        with self._clock.open("a", encoding="utf-8") as file:
            file.write(f"{self._spent[0]}\n")
        return prediction


def _write_scans(folder: Path, count: int, grow: int) -> float:
    """Generate the CTs; megabytes written. Each voxel becomes `grow`³ finer ones, with noise of their own."""
    import numpy as np

    from medseg.core.geometry import Geometry
    from medseg.core.volume import Volume
    from medseg.formats import write_volume
    from medseg.phantoms import chest

    rng = np.random.default_rng(0)
    total = 0
    for seed in range(1, count + 1):
        volume = chest(seed).volume
        array = volume.array
        for axis in (1, 2, 3):
            array = array.repeat(grow, axis)
        noisy = (array + rng.normal(0, 15, array.shape)).astype(np.int16)
        affine = volume.geometry.affine @ np.diag([1 / grow, 1 / grow, 1 / grow, 1])
        path = folder / f"chest_{seed:02d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(noisy, Geometry(affine, noisy.shape[1:])), path)
        total += path.stat().st_size
        if seed == 1:
            print(f"scans like {'×'.join(map(str, noisy.shape[1:]))}", flush=True)
    return total / 1e6


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=50)
    parser.add_argument("--grow", type=int, default=2, help="voxels made of one, along each axis")
    parser.add_argument("--executor", default="processes")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
