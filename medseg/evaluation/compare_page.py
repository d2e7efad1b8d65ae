"""compare.html: which of several models is best, how sure that is, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.evaluation.paired_plot import paired_plot
from medseg.evaluation.plots import Point, cost_plot, pareto
from medseg.evaluation.results_page import Section, Shot, Table, TableCell, results_page

SIGNIFICANT = 0.05
_METRICS = {"dice": "Dice", "iou": "IoU", "hd95": "HD95 [mm]"}
_PLOTS = {"inference_ms": ("ms to predict a scan", 1.0), "multiply_adds": ("billion multiply-adds a window", 1e-9)}


def compare_page(told: Mapping[str, Any], shots: Sequence[tuple[Path, str]]) -> str:
    """The page from compare.json as plain data; shots: (PNG file, title) of cases as every model sees them."""
    effort = told["effort"]
    each = f"{effort['steps']} steps" if effort["seconds"] is None else f"{effort['seconds']:.3g} s"
    subtitle = (
        f"{told['task']} · {each} a training · {told['folds']} fold{'s' * (told['folds'] != 1)} · "
        f"{len(told['seeds'])} seed{'s' * (len(told['seeds']) != 1)} · {told['held_out_cases']} held-out cases of "
        f"{told['held_out_patients']} patients"
    )
    sections = [
        Section("", verdict(told), lead=True),
        Section("Figures", table=_figures(told["models"]), notes=_figure_notes(told)),
        *_cost_sections(told["models"]),
        Section(
            "Are the differences more than chance?",
            drawing=_pairs(told),
            table=tests_table(told["tests"]),
            notes=_test_notes(told),
        ),
        Section("The same cases side by side", pictures=[Shot(path, title) for path, title in shots]),
        Section("How it was done", _terms(told)),
    ]
    shown = [section for section in sections if any((section.texts, section.drawing, section.table, section.pictures))]
    return results_page(f"Models compared: {told['task']}", subtitle, shown, "compare.json and compare.csv")


def verdict(told: Mapping[str, Any]) -> list[str]:
    """Which model leads, how firmly, and which could not run."""
    texts = []
    ranking = told["ranking"]
    if ranking and len(ranking["models"]) > 1:
        best = ranking["models"][0]
        texts.append(
            f"`{best}` has the highest mean Dice ({ranking['means'][0]:.3f}), and leads in "
            f"{100 * ranking['shares'][0][0]:.0f} % of the draws when other patients are drawn (bootstrap)."
        )
        clear = [t for t in told["tests"] if best in (t["first"], t["second"]) and significant(t)]
        others = len(ranking["models"]) - 1
        texts.append(
            f"Its difference is significant against {len(clear)} of {others} other{'s' * (others != 1)} "
            "(paired Wilcoxon test, Holm correction)."
        )
    for row in told["models"]:
        if row["failed"]:
            how = "could not run" if not row["trainings"] else f"failed in {row['failed']} trainings"
            texts.append(f"`{row['model']}` {how}: {'; '.join(row['reasons'])}")
    return texts


def significant(test: Mapping[str, Any]) -> bool:
    """Whether a paired test, corrected, says that the difference is more than chance."""
    return test["p_holm"] is not None and test["p_holm"] < SIGNIFICANT


def tests_table(tests: Sequence[Mapping[str, Any]]) -> Table | None:
    """All pairs of models; None where there are none."""
    if not tests:
        return None
    rows = []
    for test in tests:
        difference = test["difference"]
        mark = ("good" if difference > 0 else "bad") if significant(test) else ""
        rows.append(
            [
                TableCell(f"{test['first']} – {test['second']}"),
                TableCell(number(difference, "+.3f"), kind=mark),
                TableCell(number(test["p"], ".3g")),
                TableCell(number(test["p_holm"], ".3g"), kind=mark),
                TableCell(str(test["n"])),
            ]
        )
    return Table(("Pair", "difference in Dice", "p", "p, Holm", "patients"), rows)


def interval_cell(figure: Mapping[str, Any] | None, pattern: str, best: bool) -> TableCell:
    """A mean with its interval below it."""
    if figure is None or figure["mean"] is None:
        return TableCell("–")
    ends = "" if figure["low"] is None else f"{figure['low']:{pattern}} – {figure['high']:{pattern}}"
    return TableCell(f"{figure['mean']:{pattern}}", ends, "best" if best else "")


def _figures(rows: Sequence[Mapping[str, Any]]) -> Table:
    metrics = [metric for metric in _METRICS if any(metric in row for row in rows)]
    best = {metric: _best(rows, metric) for metric in metrics}
    lines = []
    for row in rows:
        patterns = {"hd95": ".2f"}
        figures = [
            interval_cell(row.get(metric), patterns.get(metric, ".3f"), row["model"] == best[metric])
            for metric in metrics
        ]
        lines.append(
            [
                TableCell(row["model"], "" if row["trainings"] else "could not run"),
                *figures,
                TableCell(number(row["dataset_miou"], ".3f")),
                TableCell(scaled(row["parameters"], 1e-6, " M")),
                TableCell(scaled(row["multiply_adds"], 1e-9, " G"), "×".join(map(str, row["patch"] or []))),
                TableCell(number(row["seconds"], ".0f"), _steps(row)),
                TableCell(number(row["inference_ms"], ".0f")),
                TableCell(scaled(row["peak_bytes"], 1e-6, " MB")),
            ]
        )
    names = ("dataset mIoU", "parameters", "multiply-adds", "training [s]", "inference [ms]", "peak memory")
    return Table(("Model", *(_METRICS[metric] for metric in metrics), *names), lines)


def _best(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    known = [(row[metric]["mean"], row["model"]) for row in rows if row.get(metric, {}).get("mean") is not None]
    if not known:
        return ""
    _, model = (min if metric == "hd95" else max)(known)
    return str(model)


def _pairs(told: Mapping[str, Any]) -> str:
    """Every case from model to model; nothing where there is one model only."""
    dice = {model: {case: one["dice"] for case, one in cases.items()} for model, cases in told["cases"].items()}
    return paired_plot(dice) if len(dice) > 1 else ""


def _cost_sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    sections = []
    for key, (unit, factor) in _PLOTS.items():
        points = [
            Point(row["model"], row[key] * factor, row["dice"]["mean"], row["dice"]["low"], row["dice"]["high"])
            for row in rows
            if row[key] and row.get("dice", {}).get("mean") is not None
        ]
        if points:
            front = ", ".join(f"`{point.name}`" for point in pareto(points))
            note = f"On the Pareto front (none is better at no higher cost): {front}."
            sections.append(
                Section(f"Dice against {unit}", drawing=cost_plot(points, unit, f"Dice against {unit}"), notes=[note])
            )
    return sections


def _figure_notes(told: Mapping[str, Any]) -> list[str]:
    notes = list(
        dict.fromkeys(row["dice"]["note"] for row in told["models"] if row.get("dice") and row["dice"]["note"])
    )
    notes.append(
        "Dice, IoU and HD95: mean over held-out cases of the mean over labels, below it the 95 % bootstrap interval "
        "over patients. Dataset mIoU: over all voxels of a training's held-out cases. Training: wall-clock, range test "
        "and report included. Inference: median of one scan, from memory to its label map. Peak memory: of the "
        "training process (on a GPU: of its memory)."
    )
    return notes


def _test_notes(told: Mapping[str, Any]) -> list[str]:
    notes = list(dict.fromkeys(test["note"] for test in told["tests"] if test["note"]))
    ranking = told["ranking"]
    if ranking and ranking["models"]:
        places = ", ".join(
            f"`{model}` {rank:.2f}" for model, rank in zip(ranking["models"], ranking["mean_ranks"], strict=True)
        )
        notes.append(f"Mean rank over bootstrap draws of patients (1 is best): {places}.")
        notes += [ranking["note"]] * bool(ranking["note"])
    return notes


def _terms(told: Mapping[str, Any]) -> list[str]:
    effort = told["effort"]
    cases = " or ".join(map(str, told["training_cases"]))
    texts = [
        f"Every model learnt from the same {cases} cases of each fold, with the same seeds and augmentation, and was "
        "scored once, with its last weights, on cases it had not seen. Nothing was chosen by held-out cases."
    ]
    if effort["range_test"]:
        rates = "; ".join(
            f"`{row['model']}` {', '.join(f'{rate:.2g}' for rate in row['learning_rates'])}"
            for row in told["models"]
            if row["learning_rates"]
        )
        texts.append(
            "Learning rates, each from a range test within the budget, or the plan's where that left it too few "
            f"steps: {rates}."
        )
    texts.append("An interval speaks of other patients like these; another training of the same model differs, too.")
    return texts


def _steps(row: Mapping[str, Any]) -> str:
    return "" if row["steps"] is None else f"{row['steps']:.0f} steps"


def number(value: float | None, pattern: str) -> str:
    """A figure for the page; a dash where there is none."""
    return "–" if value is None else f"{value:{pattern}}"


def scaled(value: float | None, factor: float, unit: str) -> str:
    return (
        "–"
        if value is None
        else f"{value * factor:.3g}{unit}"
        if value * factor < 1000
        else f"{value * factor:,.0f}{unit}"
    )
