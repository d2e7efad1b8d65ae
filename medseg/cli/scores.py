"""Reports as tables on the terminal."""

from __future__ import annotations

from medseg.cli.render import cell_text, print_table
from medseg.core.report import Report

_SCORED_ON = {"test": "the test cases", "validation": "the validation cases", "given": "the given cases"}
_PER_LABEL = {"Dice": "mean_dice", "IoU": "mean_iou", "Dice (all voxels)": "dataset_dice", "cases": "n_defined"}
_HEADLINE = {"mean Dice": "mean_dice", "mean IoU": "mean_iou", "mIoU over the dataset": "dataset_miou"}
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
        rows = [[label, *(figures.get(key) for key in _PER_LABEL.values())] for label, figures in per_label.items()]
        print_table(["label", *_PER_LABEL], rows)
    print(", ".join(f"{name} {cell_text(report.summary.get(key))}" for name, key in _HEADLINE.items()))
    counts = [f"{report.summary[key]} {name}" for name, key in _COUNTS.items() if report.summary.get(key)]
    if counts:
        print("case and label pairs: " + ", ".join(counts))
    for case, reason in report.problems.items():
        print(f"problem: {case}: {reason}")
