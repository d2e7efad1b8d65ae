"""Reports as tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.cli.render import cell_text, print_table
from medseg.core.report import Report

if TYPE_CHECKING:
    from medseg.evaluation.models import Comparison

_SCORED_ON = {"test": "the test cases", "validation": "the validation cases", "given": "the given cases"}
_PER_LABEL = {
    "Dice": "mean_dice",
    "IoU": "mean_iou",
    "Dice (all voxels)": "dataset_dice",
    "HD95 mm": "mean_hd95",
    "NSD": "mean_nsd",
    "clDice": "mean_cldice",
    "cases": "n_defined",
}
_HEADLINE = {"mean Dice": "mean_dice", "mean IoU": "mean_iou", "mIoU over the dataset": "dataset_miou"}
_OBJECTS = {"F1 at an IoU of 0.5": "f1_50", "panoptic quality": "pq_50", "AJI": "aji"}
_COUNTS = {
    "absent in both (left out)": "n_both_empty",
    "predicted but absent in the reference (scored 0)": "n_empty_reference",
    "missed altogether (scored 0)": "n_missed",
}


def print_report(report: Report) -> None:
    """Figures per label and over all, the counts behind them, and what could not be scored."""
    per_label = report.summary.get("per_label", {})
    print(f"Scored on {_SCORED_ON.get(report.scored_on, report.scored_on)} ({report.summary.get('n_cases', 0)}):")
    if per_label:
        parts = {**per_label, **report.summary.get("per_region", {})}
        shown = {name: key for name, key in _PER_LABEL.items() if any(key in figures for figures in parts.values())}
        rows = [[name, *(figures.get(key) for key in shown.values())] for name, figures in parts.items()]
        print_table(["label", *shown], rows)
    print(", ".join(f"{name} {cell_text(report.summary.get(key))}" for name, key in _HEADLINE.items()))
    if "f1_50" in report.summary:
        print("objects: " + ", ".join(f"{name} {cell_text(report.summary[key])}" for name, key in _OBJECTS.items()))
    counts = [f"{report.summary[key]} {name}" for name, key in _COUNTS.items() if report.summary.get(key)]
    if counts:
        print("case and label pairs: " + ", ".join(counts))
    for case, reason in report.problems.items():
        print(f"problem: {case}: {reason}")


def print_comparison(comparison: Comparison) -> None:
    """A table of models, one of their differences, and what could not be scored."""
    rows = []
    for name, report in comparison.reports.items():
        interval = report.summary["interval"]
        ends = "" if interval["low"] is None else f"{interval['low']:.3f} to {interval['high']:.3f}"
        rows.append([name, report.summary["mean_dice"], ends, report.summary["mean_iou"], report.summary["n_cases"]])
    print_table(["model", "mean Dice", "95 % interval", "mean IoU", "cases"], rows)
    print()
    tests = [
        [f"{test.first} - {test.second}", _signed(test.difference), test.n, _p(test.p), _p(test.p_holm), test.note]
        for test in comparison.tests
    ]
    print_table(["difference of the mean Dice", "mean", "patients", "p", "p (Holm)", "note"], tests)
    for name, report in comparison.reports.items():
        for case, reason in report.problems.items():
            print(f"problem: {name}: {case}: {reason}")


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
