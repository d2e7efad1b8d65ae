"""Which network suits my cases: `medseg compare` trains each with equal effort, and says how sure the answer is."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import Any

from medseg.core.case import Case
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message, silent
from medseg.core.files import write_json, write_text
from medseg.core.task import Task
from medseg.core.version import VERSION
from medseg.data.shipped import data_root
from medseg.data.splits import Split, make_split, read_split
from medseg.nets import NETWORKS, full_name
from medseg.workflows.cell import METRICS, Cell, CellResult, Cost, Effort
from medseg.workflows.grid import CELLS, Grid, Workers, run_grid
from medseg.workflows.prepare import PrepareOptions, free_folder, resolve_task, usable_cases

PICTURES = "pictures"
Scores = dict[str, dict[str, float | None]]  # model -> case -> figure


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is compared, and with what effort.

    models: names of `medseg models`; time_budget: seconds of each training, or steps: of each, its range
    test included; folds: how many of the task's patient-grouped folds are held out one after the other;
    seeds: each trains every model on every fold once; range_test: look for each model's learning rate,
    or take the plan's. prepare: layout, label values, plan overrides (for every model), split and device;
    workers: who trains.
    """

    models: Sequence[str]
    time_budget: float | None = None
    steps: int | None = None
    folds: int = 1
    seeds: Sequence[int] = (0,)
    range_test: bool = True
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    workers: Workers = field(default_factory=Workers)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison left: its folder, and compare.json as plain data."""

    folder: Path
    plain: Mapping[str, Any] = field(repr=False)


def compare(
    task: str | Path | Task,
    data: Path | str | None = None,
    output: Path | str | None = None,
    options: CompareOptions | None = None,
    listener: Listener = silent,
) -> Comparison:
    """Train every model on the same folds with the same seeds and effort; write compare.html, .json and .csv.

    A model that cannot run says why, and the others go on. The same call goes on where an earlier one was
    killed. Raises UsageError for models that do not exist, and MedsegError for data that cannot be used.
    """
    if options is None or not options.models:
        raise UsageError("say which models to compare: names that `medseg models` lists, with commas between")
    check_models(options.models)
    effort = Effort(options.time_budget, options.steps, options.range_test)
    wanted = resolve_task(task, options.prepare)
    root = data_root(wanted, data).resolve()
    folder = Path(output) if output is not None else free_folder(Path("runs") / f"{wanted.name}-compare")
    cases = usable_cases(wanted, root, options.prepare, listener)
    cells = _cells(options, _splits(cases, wanted, options))
    grid = Grid(wanted, root, folder, effort, options.prepare.skip_broken)
    listener(Message(f"{len(cells)} trainings of {effort.words()} each on {wanted.name}"))
    results = run_grid(grid, cells, replace(options.workers, device=options.prepare.device), listener)
    told = _plain(grid, options, cells, results, cases)
    shots = _pictures(grid, cells, results, told, cases)
    _write(folder, told, shots)
    return Comparison(folder, told)


def check_models(models: Sequence[str]) -> None:
    """Raises UsageError for a name that no network has, or one that is given twice."""
    unknown = [name for name in models if full_name(name) not in NETWORKS]
    if unknown:
        raise UsageError(f"there is no model {unknown[0]!r}; there are {', '.join(NETWORKS)}")
    if len({full_name(name) for name in models}) != len(models):
        raise UsageError(f"each model is compared once only, not {', '.join(models)}")


# ---- the grid -------------------------------------------------------------------------------


def _splits(cases: Mapping[str, Case], task: Task, options: CompareOptions) -> list[Split]:
    """Training and held-out cases of every fold; the held-out ones stand as `validation`."""
    if options.prepare.split is not None:
        split = read_split(options.prepare.split, list(cases.values()))
        return [Split(split.train, split.test or split.validation)]
    if not 1 <= options.folds <= task.split.folds:
        raise UsageError(f"folds: must be 1 to {task.split.folds}, as many as the task has, not {options.folds}")
    return [make_split(list(cases.values()), task.split.folds, n, task.split.seed) for n in range(options.folds)]


def _cells(options: CompareOptions, splits: Sequence[Split]) -> list[Cell]:
    """Seed by seed and fold by fold, so that a comparison that was stopped has all models at the same place."""
    return [
        Cell(
            key=f"{model}-fold{fold}-seed{seed}",
            model=model,
            plan={"network.name": model, **options.prepare.overrides},
            train=split.train,
            held_out=split.validation,
            seed=seed,
            fold=fold,
        )
        for seed in options.seeds
        for fold, split in enumerate(splits)
        for model in options.models
    ]


# ---- from results to figures ----------------------------------------------------------------


def scores_of(cells: Sequence[Cell], results: Mapping[str, CellResult], metric: str) -> Scores:
    """model -> case -> figure, the mean over the trainings that held the case out; models without any are left out."""
    found: dict[str, defaultdict[str, list[float | None]]] = {}
    for cell in cells:
        for case, figures in results[cell.key].cases.items():
            if metric in figures:
                found.setdefault(cell.model, defaultdict(list))[case].append(figures[metric])
    return {model: {case: mean_of(values) for case, values in cases.items()} for model, cases in found.items()}


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of those that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _plain(
    grid: Grid,
    options: CompareOptions,
    cells: Sequence[Cell],
    results: Mapping[str, CellResult],
    cases: Mapping[str, Case],
) -> dict[str, Any]:
    """compare.json."""
    from medseg.evaluation.statistics import bootstrap_mean, paired_tests, rank_stability

    groups = {name: case.group for name, case in cases.items()}
    known = {metric: scores_of(cells, results, metric) for metric in METRICS}
    dice = known["dice"]
    held_out = sorted({name for cell in cells for name in cell.held_out})
    rows = []
    for model in options.models:
        intervals = {
            metric: asdict(bootstrap_mean(list(scores[model].values()), [groups[case] for case in scores[model]]))
            for metric, scores in known.items()
            if model in scores
        }
        rows.append({"model": model, **intervals, **summary_of([c for c in cells if c.model == model], results)})
    return {
        "medseg": VERSION,
        "task": grid.task.name,
        "effort": asdict(grid.effort),
        "folds": len({cell.fold for cell in cells}),
        "seeds": list(options.seeds),
        "training_cases": sorted({len(cell.train) for cell in cells}),
        "held_out_cases": len(held_out),
        "held_out_patients": len({groups[name] for name in held_out}),
        "models": rows,
        "tests": [asdict(test) for test in paired_tests(dice, groups)],
        "ranking": asdict(rank_stability(dice, groups=groups)) if dice else None,
        "cases": {model: {case: {m: known[m].get(model, {}).get(case) for m in METRICS if model in known[m]}
                          for case in scores} for model, scores in dice.items()},
        "trainings": [
            {"key": c.key, "model": c.model, "fold": c.fold, "seed": c.seed, **_told(results[c.key])} for c in cells
        ],
    }  # fmt: skip


def summary_of(cells: Sequence[Cell], results: Mapping[str, CellResult]) -> dict[str, Any]:
    """What one model's trainings cost, and how many failed why; figures are means, the peak is the highest."""
    finished = [results[cell.key] for cell in cells if results[cell.key].finished]
    reasons = list(dict.fromkeys(results[cell.key].reason for cell in cells if not results[cell.key].finished))
    costs: list[Cost] = [result.cost for result in finished if result.cost is not None]
    peaks = [cost.peak_bytes for cost in costs if cost.peak_bytes is not None]
    return {
        "trainings": len(finished),
        "failed": len(cells) - len(finished),
        "reasons": reasons,
        "dataset_miou": mean_of([result.dataset_miou for result in finished]),
        "parameters": costs[0].parameters if costs else None,
        "multiply_adds": costs[0].multiply_adds if costs else None,
        "patch": list(costs[0].patch) if costs else None,
        "seconds": mean_of([cost.seconds for cost in costs]),
        "steps": mean_of([float(cost.steps) for cost in costs]),
        "learning_rates": [cost.learning_rate for cost in costs],
        "inference_ms": mean_of([cost.inference_ms for cost in costs]),
        "peak_bytes": max(peaks) if peaks else None,
    }


def _told(result: CellResult) -> dict[str, Any]:
    dice = mean_of([figures.get("dice") for figures in result.cases.values()])
    return {"state": "finished" if result.finished else "failed", "reason": result.reason, "mean_dice": dice,
            "cost": None if result.cost is None else asdict(result.cost)}  # fmt: skip


# ---- files ----------------------------------------------------------------------------------


def _pictures(
    grid: Grid, cells: Sequence[Cell], results: Mapping[str, CellResult], told: Mapping[str, Any],
    cases: Mapping[str, Case],
) -> list[tuple[Path, str]]:  # fmt: skip
    """The worst, the median and the best case by the mean over models, as every model sees it; (file, title)."""
    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]] = told["cases"]
    common = set.intersection(*(set(one) for one in scores.values())) if scores else set()
    means = {case: mean_of([one[case]["dice"] for one in scores.values()]) for case in common}
    ranked = sorted((mean, case) for case, mean in means.items() if mean is not None)
    if not ranked:
        return []
    chosen = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}
    shots = []
    for place, rank in sorted(chosen.items()):
        mean, case = ranked[place]
        path = grid.folder / PICTURES / f"{rank}.png"
        if _picture(grid, cells, results, cases[case], path):
            shots.append((path, f"{rank} case by the mean over models: {case}, mean Dice {mean:.3f}"))
    return shots


def _picture(grid: Grid, cells: Sequence[Cell], results: Mapping[str, CellResult], case: Case, path: Path) -> bool:
    """Draw one case as every model that held it out sees it (with the first seed); whether any did."""
    from medseg.core.volume import LabelMap
    from medseg.data.labels import read_case
    from medseg.evaluation.pictures import models_picture
    from medseg.formats import read_labels, source_of
    from medseg.workflows.cell import RUN_FOLDER
    from medseg.workflows.scoring import PREDICTIONS

    scan, reference = read_case(case, grid.task)
    shown: dict[str, LabelMap] = {}
    for cell in cells:
        home = grid.folder / CELLS / cell.key / RUN_FOLDER / PREDICTIONS
        files = sorted(home.glob(f"{escape(case.id)}.*"))
        dice = results[cell.key].cases.get(case.id, {}).get("dice")
        if not files or any(title.startswith(f"{cell.model}:") for title in shown):
            continue
        found = read_labels(source_of(files[0]))
        title = f"{cell.model}: Dice {'undefined' if dice is None else f'{dice:.3f}'}"
        array = (found.array > 0).astype("uint8") if grid.task.instances else found.array
        shown[title] = LabelMap(array, found.geometry, grid.task.label_table())
    if shown:
        models_picture(scan.volume, reference, shown, path)
    return bool(shown)


def _write(folder: Path, told: Mapping[str, Any], shots: Sequence[tuple[Path, str]]) -> None:
    from medseg.evaluation.compare_page import compare_page

    write_json(folder / "compare.json", told)
    write_text(folder / "compare.csv", _csv(told["models"]))
    write_text(folder / "compare.html", compare_page(told, shots))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a model; a figure's interval stands in two columns behind it."""
    plain = ("dataset_miou", "parameters", "multiply_adds", "seconds", "steps", "inference_ms", "peak_bytes",
             "trainings", "failed")  # fmt: skip
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["model", *(f"{m}{end}" for m in METRICS for end in ("", "_low", "_high")), *plain, "reason"])
    for row in rows:
        figures = [row.get(metric, {}).get(part) for metric in METRICS for part in ("mean", "low", "high")]
        values = ["" if value is None else value for value in (*figures, *(row[name] for name in plain))]
        out.writerow([row["model"], *(round(v, 6) if isinstance(v, float) else v for v in values),
                      "; ".join(row["reasons"])])  # fmt: skip
    return text.getvalue()
