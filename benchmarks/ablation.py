"""What each ingredient of a training is worth: one of them switched at a time, all else and the minutes equal.

    python benchmarks/ablation.py --data ../shared/data --out FOLDER [--minutes 2] [--rows hippocampus nuclei]
        [--seeds 0] [--variants A B …] [--table benchmarks/ablation.md]

Rows are those of few_labels.py; no test case is looked at: two thirds of the training cases train and the other
third is scored. Every score is appended to OUT/ablation.jsonl as soon as it is known, so that a run that was
stopped goes on where it was; the table is written from there. Run it on a quiet machine: a time budget measures
the machine too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from few_labels import ROWS, Trial, run
from results import add_row, read_rows

# Keys of the plan, as `medseg train --set` takes them; a row may need numbers of its own.
VARIANTS: dict[str, tuple[str, ...] | dict[str, tuple[str, ...]]] = {
    "as planned": (),
    "no elastic deformation": ("augment.elastic_probability=0",),
    "elastic deformation in every second sample": ("augment.elastic_probability=0.5",),
    "no rotation, scaling or elastic deformation": (
        "augment.rotation_probability=0",
        "augment.scale_probability=0",
        "augment.elastic_probability=0",
    ),
    "no change of intensities": ("augment.intensity_probability=0",),
    "no mean of the weights (EMA)": ("schedule.ema=0",),
    "deep supervision": ("network.deep_supervision=true",),
    "residual encoder": ("network.residual=true",),
    "SGD, learning rate .01": ("schedule.optimizer=sgd", "schedule.learning_rate=0.01"),
    "AdamW, learning rate .002": ("schedule.learning_rate=0.002",),
    "half the features": {
        "hippocampus": ("network.features=[8,16,32,64]",),
        "nuclei": ("network.features=[8,16,32,64,128]",),
    },
    "half as many features again": {
        "hippocampus": ("network.features=[24,48,96,192]",),
        "nuclei": ("network.features=[24,48,96,192,384]",),
    },
    "smaller patches": {"hippocampus": ("patch=[32,40,32]",), "nuclei": ("patch=[96,96,1]",)},
    "larger patches": {"nuclei": ("patch=[256,256,1]",)},
    "half the batch": {"hippocampus": ("batch=1",), "nuclei": ("batch=2",)},
    "twice the batch": {"hippocampus": ("batch=4",), "nuclei": ("batch=8",)},
    "cross-entropy alone": ("schedule.loss=cross_entropy",),
    "float32": ("schedule.precision=float32",),
}


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=["hippocampus", "nuclei"])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=2.0, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--inner", type=int, choices=(0, 1, 2), default=0, help="the third of the cases to score")
    parser.add_argument("--table", type=Path, metavar="FILE")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "ablation.jsonl"
    for seed in given.seeds:
        for variant in given.variants:
            for row in given.rows:
                changes = changes_of(variant, row)
                key = {"trial": variant, "on": row, "seed": seed, "inner": given.inner, "minutes": given.minutes}
                if changes is None or any(key.items() <= score.items() for score in read_rows(results)):
                    continue
                name = f"v{list(VARIANTS).index(variant)}"
                trial = Trial(seed, given.inner, changes, name, minutes=given.minutes)
                add_row(results, {**run(row, given.data, given.out, trial), **key})
                if given.table:
                    given.table.write_text(page(read_rows(results)), encoding="utf-8")


def changes_of(variant: str, row: str) -> tuple[str, ...] | None:
    """The plan keys that a variant changes on a row; None where there is no such variant of it."""
    changes = VARIANTS[variant]
    return changes.get(row) if isinstance(changes, dict) else changes


def page(scores: Iterable[dict[str, object]]) -> str:
    """The table: Dice of each variant (mean over seeds), what that is more or less than as planned, and steps done."""
    found: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for score in scores:
        place = found.setdefault((str(score["trial"]), f"{score['on']}, {score['minutes']:g} min"), [])
        place.append((float(str(score["mean_dice"])), int(str(score["steps"]))))
    columns = sorted({column for _, column in found})
    lines = ["# What each ingredient is worth", "", *(__doc__ or "").strip().splitlines(), ""]
    lines += ["Dice, in brackets: against the plan; steps done. Of several seeds, their number and the mean.", ""]
    lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for variant in VARIANTS:
        cells = [_cell(found.get((variant, column)), found.get(("as planned", column))) for column in columns]
        if any(cells):
            lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[tuple[float, int]] | None, planned: list[tuple[float, int]] | None) -> str:
    if not values:
        return ""
    dice, steps = mean(dice for dice, _ in values), round(mean(steps for _, steps in values))
    against = "" if planned is None or planned is values else f"{dice - mean(dice for dice, _ in planned):+.3f}; "
    seeds = f"; {len(values)} seeds" if len(values) > 1 else ""
    return f"{dice:.3f} ({against}{steps:,}{seeds})"


if __name__ == "__main__":
    main()
