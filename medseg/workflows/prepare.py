"""From a task and a folder to a plan and preprocessed cases: the first half of training, on its own.

Everything is written into the run folder, where a person can read it, edit `plan.json`, and go on
with `medseg train RUN`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from medseg.core.case import Case, Severity, Source
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message, silent
from medseg.core.files import write_json
from medseg.core.identifiers import Identifiers
from medseg.core.machine import Preset, machine, preset_for
from medseg.core.plan import Fingerprint, Plan, fingerprint_from_plain, override, plan_from_plain, to_plain
from medseg.core.task import Task, parse_task
from medseg.data.cache import PreparedCase, prepare_cases
from medseg.data.check import check_cases
from medseg.data.dataset import refuse
from medseg.data.fingerprint import fingerprint
from medseg.data.layouts import Overrides, apply_overrides, find_cases
from medseg.data.shipped import data_root, find_task
from medseg.data.splits import Split, make_split, read_split
from medseg.planning import full_names, plan, validated

RUN, SPLIT, FINGERPRINT, PLAN, CACHE = "run.json", "split.json", "fingerprint.json", "plan.json", "cache"


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """What may be asked of the preparation beyond task and data.

    split: JSON file with train, validation and test lists of case ids; fold: which fold validates;
    seed: of the folds; device: auto, cpu or cuda (the plan's budget follows it); overrides: dotted
    plan keys; preset: fast, balanced or best (None: what suits the time budget); images, labels, group:
    layout patterns; map: label name -> values in the user's
    files; undeclared: what values that no label names mean (refuse, background, ignore);
    skip_broken: leave broken cases out instead of refusing; checked: the files of the cases were checked
    before, and are not read for that again.
    """

    split: Path | None = None
    fold: int | None = None
    seed: int | None = None
    device: str = "auto"
    overrides: Mapping[str, str] = field(default_factory=dict)
    preset: Preset | None = None
    images: tuple[str, ...] = ()
    labels: str | None = None
    group: str | None = None
    map: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    undeclared: str | None = None
    skip_broken: bool = False
    checked: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """A run folder that is ready to be trained in; `prepared` holds training and validation cases by id.

    data_hash: sha256 hex over the training cases' files and how they were preprocessed, not their names.
    """

    folder: Path
    task: Task
    cases: Mapping[str, Case]
    split: Split
    fingerprint: Fingerprint
    plan: Plan
    prepared: Mapping[str, PreparedCase]
    data_hash: str


def prepare(
    task: str | Path | Task,
    data: Path | str | None = None,
    output: Path | str | None = None,
    options: PrepareOptions | None = None,
    listener: Listener = silent,
) -> Preparation:
    """Find, check, split, measure, plan and preprocess the cases of a task into a run folder.

    A folder that was prepared before keeps its split and its (perhaps edited) plan.json.
    Raises TaskError, DataError (every problem of every case at once), PlanError or UsageError.
    """
    options = options or PrepareOptions()
    wanted = resolve_task(task, options)
    root = data_root(wanted, data).resolve()
    folder = Path(output) if output is not None else free_folder(Path("runs") / wanted.name)
    _claim(folder, wanted, root, options)
    return prepare_run(folder, options, listener)


def prepare_run(folder: Path, options: PrepareOptions, listener: Listener = silent) -> Preparation:
    """The preparation of a folder whose run.json says which task and data it is for."""
    task, root = read_run(folder)
    cases = usable_cases(task, root, options, listener)
    split = _split(folder, cases, task, options)
    used = [cases[name] for name in (*split.train, *split.validation)]
    prints = _fingerprint(folder, [cases[name] for name in split.train], task, listener)
    planned = _plan(folder, prints, task, options)
    prepared = {case.id: case for case in prepare_cases(used, task, planned, folder / CACHE, listener)}
    keys = sorted(prepared[name].key for name in split.train)
    data_hash = hashlib.sha256("\n".join(keys).encode()).hexdigest()
    return Preparation(folder, task, cases, split, prints, planned, prepared, data_hash)


def resolve_task(task: str | Path | Task, options: PrepareOptions) -> Task:
    """The task by name, path or itself, with the command line's layout and label values put in."""
    found = task if isinstance(task, Task) else find_task(str(task))
    return apply_overrides(
        found, Overrides(options.images, options.labels, options.group, options.map, options.undeclared)
    )


def free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of wanted-2, wanted-3, … that does not exist."""
    folder, number = wanted, 2
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def read_run(folder: Path) -> tuple[Task, Path]:
    """Task and data folder of a run. Raises UsageError where `folder` is no run."""
    path = folder / RUN
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return parse_task(raw["task"], str(path)), Path(raw["data"])
    except FileNotFoundError as error:
        raise UsageError(f"{folder}: is no medseg run (it holds no {RUN})") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is damaged; start the run anew in another folder") from error


def _claim(folder: Path, task: Task, root: Path, options: PrepareOptions) -> None:
    """Write run.json, or see that the one there is for the same task and data."""
    wanted = {"task": task.model_dump(mode="json"), "data": str(root)}
    path = folder / RUN
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if {key: kept.get(key) for key in wanted} != wanted:
            raise UsageError(f"{folder}: holds a run of another task or other data; choose another --output")
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: is not empty and no medseg run; choose another --output")
    # Written before any work, so that a run killed at any moment still knows what it was asked for.
    write_run(folder, task, root, options)


def write_run(folder: Path, task: Task, root: Path, options: PrepareOptions) -> None:
    """Write run.json: which task on which data, and what was asked for."""
    plain = json.loads(json.dumps(asdict(options), default=str))
    write_json(folder / RUN, {"task": task.model_dump(mode="json"), "data": str(root), "options": plain})


def usable_cases(task: Task, root: Path, options: PrepareOptions, listener: Listener) -> dict[str, Case]:
    """The labelled cases below `root` by id, every problem told. Raises DataError where one cannot be used."""
    dataset = find_cases(task, root)
    secret = Identifiers.among(_sources(dataset.cases))
    found = [*dataset.problems, *([] if options.checked else check_cases(dataset.cases, task, listener))]
    problems = [replace(problem, message=secret.mask(problem.message)) for problem in found]
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    if errors and not options.skip_broken:
        raise refuse(f"{root}: cases that cannot be used ({len(errors)}); mend them or pass --skip-broken:", errors)
    for text in [*dataset.notes, *(f"{problem.case}: {problem.message}" for problem in problems)]:
        listener(Message(text, "warning"))
    broken = {problem.case for problem in errors}
    usable = {case.id: case for case in dataset.cases if case.id not in broken}
    if not usable:
        raise UsageError(f"{root}: holds no labelled case for task {task.name!r}; see `medseg inspect {root}`")
    return usable


def _sources(cases: Iterable[Case]) -> Iterator[Source]:
    for case in cases:
        yield from case.images
        if case.label is not None:
            yield case.label


def _split(folder: Path, cases: Mapping[str, Case], task: Task, options: PrepareOptions) -> Split:
    path = folder / SPLIT
    if path.exists():
        return read_split(path, list(cases.values()))
    if options.split is not None:
        split = read_split(options.split, list(cases.values()))
    else:
        seed = task.split.seed if options.seed is None else options.seed
        split = make_split(list(cases.values()), task.split.folds, options.fold or 0, seed)
    write_json(path, {"train": split.train, "validation": split.validation, "test": split.test})
    return split


def _fingerprint(folder: Path, cases: Sequence[Case], task: Task, listener: Listener) -> Fingerprint:
    path = folder / FINGERPRINT
    if path.exists():
        return fingerprint_from_plain(json.loads(path.read_text(encoding="utf-8")), str(path))
    prints = fingerprint(cases, task, listener)
    write_json(path, to_plain(prints))
    return prints


def _plan(folder: Path, prints: Fingerprint, task: Task, options: PrepareOptions) -> Plan:
    from medseg.inference import resolve_device
    from medseg.training.losses import loss_terms

    path = folder / PLAN
    if path.exists():
        kept = plan_from_plain(json.loads(path.read_text(encoding="utf-8")), str(path))
        planned = validated(override(kept, full_names(options.overrides)), task)
    else:
        device: Literal["cuda", "cpu"] = "cuda" if resolve_device(options.device).type == "cuda" else "cpu"
        preset = options.preset or preset_for(device, _seconds(options))
        planned = plan(prints, task, machine(device, task.dimensions, preset), options.overrides)
    loss_terms(planned.schedule)  # refuses a loss that does not exist before anything is preprocessed
    write_json(path, to_plain(planned))
    return planned


def _seconds(options: PrepareOptions) -> float | None:
    """The time budget among the plan's overrides; what is no number there is refused later, by its key."""
    try:
        return float(options.overrides["schedule.time_budget"])
    except (KeyError, ValueError):
        return None
