"""From the scores of single cases to one report: means with their definition, counts of what is empty, spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.core.report import Report, Row
from medseg.evaluation.score import CaseScores, LabelScore, mean_defined
from medseg.evaluation.statistics import bootstrap_interval, spread
from medseg.evaluation.summary import COUNTED, dataset_figures, label_summary
from medseg.metrics import METRICS
from medseg.metrics.instances import per_image, pooled

_SIZES = ("volume_ml", "reference_volume_ml", "voxels", "reference_voxels")

DEFINITIONS: dict[str, str] = {
    "mean_dice": "per label the mean Dice over the cases where it is defined, then the mean over the labels",
    "mean_iou": "the same with intersection over union (IoU); so are the means of all other figures",
    "dataset_mean_dice": "per label the Dice of the voxels of all cases pooled, then the mean over the labels",
    "dataset_miou": "per label the IoU of the voxels of all cases pooled, then the mean over the labels "
    "(the mIoU of PASCAL VOC and Cityscapes, without background)",
    "dataset_miou_with_background": "the same with background as one more class, as the benchmarks count it",
    "frequency_weighted_iou": "the pooled IoU of all classes, weighted by their voxels in the references",
    "pixel_accuracy": "share of all voxels, background included, that have the right class",
    "volume_correlation": "per label Pearson's correlation of predicted and true volumes over the cases, then the mean",
    "n_defined": "case and label pairs that have a figure; all means are over these",
    "n_both_empty": "label absent in both masks: undefined, left out of every mean",
    "n_empty_reference": "label predicted although the reference has none: counted as 0, and as far away as "
    "the image is long",
    "n_missed": "label in the reference, but not predicted at all: counted as 0, and as far away as the image is long",
    "f1_50": "of objects: 2 TP / (2 TP + FP + FN) over all images together; a predicted and a true object match at an "
    "intersection over union of .5 or more (f1_55 … f1_95: of that much)",
    "accuracy_50": "of objects: TP / (TP + FP + FN) over all images together, which StarDist calls AP",
    "pq_50": "panoptic quality: sum of the matches' intersection over union / (TP + FP / 2 + FN / 2), over all images",
    "aji": "aggregated Jaccard index: every true object with its best prediction; unused predictions count against it",
    "per_image": "the same figures of objects, each the mean over the images (as Cellpose averages)",
}


def definitions(report: Report) -> dict[str, str]:
    """What every figure of a report means, in words: of the summary, and of cases."""
    told = {key: text for key, text in DEFINITIONS.items() if key in report.summary}
    shown = {name: METRICS[name] for name in metric_names(report) if name in METRICS}
    units = {
        name: f"{entry.definition} [{entry.unit}]" if entry.unit else entry.definition for name, entry in shown.items()
    }
    if "nsd" in units and "nsd_tolerance" in report.context:
        units["nsd"] += f"; tolerance: {report.context['nsd_tolerance']}"
    return {**told, **units}


def metric_names(report: Report) -> tuple[str, ...]:
    """The figures that cases have, in the order of the columns of report.csv."""
    names = dict.fromkeys(row.metric for row in report.rows)
    return (*(name for name in names if name not in _SIZES), *(name for name in _SIZES if name in names))


def build_report(
    scores: Sequence[CaseScores],
    scored_on: str,
    context: Mapping[str, Any] | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> Report:
    """Everything measured on these cases.

    scored_on: test, validation or given; context: what was compared with what, for the reader;
    groups: case -> patient, over which the interval of the mean is drawn; problems: case -> why it
    could not be scored (or was scored as empty).

    The summary's mean_dice is the mean over the labels of the mean over the cases in which the label
    has a Dice; so are the means of all other figures; dataset_mean_dice and dataset_miou pool the
    voxels of all cases first. Background is no label. A figure is None where nothing is defined.
    `definitions` says the same in the words that reports print.
    """
    names = tuple(dict.fromkeys(label.label for score in scores for label in score.labels))
    per_label = {name: label_summary([_of(score, name) for score in scores]) for name in names}
    metrics = list(dict.fromkeys(key for figures in per_label.values() for key in figures if key.startswith("mean_")))
    summary: dict[str, Any] = {
        "mean_dice": None,
        "mean_iou": None,
        **{key: mean_defined([figures[key] for figures in per_label.values()]) for key in metrics},
        "dataset_mean_dice": mean_defined([figures["dataset_dice"] for figures in per_label.values()]),
        "dataset_miou": mean_defined([figures["dataset_iou"] for figures in per_label.values()]),
        **dataset_figures(scores, names),
        "volume_correlation": mean_defined([figures["volume_correlation"] for figures in per_label.values()]),
        "n_cases": len(scores),
        **{key: sum(figures[key] for figures in per_label.values()) for key in COUNTED},
        "spread": spread([score.mean_dice for score in scores]),
        "interval": bootstrap_interval(scores, groups or {}),
        "intervals": _intervals(scores, groups or {}, metrics),
        "per_label": per_label,
        **_regions(scores),
        **_instances(scores),
    }
    told = dict(context or {})
    told.setdefault("dimensions", 2 if scores and all(score.flat for score in scores) else 3)
    told.update(_told(scores))
    rows = tuple(row for score in scores for part in (*score.labels, *score.regions) for row in _rows(score.case, part))
    return Report(rows, summary, scored_on, names, told, dict(problems or {}))


def _intervals(
    scores: Sequence[CaseScores], groups: Mapping[str, str], means: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The interval of every mean that has one."""
    drawn = {key: bootstrap_interval(scores, groups, key.removeprefix("mean_")) for key in means}
    return {key: interval for key, interval in drawn.items() if interval["low"] is not None}


def _told(scores: Sequence[CaseScores]) -> dict[str, Any]:
    """What was odd about predictions, and what NSD takes for no deviation."""
    told: dict[str, Any] = {}
    outcomes = {score.case: score.outcome for score in scores if score.outcome}
    if outcomes:
        told["outcomes"] = outcomes
    tolerances = sorted({score.tolerance for score in scores if score.tolerance is not None})
    if tolerances:
        ends = " to ".join(f"{mm:.3g}" for mm in dict.fromkeys((tolerances[0], tolerances[-1])))
        told["nsd_tolerance"] = f"{ends} mm" + (" (pixels, where pictures tell no size)" if scores[0].flat else "")
    return told


def representative_cases(report: Report) -> dict[str, str]:
    """The cases with the best, the median and the worst mean Dice: {"best": id, …}.

    With one case it is the worst, with two the best and the worst; cases without a figure are none of them.
    """
    means = [(case["mean_dice"], case["id"]) for case in case_table(report) if case["mean_dice"] is not None]
    ranked = [case for _, case in sorted(means, key=lambda pair: (-pair[0], pair[1]))]
    if not ranked:
        return {}
    chosen = {"worst": ranked[-1]}
    if len(ranked) > 2:
        chosen = {"median": ranked[(len(ranked) - 1) // 2], **chosen}
    return chosen if len(ranked) == 1 else {"best": ranked[0], **chosen}


def viewing_order(report: Report) -> list[str]:
    """All cases in the order in which a reader should see them: worst, best and median, then the worse ones first."""
    chosen = representative_cases(report)
    first = [chosen[rank] for rank in ("worst", "best", "median") if rank in chosen]
    means = [(case["mean_dice"] is None, case["mean_dice"] or 0.0, case["id"]) for case in case_table(report)]
    return list(dict.fromkeys([*first, *(case for *_, case in sorted(means))]))


def case_table(report: Report) -> list[dict[str, Any]]:
    """One entry per case: id, labels (name -> metric values and reason), mean_dice, mean_iou, outcome if any.

    Where the task has regions, `regions` holds the same for them; they have no part in the means.
    """
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for row in report.rows:
        figures = cases.setdefault(row.case, {}).setdefault(row.label, {})
        figures[row.metric] = row.value
        figures["reason"] = row.reason or figures.get("reason", "")
    outcomes: Mapping[str, str] = report.context.get("outcomes", {})
    table = []
    for case, parts in cases.items():
        labels = {name: figures for name, figures in parts.items() if name in report.labels}
        regions = {name: figures for name, figures in parts.items() if name not in labels}
        table.append(
            {
                "id": case,
                "labels": labels,
                "mean_dice": mean_defined([figures["dice"] for figures in labels.values()]),
                "mean_iou": mean_defined([figures["iou"] for figures in labels.values()]),
                **({"regions": regions} if regions else {}),
                **({"outcome": outcomes[case]} if case in outcomes else {}),
            }
        )
    return table


def _regions(scores: Sequence[CaseScores]) -> dict[str, Any]:
    """Figures of unions of labels over all cases, as those of labels; nothing where the task has none."""
    names = dict.fromkeys(region.label for score in scores for region in score.regions)
    found = {
        name: label_summary([next((one for one in score.regions if one.label == name), None) for score in scores])
        for name in names
    }
    return {"per_region": found} if found else {}


def _instances(scores: Sequence[CaseScores]) -> dict[str, Any]:
    """Pooled figures of objects that are told apart (f1_50, pq_50, aji …), and their means over images."""
    counts = [score.instances for score in scores if score.instances is not None]
    return {**pooled(counts), "per_image": per_image(counts)} if counts else {}


def _of(score: CaseScores, name: str) -> LabelScore | None:
    return next((label for label in score.labels if label.label == name), None)


def _rows(case: str, score: LabelScore) -> list[Row]:
    sizes = (score.volume_ml, score.reference_volume_ml, score.counts.predicted, score.counts.reference)
    return [
        *(Row(case, score.label, name, value, score.reason) for name, value in score.figures.items()),
        *(Row(case, score.label, name, value) for name, value in zip(_SIZES, sizes, strict=True)),
    ]
