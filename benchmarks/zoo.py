"""Every network learns: a quarter of the width, 200 steps of small patches, 2D on cells, 3D on the hippocampus.

Each network is trained by `medseg train` as a user would have it planned, but for the width, the
patch and the batch, and scored on cases that it has not seen. What is measured goes into
OUT/results.jsonl as soon as it is known, so that a run that was stopped goes on where it was; the
table is written from there.

    python benchmarks/zoo.py --cells sample_data/cells_2d --hippocampus FOLDER --out OUT --table benchmarks/zoo.md

loss: of the first step, and the mean over the last twenty steps (cross-entropy + soft Dice); Dice: mean
over held-out cases and labels; learns: the loss is halved and Dice reaches the bar; CPU s: of one thread.

2D networks see 128² pixels, four pictures a step; FCN-32s sees as much of each, magnified to 256², as it
answers once every 32 pixels, which is as large as a nucleus: at 128² its Dice is .64, but its loss falls by
45 % only (1.48 to .82), whatever the learning rate (.0003, .003), the batch (12, 16) and the norm.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import cast

import torch
from results import add_row, read_rows

from medseg.core.errors import MedsegError
from medseg.core.files import write_json, write_text
from medseg.data.shipped import find_task
from medseg.nets import NETWORKS
from medseg.training.log import read_steps
from medseg.workflows.train import TrainOptions, train

WIDTH, STEPS, SHARE = 0.25, 200, 8  # one case in eight is held out
BAR, EASY_BAR = 0.6, 0.3
# Those held to the higher bar: U-Nets and the later DeepLabs.
STRICT = ("unet", "attention_unet", "vnet", "monai_", "deeplabv3")
PUBLISHED = ("unet2015", "unet3d_2016")  # lose too much of a small patch; measured elsewhere


# 3D networks that halve further than the small patch allows: MONAI's, with the smallest that they take, and
# those whose last map would be a voxel or two wide, with the patch that is planned for the task.
LARGER = {
    "monai_unetr": (32, 32, 32),
    "monai_unetplusplus": (32, 32, 32),
    "monai_swinunetr": (64, 64, 64),
    "fcn16s": (40, 56, 40),
    "deeplabv1": (40, 56, 40),
    "deeplabv3plus_mobilenetv3": (40, 56, 40),
    "lraspp_mobilenetv3": (40, 56, 40),
}
# Pictures magnified by so much: FCN-32s answers once every 32 pixels, as large as a nucleus of the sample's cells;
# it sees as much of a picture as the others do.
MAGNIFIED = {"fcn32s": 2}


@dataclass(frozen=True, slots=True)
class Room:
    """One task: its dimensions, name, folder of cases, patch and batch."""

    dimensions: int
    task: str
    folder: Path
    patch: tuple[int, int, int]
    batch: int


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--hippocampus", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--table", type=Path, metavar="FILE")
    parser.add_argument("--networks", default=",".join(n for n in NETWORKS if n not in PUBLISHED), metavar="A,B")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rooms = (
        Room(2, "cells_2d", options.cells, (128, 128, 1), 4),
        Room(3, "hippocampus_mr", options.hippocampus, (24, 32, 24), 2),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    for name in options.networks.split(","):
        for room in rooms:
            if (name, room.dimensions) in {(row["network"], row["dimensions"]) for row in read_rows(results)}:
                continue
            row = measure(name, room, options.out)
            add_row(results, row)
            if options.table:
                write_text(options.table, page(read_rows(results)))


def measure(name: str, room: Room, out: Path) -> dict[str, object]:
    """Train and score one network; where it cannot be, the reason."""
    folder = out / f"{name}-{room.dimensions}d"
    shutil.rmtree(folder, ignore_errors=True)
    split = out / f"split-{room.dimensions}d.json"
    write_json(split, held_out(room.folder))
    zoom = MAGNIFIED.get(name, 1) if room.dimensions == 2 else 1
    patch = LARGER.get(name, room.patch) if room.dimensions == 3 else (room.patch[0] * zoom, room.patch[1] * zoom, 1)
    changes = {
        "network.name": name,
        "network.width": str(WIDTH),
        "patch": str(list(patch)),
        "batch": str(room.batch),
        "window.overlap": "0.25",
        "window.flips": "false",
        "schedule.validations": "0",
    }
    if zoom > 1:
        changes["spacing"] = str([1 / zoom, 1 / zoom, 1])
    row: dict[str, object] = {"network": name, "dimensions": room.dimensions, "patch": patch[: room.dimensions]}
    started = time.process_time()
    try:
        # What all networks are compared by is the label: objects and their borders are a task of their own.
        task = find_task(room.task).model_copy(update={"instances": False})
        result = train(task, room.folder, folder, TrainOptions(split=split, steps=STEPS, overrides=changes))
    except MedsegError as error:
        return {**row, "problem": str(error)}
    losses = [step.loss for step in read_steps(folder)]
    plan = result.bundle.plan.network
    return {
        **row,
        "norm": plan.norm,
        "parameters": sum(value.numel() for value in result.bundle.state.values()),
        "first": losses[0],
        "last": mean(losses[-20:]),
        "dice": result.report.summary["mean_dice"],
        "seconds": time.process_time() - started,
    }


def held_out(folder: Path) -> dict[str, list[str]]:
    """Every eighth case validates; pictures above a megabyte, a few of another kind, are left out."""
    files = sorted(path for path in (folder / "images").iterdir() if path.stat().st_size < 10**6)
    names = [path.name.split(".")[0] for path in files]
    return {
        "train": [name for place, name in enumerate(names) if place % SHARE],
        "validation": names[::SHARE],
        "test": [],
    }


def page(rows: list[dict[str, object]]) -> str:
    """The table of `benchmarks/zoo.md`."""
    text = (__doc__ or "").strip().splitlines()
    lines = [
        "# The zoo learns",
        "",
        *text,
        "",
        "| network | patch | norm | parameters | loss | Dice | bar | learns | CPU s |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: (list(NETWORKS).index(str(row["network"])), str(row["dimensions"]))):
        patch = "×".join(str(edge) for edge in cast(list[int], row["patch"]))
        head = f"| {row['network']} | {patch} |"
        if "problem" in row:
            lines.append(f"{head} | | | | | {row['problem']} | |")
            continue
        first, last, dice, seconds = (float(str(row[key])) for key in ("first", "last", "dice", "seconds"))
        bar = BAR if str(row["network"]).startswith(STRICT) else EASY_BAR
        learns = "yes" if last <= first / 2 and dice >= bar else "**no**"
        size = f"{row['norm']} | {int(str(row['parameters'])):,}"
        lines.append(f"{head} {size} | {first:.2f} → {last:.2f} | {dice:.3f} | {bar} | {learns} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
