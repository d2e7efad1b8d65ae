"""What a batch costs around its network: 50 lung CTs, and the seconds of every stage.

    python benchmarks/batch.py --model runs/lung_ct [--scans 50] [--grow 2] [--executor processes]

The scans are generated chest CTs (`medseg.phantoms`, written as .nii.gz before the clock starts). Overhead is the
part of the wall-clock in which the network does not run: 1 - (seconds of all predictions' windows) / (seconds of
`medseg predict`, from the call to its return, starting of workers and loading of the model included). The time of the
network is measured in the same worker, around the module's calls. The bar is 15 %.

Reading and writing run beside the network and slow it down where they share its cores, which makes its time look
longer and the overhead smaller. So the network is asked for as many windows once more, with nothing beside it, and the
overhead is told against that time, too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

LIMIT = 0.15
_CALLS = 40  # of the network alone


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="medseg-benchmark-") as folder:
        scans = Path(folder, "scans")
        megabytes = _write_scans(scans, arguments.scans, arguments.grow)
        figures, calls = measure(arguments, scans, Path(folder, "out"))
    print(f"{arguments.scans} scans, {megabytes:.0f} MB of .nii.gz, executor {arguments.executor}")
    print("| | seconds | of the wall-clock |")
    print("|---|---|---|")
    for name, seconds in figures.items():
        print(f"| {name} | {seconds:.1f} | {seconds / figures['wall-clock']:.1%} |")
    overhead = 1 - figures["network"] / figures["wall-clock"]
    print(f"overhead around the network: {overhead:.1%} (bar: {LIMIT:.0%})")
    alone = calls * seconds_a_call(arguments.model, arguments.device)
    against = 1 - alone / figures["wall-clock"]
    print(f"against the {alone:.1f} s that its {calls} calls take with nothing beside them: {against:.1%}")
    return 0 if overhead <= LIMIT else 1


def measure(arguments: argparse.Namespace, scans: Path, output: Path) -> tuple[dict[str, float], int]:
    """Seconds of the whole batch, of its stages and of the network; the network's calls."""
    from medseg.batch.run import BatchOptions, Model, predict_folder
    from medseg.bundle import Bundle
    from medseg.core.events import silent
    from medseg.executors.contract import Limits
    from medseg.workflows.batch import batch_status
    from medseg.workflows.predict import PredictOptions, PredictorLoader

    notes = output.parent / "notes.json"
    started = time.monotonic()
    options = PredictOptions(device=arguments.device, executor=arguments.executor, workers=arguments.workers)
    load = Clocked(PredictorLoader(arguments.model, options), notes)
    batch = BatchOptions(executor=arguments.executor, limits=Limits(workers=arguments.workers))
    predict_folder(scans, Model(Bundle.load(arguments.model), load), output, batch, silent)
    ended = time.monotonic()
    noted = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    ready = min(one["at"] for one in noted if "calls" not in one)
    predictions = [one for one in noted if "calls" in one]
    # Of each worker: together they have as many times the wall-clock.
    workers = arguments.workers or 1
    network, predicting = (sum(one[key] for one in predictions) / workers for key in ("network", "seconds"))
    figures = {
        "wall-clock": ended - started,
        "until the model is loaded": ready - started,
        **batch_status(output).seconds,
        "network": network,
        "computing beside the network": predicting - network,
        "after the last prediction": ended - max(one["at"] for one in predictions),
    }
    return figures, sum(one["calls"] for one in predictions)


def seconds_a_call(model: Path, device: str) -> float:
    """The median time of one call of the network on one window, when nothing else runs in the process."""
    import torch

    from medseg.bundle import Bundle
    from medseg.inference import Predictor
    from medseg.inference.window import _ask

    engine = Predictor(Bundle.load(model), device)._engine
    plan, given = engine.plan, engine.precision
    window = torch.randn(1, plan.network.in_channels, *plan.patch)
    took = []
    with torch.inference_mode(), torch.autocast(engine.device.type, given, given != torch.float32):
        for _ in range(_CALLS):
            started = time.monotonic()
            _ask(engine, window, ())
            took.append(time.monotonic() - started)
    return median(took)


@dataclass(frozen=True)
class Clocked:
    """Loads a predictor that notes when it was loaded, and of every scan how long it and its network took."""

    load: Any
    notes: Path

    def __call__(self) -> Any:
        predictor = self.load()
        engine = predictor._engine
        clock = Clock(engine.network)
        for part in (engine.network, engine.head):
            if part is not None:
                part.register_forward_pre_hook(clock.begin)
                part.register_forward_hook(clock.end)
        _note(self.notes, {"at": time.monotonic()})
        return Noted(predictor, clock, self.notes)


class Clock:
    """The seconds of a network in two parts, and the calls of the first one, which answers whole windows."""

    def __init__(self, first: Any) -> None:
        self.seconds, self.calls, self._first, self._since = 0.0, 0, first, 0.0

    def begin(self, *_: object) -> None:
        self._since = time.monotonic()

    def end(self, part: object, *_: object) -> None:
        self.seconds += time.monotonic() - self._since
        self.calls += part is self._first


class Noted:
    """The predictor; what its network took is written down after every scan."""

    def __init__(self, predictor: Any, clock: Clock, notes: Path) -> None:
        self.bundle = predictor.bundle
        self._predictor, self._clock, self._notes = predictor, clock, notes

    def predict(self, scan: Any) -> Any:
        before, calls, started = self._clock.seconds, self._clock.calls, time.monotonic()
        prediction = self._predictor.predict(scan)
        ended = time.monotonic()
        told = {"network": self._clock.seconds - before, "calls": self._clock.calls - calls}
        _note(self._notes, {**told, "seconds": ended - started, "at": ended})
        return prediction


def _note(notes: Path, told: dict[str, float]) -> None:
    with notes.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


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
    parser.add_argument("--workers", type=int, help="see medseg predict")
    parser.add_argument("--executor", default="processes")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
