"""The networks there are, what each is and costs: `medseg models`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import UsageError
from medseg.core.machine import machine
from medseg.core.plan import Fingerprint, NetworkSpec, Plan, fingerprint_from_plain, plan_from_plain
from medseg.core.task import Task
from medseg.planning import plan

if TYPE_CHECKING:
    from medseg.nets.cost import Layer

_PATCHES = {2: (256, 256), 3: (96, 96, 96)}  # where neither task nor run says another
_LOOKED_AT = 4  # cases of a task whose size the planner is told


@dataclass(frozen=True, slots=True)
class Model:
    """One network.

    parameters: of its reference configuration; multiply_adds (one sample's forward pass) and
    peak_memory_bytes (one sample's training step, float32, AdamW; estimated from the maps that are
    kept) at `patch`: of the reference configuration, or as planned for the task that was asked for,
    which then has planned_parameters; problem: why it cannot be had, "" where it can.
    """

    name: str
    ndim: int
    parameters: int
    multiply_adds: int | None
    peak_memory_bytes: int | None
    patch: tuple[int, ...]
    year: int
    paper: str
    planned_parameters: int | None = None
    problem: str = ""

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**dataclasses.asdict(self), "patch": list(self.patch)}


@dataclass(frozen=True, slots=True)
class Drawn:
    """One network's layers at a patch; `source` says whose configuration it is."""

    name: str
    source: str
    patch: tuple[int, ...]
    parameters: int
    multiply_adds: int
    peak_memory_bytes: int
    layers: tuple[Layer, ...]

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


def models(task: str | Path | Task | None = None, data: Path | str | None = None) -> tuple[Model, ...]:
    """All networks; with a task, their costs as planned for it on a processor.

    The task's patch follows from a few of its cases, which must be there. Raises MedsegError.
    """
    from medseg.nets.catalog import catalog

    if task is None:
        return tuple(_reference(name) for name in catalog())
    wanted, prints = _looked_at(task, data)
    return tuple(_planned(name, wanted, prints) for name in catalog())


def layers(name: str, run: Path | str | None = None) -> Drawn:
    """The layers of a network: as a run's plan has it or would have it, or of its reference configuration.

    Raises PlanError for a name that is none, UsageError where `run` is neither a run nor a bundle.
    """
    from medseg.nets.catalog import entry
    from medseg.nets.cost import cost

    known = entry(name)
    if run is None:
        spec, patch, source = known.reference, _patch(known.reference), "reference configuration"
    else:
        planned, source = _of_run(name, Path(run)), f"the plan of {run}"
        spec, patch = planned.network, planned.patch[: planned.ndim]
    found = cost(spec, patch)
    return Drawn(name, source, patch, found.parameters, found.multiply_adds, found.training_bytes, found.layers)


def _reference(name: str) -> Model:
    from medseg.core.errors import MissingDependencyError
    from medseg.nets.catalog import entry
    from medseg.nets.cost import cost

    known = entry(name)
    spec, patch = known.reference, _patch(known.reference)
    try:
        found = cost(spec, patch)
    except MissingDependencyError as error:
        return Model(name, spec.ndim, 0, None, None, patch, known.year, known.paper, problem=str(error))
    return Model(
        name, spec.ndim, found.published, found.multiply_adds, found.training_bytes, patch, known.year, known.paper
    )


def _planned(name: str, task: Task, prints: Fingerprint) -> Model:
    """The reference's parameters, and what the network costs as planned for a task."""
    from medseg.core.errors import PlanError
    from medseg.nets.cost import cost

    row = _reference(name)
    if row.problem:
        return row
    try:
        wanted = plan(prints, task, machine("cpu", task.dimensions), {"network.name": name})
        patch = wanted.patch[: wanted.ndim]
        found = cost(wanted.network, patch)
    except PlanError as error:
        return dataclasses.replace(row, multiply_adds=None, peak_memory_bytes=None, problem=str(error))
    return dataclasses.replace(
        row,
        ndim=wanted.ndim,
        patch=patch,
        multiply_adds=found.multiply_adds,
        peak_memory_bytes=found.training_bytes,
        planned_parameters=found.parameters,
    )


def _patch(spec: NetworkSpec) -> tuple[int, ...]:
    from medseg.nets import fit_patch

    return fit_patch(spec, _PATCHES[spec.ndim])


def _looked_at(task: str | Path | Task, data: Path | str | None) -> tuple[Task, Fingerprint]:
    from medseg.core.events import silent
    from medseg.data.fingerprint import fingerprint
    from medseg.data.layouts import find_cases
    from medseg.data.shipped import data_root, find_task

    wanted = task if isinstance(task, Task) else find_task(str(task))
    root = data_root(wanted, data)
    cases = find_cases(wanted, root).cases
    if not cases:
        raise UsageError(f"{root}: holds no labelled case for task {wanted.name!r}; see `medseg inspect {root}`")
    chosen = cases[:: -(-len(cases) // _LOOKED_AT)]  # spread over the list: neighbouring ids are often alike
    return wanted, fingerprint(chosen, wanted, silent)


def _of_run(name: str, folder: Path) -> Plan:
    """The run's own plan, or what would have been planned for another network."""
    from medseg.workflows.prepare import FINGERPRINT, PLAN, read_run

    inner = folder if (folder / PLAN).is_file() else folder / "bundle"
    try:
        own = plan_from_plain(json.loads((inner / PLAN).read_text(encoding="utf-8")), str(inner / PLAN))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: is neither a run nor a bundle (it holds no readable {PLAN})") from error
    if own.network.name == name:
        return own
    task, _ = read_run(folder)
    try:
        prints = fingerprint_from_plain(json.loads((folder / FINGERPRINT).read_text(encoding="utf-8")), FINGERPRINT)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: has a plan for {own.network.name!r} and no {FINGERPRINT} to plan from") from error
    return plan(prints, task, machine("cpu", task.dimensions), {"network.name": name})
