"""A report as files: JSON for scripts, CSV for spreadsheets, one self-contained HTML page for people."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from medseg.core.files import write_json, write_text
from medseg.core.report import Report
from medseg.core.version import VERSION
from medseg.evaluation.dotplot import dot_plot
from medseg.evaluation.report import DEFINITIONS, METRIC_NAMES, case_table

# Told elsewhere on the page, or meant for scripts.
_NOT_SHOWN = ("outcomes", "dimensions")


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file to embed in the report, with its title and one line about it."""

    path: Path
    title: str
    caption: str = ""


def write_report(
    report: Report, folder: Path, pictures: Sequence[Picture] = (), curves: Path | None = None, title: str = ""
) -> None:
    """Write report.json, report.csv and report.html into `folder`, each atomically.

    pictures and curves (PNG files) are embedded in the page, which needs no other file. Files are
    the same to the byte for the same report.
    """
    write_json(folder / "report.json", report_json(report))
    write_text(folder / "report.csv", report_csv(report))
    write_text(folder / "report.html", report_html(report, pictures, curves, title))


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "medseg": VERSION,
        "scored_on": report.scored_on,
        "summary": _plain(report.summary),
        "labels": list(report.labels),
        "cases": case_table(report),
        "problems": dict(report.problems),
        "context": _plain(report.context),
    }


def report_csv(report: Report) -> str:
    """One line per case and label, empty where a figure is undefined."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["case", "label", *METRIC_NAMES, "reason", "outcome"])
    for case in case_table(report):
        for name, figures in case["labels"].items():
            values = ["" if figures[metric] is None else _short(figures[metric]) for metric in METRIC_NAMES]
            out.writerow([case["id"], name, *values, figures["reason"], case.get("outcome", "")])
    return text.getvalue()


def report_html(report: Report, pictures: Sequence[Picture] = (), curves: Path | None = None, title: str = "") -> str:
    """The report as one page without references to other files."""
    import jinja2

    cases = case_table(report)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["figure"] = _figure
    template = environment.from_string(files("medseg.evaluation").joinpath("report.html.j2").read_text("utf-8"))
    told = {key.replace("_", " "): _words(value) for key, value in report.context.items() if key not in _NOT_SHOWN}
    page = template.render(
        title=title or f"Segmentation report: {len(cases)} {'case' if len(cases) == 1 else 'cases'}",
        version=VERSION,
        report=report,
        summary=report.summary,
        cases=cases,
        flat=report.context.get("dimensions") == 2,
        definitions=DEFINITIONS,
        dots=dot_plot(cases, report.labels),
        pictures=[(picture.title, picture.caption, _embedded(picture.path)) for picture in pictures],
        curves=_embedded(curves) if curves is not None else None,
        context=told,
    )
    return page + "\n"


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _figure(value: float | None, digits: int = 3) -> str:
    """A number for the page; an en dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(inner)}" for key, inner in value.items())
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value)
    return ", ".join(_words(inner) for inner in value)


def _plain(value: Any) -> Any:
    """`value` in JSON's own types: mappings become objects, tuples lists, paths and others text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.loads(json.dumps(value, default=str))
