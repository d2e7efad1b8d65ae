"""Several models scored on the same cases: their figures side by side, and what of the differences can be believed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg.core.files import write_json, write_text
from medseg.core.report import Report
from medseg.core.version import VERSION
from medseg.evaluation.models_page import models_html
from medseg.evaluation.report import case_table
from medseg.evaluation.report_page import PLAIN, Illustrations
from medseg.evaluation.statistics import PairedTest, RankStability, paired_tests, rank_stability
from medseg.evaluation.write import report_csv, report_json


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several models on the same cases, compared by the mean Dice of each case.

    reports: model -> its report; tests: every pair of models; ranking: how firm their order stands; context:
    what was compared with what.
    """

    reports: Mapping[str, Report]
    tests: tuple[PairedTest, ...]
    ranking: RankStability
    context: Mapping[str, Any]


def compare_reports(reports: Mapping[str, Report], groups: Mapping[str, str], context: Mapping[str, Any]) -> Comparison:
    """Reports on the same cases beside each other; groups: case -> patient, from which tests are drawn."""
    scores = {
        model: {case["id"]: case["mean_dice"] for case in case_table(report)} for model, report in reports.items()
    }
    tests = tuple(paired_tests(scores, groups))
    return Comparison(reports, tests, rank_stability(scores, groups=groups), context)


def write_comparison(comparison: Comparison, folder: Path, shown: Illustrations = PLAIN) -> None:
    """Write report.json, report.csv and report.html into `folder`, each atomically."""
    write_json(folder / "report.json", comparison_json(comparison))
    write_text(folder / "report.csv", comparison_csv(comparison))
    page = models_html(comparison.reports, (comparison.tests, comparison.ranking), comparison.context, shown)
    write_text(folder / "report.html", page)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data: per model what report.json holds for one, and the tests."""
    told = {name: report_json(report) for name, report in comparison.reports.items()}
    kept = ("summary", "cases", "problems", "context")
    return {
        "medseg": VERSION,
        "scored_on": "given",
        "labels": list(next(iter(comparison.reports.values())).labels),
        "models": {name: {key: report[key] for key in kept} for name, report in told.items()},
        "tests": [{"metric": "mean_dice", **asdict(test)} for test in comparison.tests],
        "ranking": asdict(comparison.ranking),
        "context": dict(comparison.context),
    }


def comparison_csv(comparison: Comparison) -> str:
    """One line per model, case and label."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    for number, (name, report) in enumerate(comparison.reports.items()):
        head, *rows = csv.reader(io.StringIO(report_csv(report)))
        if number == 0:
            out.writerow(["model", *head])
        out.writerows([name, *row] for row in rows)
    return text.getvalue()
