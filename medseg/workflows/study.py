"""How many labelled cases are enough: `medseg study` trains models on nested draws of few cases, and fits the curve."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from medseg.core.case import Case
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message, silent
from medseg.core.files import write_json, write_text
from medseg.core.study import Study, shrink
from medseg.core.task import Task
from medseg.core.version import VERSION
from medseg.data.shipped import data_root, find_study
from medseg.data.splits import make_split
from medseg.evaluation.learning_curve import Witness, curve, expect, fit_law, means
from medseg.nets import NETWORKS, full_name
from medseg.workflows.cell import METRICS, Cell, CellResult, Effort
from medseg.workflows.compare import mean_of, scores_of, summary_of
from medseg.workflows.grid import Grid, Workers, run_grid
from medseg.workflows.prepare import PrepareOptions, free_folder, resolve_task, usable_cases

MORE = 5  # labelled cases that the page's promise is about
_RESERVE = 15.0  # seconds of a budget for reading the cases and writing the report
_OVERHEAD = 6.0  # seconds of a training beyond its own: its worker's imports, and timing the prediction


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """How a study is run.

    time_budget: wall-clock of the whole study (None: as long as its file says); steps: of every training,
    instead of what the file says. prepare: layout, label values, plan overrides (for every model) and
    device; workers: who trains.
    """

    time_budget: float | None = None
    steps: int | None = None
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    workers: Workers = field(default_factory=Workers)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study left: its folder, and study.json as plain data."""

    folder: Path
    plain: Mapping[str, Any] = field(repr=False)


def study(
    asked: str | Path | Study,
    data: Path | str | None = None,
    output: Path | str | None = None,
    options: StudyOptions | None = None,
    listener: Listener = silent,
) -> StudyResult:
    """Train every model on every draw of cases; write study.html, .json and .csv with the learning curves.

    asked: the study's name, its file or itself; data: folder of the cases, by default the task's own. The same call
    goes on where an earlier one was killed. Raises TaskError, UsageError or DataError where it cannot begin.
    """
    options = options or StudyOptions()
    wish = asked if isinstance(asked, Study) else find_study(str(asked))
    _check_networks(wish)
    wanted = resolve_task(wish.task, options.prepare)
    root = data_root(wanted, data).resolve()
    folder = Path(output) if output is not None else free_folder(Path("runs") / wish.name)
    cases = usable_cases(wanted, root, options.prepare, listener)
    fitting, notes = _fitting(wish, cases, wanted)
    shrunk, more = _effort(fitting, options)
    cells = _cells(shrunk, cases, wanted, options.prepare)
    effort = Effort(shrunk.time, shrunk.steps, shrunk.range_test)
    grid = Grid(wanted, root, folder, effort, options.prepare.skip_broken)
    for note in [*notes, *more]:
        listener(Message(note))
    listener(Message(f"{len(cells)} trainings of {effort.words()} each on {wanted.name}"))
    results = run_grid(grid, cells, replace(options.workers, device=options.prepare.device), listener)
    told = _plain(grid, shrunk, cells, results, cases)
    told["notes"] = [*notes, *more]
    _write(folder, told)
    return StudyResult(folder, told)


# ---- the grid -------------------------------------------------------------------------------


def _check_networks(asked: Study) -> None:
    for model in asked.models:
        name = asked.plan_of(model)["network.name"]
        if full_name(name) not in NETWORKS:
            raise UsageError(
                f"study {asked.name}: model {model!r} asks for the network {name!r}; there are {', '.join(NETWORKS)}"
            )


def _fitting(asked: Study, cases: Mapping[str, Case], task: Task) -> tuple[Study, list[str]]:
    """The study with numbers of cases that there are; what is larger becomes all that there are, once."""
    if asked.folds > task.split.folds:
        raise UsageError(f"study {asked.name}: {asked.folds} folds, but task {task.name} has {task.split.folds}")
    most = min(len(_fold(cases, task, fold).train) for fold in range(asked.folds))
    numbers = sorted({min(n, most) for n in asked.cases})
    if numbers == asked.cases:
        return asked, []
    note = f"of {len(cases)} cases {most} are left to learn from: {numbers} instead of {asked.cases} cases"
    return asked.model_copy(update={"cases": numbers}), [note]


def _effort(fitting: Study, options: StudyOptions) -> tuple[Study, list[str]]:
    """The study with the time or steps that were asked for."""
    if options.steps is not None:
        return fitting.model_copy(update={"steps": options.steps, "time": None}), []
    if options.time_budget is None:
        return fitting, []
    workers = options.workers.count or 1
    shrunk = shrink(fitting, options.time_budget, workers, _RESERVE, _OVERHEAD)
    return shrunk.study, list(shrunk.notes)


def _fold(cases: Mapping[str, Case], task: Task, fold: int) -> Any:
    return make_split(list(cases.values()), task.split.folds, fold, task.split.seed)


def _cells(asked: Study, cases: Mapping[str, Case], task: Task, options: PrepareOptions) -> list[Cell]:
    """Seed by seed, fold by fold, draw by draw, so that a study that was stopped has whole curves."""
    cells = []
    for seed in range(asked.seeds):
        for fold in range(asked.folds):
            split = _fold(cases, task, fold)
            for subset in range(asked.subsets):
                order = drawn_order(split.train, cases, f"{asked.seed}:{fold}:{subset}")
                cells += [
                    Cell(
                        key=f"{model}-{count}cases-subset{subset}-fold{fold}-seed{seed}",
                        model=model,
                        plan={**asked.plan_of(model), **options.overrides},
                        train=first_cases(order, count),
                        held_out=split.validation,
                        seed=seed,
                        fold=fold,
                        subset=subset,
                        count=count,
                    )
                    for count in asked.cases
                    for model in asked.models
                ]
    return cells


def drawn_order(train: Sequence[str], cases: Mapping[str, Case], draw: str) -> list[tuple[str, ...]]:
    """The cases of every patient, patients in an order drawn by hashing: the same on every machine."""
    of_patient: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(train):
        of_patient[cases[name].group].append(name)
    order = sorted(of_patient, key=lambda patient: sha256(f"{draw}:{patient}".encode()).digest())
    return [tuple(of_patient[patient]) for patient in order]


def first_cases(order: Sequence[Sequence[str]], count: int) -> tuple[str, ...]:
    """All cases of the first patients, as many as hold at least `count` cases; fewer are always among more."""
    chosen: list[str] = []
    for names in order:
        if len(chosen) >= count:
            break
        chosen += names
    return tuple(sorted(chosen))


# ---- from results to curves -----------------------------------------------------------------


def _plain(
    grid: Grid, asked: Study, cells: Sequence[Cell], results: Mapping[str, CellResult], cases: Mapping[str, Case]
) -> dict[str, Any]:
    """study.json."""
    groups = {name: case.group for name, case in cases.items()}
    held_out = {name for cell in cells for name in cell.held_out}
    return {
        "medseg": VERSION,
        "study": asked.model_dump(mode="json"),
        "effort": asdict(grid.effort),
        "held_out_cases": len(held_out),
        "held_out_patients": len({groups[name] for name in held_out}),
        "curves": {model: _curve(witnesses(cells, results, model)) for model in asked.models},
        "steps": {model: _steps(asked, cells, results, model, groups) for model in asked.models},
        "counts": [_at_count(asked, cells, results, count, groups) for count in asked.cases],
        "costs": [
            {"model": model, "cases": count,
             **summary_of([c for c in cells if c.model == model and c.count == count], results)}
            for model in asked.models for count in asked.cases
        ],
        "trainings": [_training(cell, results[cell.key]) for cell in cells],
    }  # fmt: skip


def witnesses(cells: Sequence[Cell], results: Mapping[str, CellResult], model: str) -> list[Witness]:
    """A model's mean Dice by number of cases, one mapping per draw (per seed where there is one draw only)."""
    single = len({cell.subset for cell in cells}) == 1
    found: defaultdict[int, defaultdict[int, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell.model == model and results[cell.key].finished:
            dice = mean_of([figures.get("dice") for figures in results[cell.key].cases.values()])
            found[cell.seed if single else cell.subset][cell.count].append(dice)
    averaged = [{count: mean_of(values) for count, values in one.items()} for one in found.values()]
    return [{count: dice for count, dice in one.items() if dice is not None} for one in averaged]


def _curve(drawn: Sequence[Witness]) -> dict[str, Any]:
    """Points with intervals, every witness, the fitted law and what more cases promise."""
    points = curve(drawn)
    promise = expect(drawn, MORE)
    return {
        "points": [asdict(point) for point in points],
        "witnesses": [{str(count): value for count, value in sorted(one.items())} for one in drawn],
        "law": asdict(fit_law(means(drawn))) if promise is not None else None,
        "expectation": None if promise is None else asdict(promise),
    }


def _at_count(
    asked: Study, cells: Sequence[Cell], results: Mapping[str, CellResult], count: int, groups: Mapping[str, str]
) -> dict[str, Any]:
    """The models beside each other at one number of cases: tests and ranking over held-out patients."""
    from medseg.evaluation.statistics import paired_tests, rank_stability

    scores = scores_of([cell for cell in cells if cell.count == count], results, "dice")
    return {
        "cases": count,
        "means": {model: mean_of(list(scores[model].values())) for model in asked.models if model in scores},
        "tests": [asdict(test) for test in paired_tests(scores, groups)],
        "ranking": asdict(rank_stability(scores, groups=groups)) if scores else None,
    }


def _steps(
    asked: Study, cells: Sequence[Cell], results: Mapping[str, CellResult], model: str, groups: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Every number of cases against every other, for one model: does more help, and is that more than chance?"""
    from medseg.evaluation.statistics import paired_tests

    scores = {}
    for count in asked.cases:
        found = scores_of([c for c in cells if c.model == model and c.count == count], results, "dice")
        if model in found:
            scores[str(count)] = found[model]
    return [asdict(test) for test in paired_tests(scores, groups)]


def _training(cell: Cell, result: CellResult) -> dict[str, Any]:
    means = {metric: mean_of([figures.get(metric) for figures in result.cases.values()]) for metric in METRICS}
    return {
        "key": cell.key, "model": cell.model, "cases": cell.count, "trained_on": list(cell.train),
        "subset": cell.subset, "fold": cell.fold, "seed": cell.seed,
        "state": "finished" if result.finished else "failed", "reason": result.reason, **means,
        "dataset_miou": result.dataset_miou, "cost": None if result.cost is None else asdict(result.cost),
    }  # fmt: skip


# ---- files ----------------------------------------------------------------------------------


def _write(folder: Path, told: Mapping[str, Any]) -> None:
    from medseg.evaluation.study_page import study_page

    write_json(folder / "study.json", told)
    write_text(folder / "study.csv", _csv(told["trainings"]))
    write_text(folder / "study.html", study_page(told))


def _csv(trainings: Sequence[Mapping[str, Any]]) -> str:
    """One line a training."""
    columns = ("model", "cases", "subset", "fold", "seed", "state", *METRICS, "dataset_miou")
    costs = ("parameters", "multiply_adds", "steps", "seconds", "learning_rate", "inference_ms", "peak_bytes")
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([*columns, *costs, "reason"])
    for one in trainings:
        values = [*(one[name] for name in columns), *((one["cost"] or {}).get(name) for name in costs)]
        shown = ["" if v is None else round(v, 6) if isinstance(v, float) else v for v in values]
        out.writerow([*shown, one["reason"]])
    return text.getvalue()
