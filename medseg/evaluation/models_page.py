"""Several models on the same cases as one HTML page: figures with intervals, tests, every case, and its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.core.report import Report
from medseg.core.version import VERSION
from medseg.evaluation.page import render
from medseg.evaluation.paired_plot import paired_plot
from medseg.evaluation.report import case_table, definitions
from medseg.evaluation.report_page import FOREMOST, Illustrations, facts, fitting, summary_figures, viewer
from medseg.evaluation.score import mean_defined
from medseg.evaluation.statistics import SIGNIFICANT, PairedTest, RankStability

_MOST_ROWS = 2000  # of the table of cases; the rest is in report.csv


def models_html(
    reports: Mapping[str, Report],
    judged: tuple[Sequence[PairedTest], RankStability],
    context: Mapping[str, Any],
    shown: Illustrations,
) -> str:
    """The page; the model with the best mean Dice comes first, of the cases the one all models do worst on."""
    tests, ranking = judged
    ordered = sorted(reports, key=lambda name: -(reports[name].summary["mean_dice"] or 0.0))
    rows = case_rows({name: reports[name] for name in ordered})
    slides = fitting(shown.slides, [row["case"] for row in rows])
    scores = {name: {row["case"]: row["dice"].get(name) for row in rows} for name in ordered}
    return render(
        "models.html.j2",
        title=f"{len(reports)} models compared on {len(rows)} {'case' if len(rows) == 1 else 'cases'}",
        version=VERSION,
        models=[(name, reports[name].summary, reports[name].problems) for name in ordered],
        order=ordered,
        labels=next(iter(reports.values())).labels,
        figures={name: {one.key: one for one in summary_figures(report)} for name, report in reports.items()},
        columns=[(one.key, one.name) for one in summary_figures(reports[ordered[0]]) if one.key in FOREMOST],
        tests=[(test, verdict(test)) for test in tests],
        ranking=ranking,
        plot=paired_plot(scores),
        rows=rows[:_MOST_ROWS],
        more_rows=max(0, len(rows) - _MOST_ROWS),
        definitions={key: text for report in reports.values() for key, text in definitions(report).items()},
        facts=facts(context),
        flat=all(report.context.get("dimensions") == 2 for report in reports.values()),
        viewer=viewer(slides, shown.labels, list(reports)),
        unseen=len(rows) - len(slides) if slides else 0,
    )


def case_rows(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """Per case the mean Dice that each model reaches and how far they lie apart; the lowest mean over models first."""
    dice: dict[str, dict[str, float | None]] = {}
    for name, report in reports.items():
        for row in case_table(report):
            dice.setdefault(row["id"], {})[name] = row["mean_dice"]
    rows = []
    for case, figures in dice.items():
        known = [value for value in figures.values() if value is not None]
        apart = max(known) - min(known) if len(known) > 1 else None
        rows.append({"case": case, "dice": figures, "mean": mean_defined(list(figures.values())), "apart": apart})
    return sorted(rows, key=lambda row: (row["mean"] is None, row["mean"] or 0.0, row["case"]))


def verdict(test: PairedTest) -> str:
    """What the corrected test allows to say, in words."""
    if test.p_holm is None or test.difference is None:
        return "nothing to compare"
    if test.p_holm < SIGNIFICANT and test.difference:
        return f"{test.first if test.difference > 0 else test.second} is better"
    return "no difference shown"
