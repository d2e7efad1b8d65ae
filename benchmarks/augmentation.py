"""One augmented training sample: medseg's torch engine beside elasticdeform, on one core.

Both carry out the same draw (rotation, scale and elastic displacements, image linear and label
nearest); `without a draw` is the plain crop. Times are medians over `--repeats` runs.

    python benchmarks/augmentation.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from medseg.augment import SpatialContext, draw_spatial, require_engine, sample_patch
from medseg.core.errors import MissingDependencyError
from medseg.core.plan import AugmentSpec

PATCHES = ((256, 256, 1), (40, 56, 40), (64, 128, 128))
SPACING = (1.0, 1.0, 1.5)
SPEC = AugmentSpec(rotation_probability=1, scale_probability=1, elastic_probability=1)


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of `work`, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def measure(patch: tuple[int, int, int], repeats: int) -> dict[str, str]:
    """One row of the table for a patch of this shape, drawn from a case of 220 x 300 x 220 voxels."""
    rng = np.random.default_rng(0)
    shape, center = (220, 300, 220), (110.0, 150.0, 110.0)
    image = torch.from_numpy(rng.normal(size=(1, *shape)).astype(np.float32))
    label = torch.from_numpy(rng.integers(0, 3, shape).astype(np.uint8))
    context = SpatialContext(SPACING)
    draw = draw_spatial(SPEC, 2 if patch[2] == 1 else 3, SPACING, patch, rng)
    variants = {
        "without a draw": None,
        "torch, linear": draw,
        "torch, cubic": replace(draw, cubic=True),
        "elasticdeform, linear": replace(draw, engine="elasticdeform"),
        "elasticdeform, cubic": replace(draw, engine="elasticdeform", cubic=True),
    }
    row = {"patch": "×".join(map(str, patch))}
    samples: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, variant in variants.items():
        try:
            require_engine(variant.engine if variant else "torch")
        except MissingDependencyError:
            row[name] = "not installed"
            continue
        work = partial(sample_patch, image, label, center, patch, variant, context)
        samples[name] = work()
        row[name] = f"{median_ms(work, repeats):.2f} ms"
    if "elasticdeform, linear" in samples:
        apart = (samples["torch, linear"][0] - samples["elasticdeform, linear"][0]).abs().mean()
        row["mean difference of the engines"] = f"{float(apart / (image.max() - image.min())):.1e} of the range"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(patch, options.repeats) for patch in PATCHES]
    names = [name for name in rows[0] if name != "patch"]
    print("| |", " | ".join(row["patch"] for row in rows), "|")
    print("|---|" + "---|" * len(rows))
    for name in names:
        print(f"| {name} |", " | ".join(row[name] for row in rows), "|")


if __name__ == "__main__":
    main()
