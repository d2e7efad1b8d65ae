"""A report as files: JSON for scripts, CSV for spreadsheets, one self-contained HTML page for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.core.files import write_json, write_text
from medseg.core.report import Report
from medseg.core.version import VERSION
from medseg.evaluation.report import case_table, definitions, metric_names
from medseg.evaluation.report_page import PLAIN, Illustrations, report_html


def write_report(report: Report, folder: Path, shown: Illustrations = PLAIN, title: str = "") -> None:
    """Write report.json, report.csv and report.html into `folder`, each atomically.

    shown: pictures and slices that are embedded in the page, which needs no other file. Files are the
    same to the byte for the same report.
    """
    write_json(folder / "report.json", report_json(report))
    write_text(folder / "report.csv", report_csv(report))
    write_text(folder / "report.html", report_html(report, shown, title))


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "medseg": VERSION,
        "scored_on": report.scored_on,
        "summary": _plain(report.summary),
        "definitions": definitions(report),
        "labels": list(report.labels),
        "cases": case_table(report),
        "problems": dict(report.problems),
        "context": _plain(report.context),
    }


def report_csv(report: Report) -> str:
    """One line per case and label or region, empty where a figure is undefined."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    names = metric_names(report)
    out.writerow(["case", "label", *names, "reason", "outcome"])
    for case in case_table(report):
        for label, figures in {**case["labels"], **case.get("regions", {})}.items():
            values = ["" if figures.get(name) is None else _short(figures[name]) for name in names]
            out.writerow([case["id"], label, *values, figures["reason"], case.get("outcome", "")])
    return text.getvalue()


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _plain(value: Any) -> Any:
    """`value` in JSON's own types: mappings become objects, tuples lists, paths and others text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.loads(json.dumps(value, default=str))
