"""Draw what training varies: augmented samples of a task's cases, with their masks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import UsageError
from medseg.core.events import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medseg.core.plan import Plan
    from medseg.core.task import Task
    from medseg.data.cache import PreparedCase

    Sample = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """What to draw.

    cases: rows of the picture; samples: augmented samples in each row; seed: of every draw;
    elastic_engine: torch or elasticdeform; overrides: dotted plan keys; images, labels, group: layout
    patterns; map: label name -> values in the user's files.
    """

    cases: int = 4
    samples: int = 5
    seed: int = 0
    elastic_engine: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    labels: str | None = None
    group: str | None = None
    map: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def augment(
    task: str | Path | Task,
    data: Path | str | None = None,
    output: Path | str = "augmented.png",
    options: AugmentOptions | None = None,
    listener: Listener = silent,
) -> Path:
    """Draw a grid of patches: a row per case, first as it is, then varied as training would.

    The plan is made from the cases that are shown. Volumes are shown in the axial slice with most
    foreground. Returns the picture's path. Raises TaskError, DataError, PlanError or UsageError.
    """
    from medseg.core.machine import machine
    from medseg.data.cache import prepare_cases
    from medseg.data.fingerprint import fingerprint
    from medseg.data.layouts import find_cases
    from medseg.data.shipped import data_root
    from medseg.evaluation.pictures import sample_grid
    from medseg.planning import plan
    from medseg.workflows.prepare import PrepareOptions, resolve_task

    options = options or AugmentOptions()
    if min(options.cases, options.samples) < 1:
        raise UsageError("--cases and --samples must be at least 1")
    layout = PrepareOptions(images=options.images, labels=options.labels, group=options.group, map=options.map)
    wanted = resolve_task(task, layout)
    cases = find_cases(wanted, data_root(wanted, data)).cases[: options.cases]
    planned = plan(fingerprint(cases, wanted, listener), wanted, machine("cpu", wanted.dimensions), _overrides(options))
    drawn: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="medseg-augment-") as folder:
        prepared = prepare_cases(cases, wanted, planned, Path(folder), listener)
        for place, case in enumerate(prepared):
            drawn += _row(case, place, wanted, planned, options)
            listener(Progress("drawing", place + 1, len(prepared)))
    path = Path(output)
    sample_grid(drawn, wanted.label_table(), path, columns=options.samples + 1)
    return path


def _overrides(options: AugmentOptions) -> dict[str, Any]:
    engine = {} if options.elastic_engine is None else {"augment.elastic_engine": options.elastic_engine}
    return {**engine, **options.overrides}


def _row(case: PreparedCase, place: int, task: Task, plan: Plan, options: AugmentOptions) -> list[Sample]:
    """The patch as it is, then `options.samples` augmented ones, each about a centre of its own."""
    import numpy as np
    import torch

    from medseg.augment import SpatialContext, apply_intensity, draw_intensity, draw_spatial, sample_patch
    from medseg.core.labels import mirrored_values
    from medseg.data.sampler import draw_center

    rng = np.random.default_rng([options.seed, place])
    mirror = torch.tensor(mirrored_values(task.label_table()), dtype=torch.uint8)
    context = SpatialContext(plan.spacing, mirror, plan.augment.lateral)
    image, label = torch.from_numpy(case.image), torch.from_numpy(case.label)
    row: list[Sample] = []
    for number in range(options.samples + 1):
        center = draw_center(case, plan.patch, 1.0, rng)
        draw = draw_spatial(plan.augment, plan.ndim, plan.spacing, plan.patch, rng) if number else None
        patch, target = sample_patch(image, label, center, plan.patch, draw, context)
        batch = patch[None, ..., 0] if plan.ndim == 2 else patch[None]  # [1, C, *spatial]
        if number:
            batch = apply_intensity(batch, draw_intensity(plan.augment, 1, batch.shape[1], rng))
        varied = batch[0, ..., None] if plan.ndim == 2 else batch[0]  # [C, I, J, K]
        upright = case.label.shape[2] == 1
        row.append(_shown(varied.numpy(), target.numpy().astype(np.uint8), upright))
    return row


def _shown(image: NDArray[np.float32], label: NDArray[np.uint8], upright: bool) -> Sample:
    """[C, I, J, K] and [I, J, K] -> what is drawn: the slice with most foreground, [rows, columns(, 3)].

    Pictures (`upright`) are shown as they are; slices of volumes anterior up, the patient's right on
    the left.
    """
    import numpy as np

    from medseg.core.labels import IGNORE

    inside = ((label > 0) & (label != IGNORE)).sum(axis=(0, 1))
    best = int(inside.argmax()) if inside.any() else label.shape[2] // 2
    plane, mask = image[..., best], label[..., best]  # [C, I, J], [I, J]
    if not upright:
        plane, mask = plane[:, ::-1, ::-1].transpose(0, 2, 1), mask[::-1, ::-1].T
    grey = plane[0] if plane.shape[0] != 3 else np.moveaxis(plane, 0, -1)
    return np.ascontiguousarray(grey), np.ascontiguousarray(mask)
