"""A report as one HTML page that needs no other file: figures, plots, every case, and a viewer of its slices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.labels import Label
from medseg.core.report import Report
from medseg.core.version import VERSION
from medseg.evaluation.agreement_plot import bland_altman
from medseg.evaluation.dotplot import dot_plot
from medseg.evaluation.page import embedded, render
from medseg.evaluation.report import case_table, definitions, metric_names, viewing_order
from medseg.evaluation.slides import CT_SCALE, Slides
from medseg.metrics import METRICS

# Slices of cases fill the page up to this; with pictures and tables it stays below 15 MB.
MOST_SLIDE_BYTES = 10_500_000
_MOST_ROWS = 2000  # of the table of cases; the rest is in report.csv
_MOST_PLOTTED = 12  # labels with a Bland-Altman plot
_MOST_CLASSES = 25  # in the table of what is taken for what; report.json has all
_LONG = 200  # characters of a fact that is folded away
_VOLUME = "volume_difference_ml"
# What figures are called where there is little room, and their digits; units are those of `METRICS`.
_NAMES = {
    "dice": ("Dice", 3),
    "iou": ("IoU", 3),
    "precision": ("Precision", 3),
    "recall": ("Recall", 3),
    "specificity": ("Specificity", 3),
    _VOLUME: ("Volume difference", 2),
    "hd": ("HD", 1),
    "hd95": ("HD95", 1),
    "assd": ("ASSD", 2),
    "nsd": ("NSD", 3),
    "cldice": ("clDice", 3),
    "skeleton_recall": ("Skeleton recall", 3),
    "lesion_f1": ("Lesion F1", 3),
    "lesion_sensitivity": ("Lesion sensitivity", 3),
    "lesion_false_positives": ("False lesions", 2),
}
# Figures of all voxels, or all objects, of all cases: what they are called.
_POOLED = {
    "dataset_mean_dice": "Dice, all voxels pooled",
    "dataset_miou": "mIoU, all voxels pooled",
    "dataset_miou_with_background": "mIoU, background included",
    "frequency_weighted_iou": "IoU weighted by frequency",
    "pixel_accuracy": "Accuracy of voxels",
    "volume_correlation": "Correlation of volumes",
    "f1_50": "Objects: F1 at IoU 0.5",
    "pq_50": "Objects: PQ at IoU 0.5",
    "aji": "Objects: AJI",
}
FOREMOST = ("mean_iou", "mean_hd95", "mean_nsd", "mean_cldice", "dataset_miou", "f1_50", "pq_50")  # beside Dice
_ON_CARDS = ("mean_iou", "mean_nsd", "mean_hd95", "dataset_miou", "f1_50")
# Told elsewhere on the page, or meant for scripts.
_NOT_SHOWN = ("outcomes", "dimensions")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure over all cases.

    key: as in report.json; low, high: the ends of its 95 % interval, if it has one; better: more, less or near 0.
    """

    key: str
    name: str
    digits: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    better: str = "more"


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file to embed in the report, with its title and one line about it."""

    path: Path
    title: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Illustrations:
    """What a report shows beside its figures.

    pictures: overlays; curves: the PNG of a training's loss; slides: cases for the viewer, as many as fit are
    shown, the worst first; labels: their colours there.
    """

    pictures: Sequence[Picture] = ()
    curves: Path | None = None
    slides: Sequence[Slides] = ()
    labels: Sequence[Label] = ()


PLAIN = Illustrations()


def report_html(report: Report, shown: Illustrations = PLAIN, title: str = "") -> str:
    """The report as one page without references to other files; the worst cases come first."""
    cases = case_table(report)
    slides = fitting(shown.slides, viewing_order(report))
    rows = _rows(cases)
    return render(
        "report.html.j2",
        title=title or f"Segmentation report: {len(cases)} {'case' if len(cases) == 1 else 'cases'}",
        version=VERSION,
        report=report,
        regions=report.summary.get("per_region", {}),
        summary=report.summary,
        flat=report.context.get("dimensions") == 2,
        definitions={
            key: text for key, text in definitions(report).items() if key not in METRICS or key in _shown(report)
        },
        dots=dot_plot(cases, report.labels),
        agreement=_agreement(report, cases),
        confusion=_confusion(report),
        figures=(summed := summary_figures(report)),
        cards=[one for key in _ON_CARDS for one in summed if one.key == key and one.mean is not None],
        columns=columns(report),
        outcomes={c: told for c, told in report.context.get("outcomes", {}).items() if c not in report.problems},
        rows=rows[:_MOST_ROWS],
        more_rows=max(0, len(rows) - _MOST_ROWS),
        pictures=[(picture.title, picture.caption, embedded(picture.path.read_bytes())) for picture in shown.pictures],
        curves=embedded(shown.curves.read_bytes()) if shown.curves is not None else None,
        facts=facts(report.context),
        viewer=viewer(slides, shown.labels, ("prediction",)),
        unseen=len(cases) - len(slides) if slides else 0,
    )


def columns(report: Report) -> list[tuple[str, str, int]]:
    """(key, heading, digits) of the figures that cases have; volumes have columns of their own."""
    return [(key, _heading(key, report), _NAMES[key][1]) for key in _shown(report) if key != _VOLUME]


def summary_figures(report: Report) -> list[Figure]:
    """Everything that is told about all cases together: means with their intervals, then what is pooled."""
    summary = report.summary
    intervals = {"mean_dice": summary["interval"], **summary["intervals"]}
    means = []
    for key in _shown(report):
        ends = intervals.get(f"mean_{key}", {})
        name, digits = _heading(key, report), _NAMES[key][1]
        better = "near 0" if key == _VOLUME else "more" if METRICS[key].better else "less"
        mean = summary[f"mean_{key}"]
        means.append(Figure(f"mean_{key}", name, digits, mean, ends.get("low"), ends.get("high"), better))
    pooled = [Figure(key, name, 3, summary[key]) for key, name in _POOLED.items() if summary.get(key) is not None]
    return [*means, *pooled]


def _shown(report: Report) -> list[str]:
    """The metrics that the page tells; millilitres mean nothing in pictures."""
    flat = report.context.get("dimensions") == 2
    return [key for key in metric_names(report) if key in _NAMES and not (flat and key == _VOLUME)]


def _heading(key: str, report: Report) -> str:
    unit = METRICS[key].unit
    # Pictures seldom tell how large a pixel is, and are then measured in pixels.
    told = "mm or pixels" if unit == "mm" and report.context.get("dimensions") == 2 else unit
    return f"{_NAMES[key][0]} [{told}]" if told else _NAMES[key][0]


def fitting(slides: Iterable[Slides], order: Sequence[str], budget: int = MOST_SLIDE_BYTES) -> list[Slides]:
    """As many cases as fit the budget (bytes of the page), taken in `order`; cases that it lacks are left out."""
    known = {one.case: one for one in slides}
    kept: list[Slides] = []
    for one in (known[case] for case in order if case in known):
        budget -= one.page_bytes
        if budget >= 0:
            kept.append(one)
    return kept


def viewer(slides: Sequence[Slides], labels: Sequence[Label], models: Sequence[str]) -> dict[str, Any]:
    """What the viewer's template needs: data for scripts, case -> where its slices stand."""
    about = {
        "labels": [{"name": label.name, "color": list(label.color)} for label in labels],
        "models": list(models),
        "ct": [list(side) for side in CT_SCALE],
    }
    return {
        "about": script(about),
        "cases": [script(one.plain()) for one in slides],
        "places": {one.case: place for place, one in enumerate(slides)},
    }


def script(value: Any) -> str:
    """JSON that may stand inside a script element, whatever its texts hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def facts(context: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """(what, how, whether it is long) of everything that the report tells about itself."""
    told = [(key.replace("_", " "), _words(value)) for key, value in context.items() if key not in _NOT_SHOWN]
    return [(key, words, len(words) > _LONG) for key, words in told]


def _rows(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One per case and label or region, the worst Dice first; what has none comes last."""
    rows = [
        {"case": case["id"], "label": name, "figures": figures, "remark": _remark(figures, case)}
        for case in cases
        for name, figures in {**case["labels"], **case.get("regions", {})}.items()
    ]

    def place(row: dict[str, Any]) -> tuple[bool, float, str]:
        dice = row["figures"]["dice"]
        return dice is None, dice or 0.0, row["case"]

    return sorted(rows, key=place)


def _remark(figures: Mapping[str, Any], case: Mapping[str, Any]) -> str:
    return "; ".join(part for part in (figures["reason"], case.get("outcome", "")) if part)


def _agreement(report: Report, cases: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(label, SVG) of the volumes of every label; in pixels where the cases are pictures."""
    unit, found, true = ("ml", "volume_ml", "reference_volume_ml")
    if report.context.get("dimensions") == 2:
        unit, found, true = ("pixels", "voxels", "reference_voxels")
    plots = []
    for name in report.labels[:_MOST_PLOTTED]:
        pairs = [
            (figures[found], figures[true], case["id"])
            for case in cases
            if (figures := case["labels"].get(name)) is not None and (figures[found] or figures[true])
        ]
        if len(pairs) > 1:
            plots.append((name, bland_altman(pairs, unit, name)))
    return plots


def _confusion(report: Report) -> dict[str, Any] | None:
    """Per class of the reference the shares and numbers of its voxels in every predicted class; None for many."""
    counted = report.summary.get("confusion")
    if counted is None or len(counted["classes"]) > _MOST_CLASSES:
        return None
    rows = []
    for name, voxels in zip(counted["classes"], counted["voxels"], strict=True):
        total = sum(voxels)
        rows.append((name, [(count / max(1, total), count) for count in voxels], total))
    return {"names": counted["classes"], "rows": rows}


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(inner)}" for key, inner in value.items())
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value)
    return ", ".join(_words(inner) for inner in value)
