"""How good is a model from few labels in few minutes? The same cases, splits and budgets every time.

    python benchmarks/few_labels.py ROW [ROW …] --data ../shared/data --out FOLDER [--seeds 0 1 2] [--set KEY=VALUE …]
    python benchmarks/few_labels.py ROW --data … --out … --inner 0 [--steps 1000]

Rows: see ROWS. Training cases are the first ones in name order (retina: children), all others are
tested, by `medseg train` itself, as users run it, in a process of its own. --inner K is for choosing:
it never looks at a test case, but trains on two thirds of the training cases and scores the third
number K of them. Every score is appended to OUT/scores.jsonl, so that none is forgotten.

sarcoma: the volumes are crops centred on the tumour, so that an ellipsoid in the middle scores .68;
they are cropped again, with seeded margins of 0 to 45 mm on every side, before anything sees them. Two
baselines on the same crops are printed beside the model: voxels of at least 40 % of the scan's largest
SUV, and the ellipsoid inscribed in the crop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import add_row

from medseg import formats
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats.nifti import write_volume
from medseg.metrics import dice
from medseg.metrics.confusion import confusion

_MARGIN_MM = 45.0
_CROP_SEED = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a task on a set of the shared data, how many cases train, and for how long."""

    task: str
    data: str
    train: int
    minutes: float
    bar: float | None


ROWS = {
    "hippocampus": Row("hippocampus_mr", "hippocampus_mr", 20, 20, 0.865),
    "hippocampus-5m": Row("hippocampus_mr", "hippocampus_mr", 20, 5, 0.845),
    "hippocampus-8": Row("hippocampus_mr", "hippocampus_mr", 8, 20, 0.835),
    "sarcoma": Row("sarcoma_pet", "sarcoma_pet_ct_mr/nifti", 20, 20, None),
    "nuclei": Row("cells_2d", "nuclei_dsb2018", 20, 10, 0.88),
    "retina": Row("retina_vessels", "retina_chase_db1", 7, 10, 0.780),
}


def main() -> None:
    """Run the rows that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=list(ROWS))
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the training")
    parser.add_argument(
        "--inner", type=int, choices=(0, 1, 2), help="choose by training cases alone: the third to score"
    )
    parser.add_argument("--steps", type=int, help="optimiser steps instead of the row's minutes")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], help="plan keys, as medseg train takes them"
    )
    parser.add_argument("--name", default="", help="added to the run folder's name")
    given = parser.parse_args()
    for name in given.rows:
        for seed in given.seeds:
            trial = Trial(seed, given.inner, tuple(given.changes), given.name, steps=given.steps)
            add_row(given.out / "scores.jsonl", run(name, given.data, given.out, trial))


@dataclass(frozen=True, slots=True)
class Trial:
    """How one row is trained: on all training cases or without their third number `inner`, how planned and how long.

    changes: plan keys, as `medseg train --set` takes them; name: added to the run folder's; minutes: instead of the
    row's; steps: instead of any minutes.
    """

    seed: int = 0
    inner: int | None = None
    changes: tuple[str, ...] = ()
    name: str = ""
    minutes: float | None = None
    steps: int | None = None


def run(name: str, data: Path, out: Path, trial: Trial) -> dict[str, object]:
    """Train and score one row, below `out`; `data` is the folder of the shared data."""
    row = ROWS[name]
    out.mkdir(parents=True, exist_ok=True)
    data = data / row.data
    if name == "sarcoma":
        data = cropped(data, out / "sarcoma_crops")
    cases = parts(name, case_ids(name, data), trial.inner)
    split = out / f"{name}-{'test' if trial.inner is None else f'inner{trial.inner}'}.json"
    split.write_text(json.dumps(cases))
    folder = out / "-".join(filter(None, [split.stem, trial.name, f"seed{trial.seed}"]))
    minutes = row.minutes if trial.minutes is None else trial.minutes
    budget = ["--steps", str(trial.steps)] if trial.steps else ["--time-budget", f"{minutes:g}m"]
    changes = [part for change in trial.changes for part in ("--set", change)]
    subprocess.run(
        [sys.executable, "-m", "medseg", "train", "--task", row.task, "--data", str(data), "--split", str(split),
         "--seed", str(trial.seed), *budget, *changes, "-o", str(folder)],
        check=True,
    )  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    training = json.loads((folder / "training.json").read_text())
    score: dict[str, object] = {
        "row": split.stem, "seed": trial.seed, "mean_dice": round(report["summary"]["mean_dice"], 4), "bar": row.bar,
        "steps": training["steps"], "seconds": training["seconds"], "set": list(trial.changes), "name": trial.name,
    }  # fmt: skip
    if name == "sarcoma":
        score["baselines"] = baselines(data, cases["test" if trial.inner is None else "validation"])
    return score


def case_ids(name: str, data: Path) -> list[str]:
    """Ids of all cases as medseg names them, in name order."""
    if name == "retina":
        return sorted(path.stem.removeprefix("Image_") for path in data.glob("Image_*.jpg"))
    if name == "sarcoma":
        return sorted(path.parent.name for path in data.glob("*/PET_image.nii.gz"))
    return sorted(path.name.split(".")[0] for path in (data / "images").iterdir() if not path.name.startswith("."))


def parts(name: str, ids: Sequence[str], inner: int | None) -> dict[str, list[str]]:
    """The split: lists train, validation and test. Eyes of a child stay together."""
    groups = [case[:2] for case in ids] if name == "retina" else list(ids)
    first = sorted(set(groups))[: ROWS[name].train]
    train = [case for case, group in zip(ids, groups, strict=True) if group in first]
    if inner is None:
        return {"train": train, "validation": [], "test": [case for case in ids if case not in train]}
    held = set(first[inner::3])
    held_cases = [case for case, group in zip(ids, groups, strict=True) if group in held]
    return {"train": [case for case in train if case not in held_cases], "validation": held_cases, "test": []}


# ---- sarcoma: crops with seeded margins, and what needs no training ------------------------------------------


def cropped(source: Path, target: Path) -> Path:
    """Every PET pair below `source`, cropped to its tumour and a seeded margin on each side, below `target`."""
    for number, image in enumerate(sorted(source.glob("*/PET_image.nii.gz"))):
        folder = target / image.parent.name
        if (folder / "PET_mask.nii.gz").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([_CROP_SEED, number])
        pet, mask = _read(image), _read(image.with_name("PET_mask.nii.gz"))
        place = _window(mask.array[0] > 0, mask.geometry, rng)
        geometry = pet.geometry.cropped([side.start for side in place], [side.stop for side in place])
        for volume, name in ((pet, image.name), (mask, "PET_mask.nii.gz")):
            write_volume(Volume(volume.array[(slice(None), *place)], geometry), folder / name)
    return target


def _window(mask: NDArray[np.bool_], geometry: Geometry, rng: np.random.Generator) -> tuple[slice, slice, slice]:
    inside = np.argwhere(mask)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    margins = rng.uniform(0, _MARGIN_MM, (2, 3)) / np.asarray(geometry.spacing)
    start = np.maximum(low - margins[0].round().astype(int), 0)
    stop = np.minimum(high + margins[1].round().astype(int), mask.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return i, j, k


def baselines(data: Path, ids: Iterable[str]) -> dict[str, float]:
    """Mean Dice of two methods that learn nothing, over these cases."""
    found: dict[str, list[float]] = {"40 % of SUVmax": [], "inscribed ellipsoid": []}
    for name in ids:
        pet = _read(data / name / "PET_image.nii.gz").array[0]
        mask = _read(data / name / "PET_mask.nii.gz").array[0] > 0
        axes = np.meshgrid(*[np.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in mask.shape], indexing="ij")
        guesses = (pet >= 0.4 * pet.max(), sum(axis**2 for axis in axes) <= 1)
        for method, guess in zip(found, guesses, strict=True):
            counts = confusion(guess.astype(np.uint8), mask.astype(np.uint8), (1,)).counts[1]
            found[method].append(dice.measure(counts) or 0.0)
    return {method: round(float(np.mean(values)), 4) for method, values in found.items()}


def _read(path: Path) -> Volume:
    return formats.read(formats.source_of(path)).volume


if __name__ == "__main__":
    main()
