"""From the scores of single cases to one report: means with their definition, counts of what is empty, spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.core.report import Report, Row
from medseg.evaluation.score import CaseScores, LabelScore, mean_defined
from medseg.evaluation.statistics import bootstrap_interval, spread
from medseg.metrics import metric
from medseg.metrics.confusion import Counts, Presence
from medseg.metrics.instances import per_image, pooled

METRIC_NAMES = ("dice", "iou", "volume_ml", "reference_volume_ml", "voxels", "reference_voxels")

DEFINITIONS: dict[str, str] = {
    "mean_dice": "per label the mean Dice over the cases where it is defined, then the mean over the labels",
    "mean_iou": "the same with intersection over union (IoU)",
    "dataset_mean_dice": "per label the Dice of the voxels of all cases pooled, then the mean over the labels",
    "dataset_miou": "per label the IoU of the voxels of all cases pooled, then the mean over the labels "
    "(the mIoU of PASCAL VOC and Cityscapes, without background)",
    "n_defined": "case and label pairs that have a figure; all means are over these",
    "n_both_empty": "label absent in both masks: undefined, left out of every mean",
    "n_empty_reference": "label predicted although the reference has none: counted as 0",
    "n_missed": "label in the reference, but not predicted at all: counted as 0",
}


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
    has a Dice; mean_iou likewise; dataset_mean_dice and dataset_miou pool the voxels of all cases
    first. Background is no label. A figure is None where nothing is defined. `DEFINITIONS` says the
    same in the words that reports print.
    """
    names = tuple(dict.fromkeys(label.label for score in scores for label in score.labels))
    per_label = {name: _label_summary([_of(score, name) for score in scores]) for name in names}
    summary: dict[str, Any] = {
        "mean_dice": mean_defined([figures["mean_dice"] for figures in per_label.values()]),
        "mean_iou": mean_defined([figures["mean_iou"] for figures in per_label.values()]),
        "dataset_mean_dice": mean_defined([figures["dataset_dice"] for figures in per_label.values()]),
        "dataset_miou": mean_defined([figures["dataset_iou"] for figures in per_label.values()]),
        "n_cases": len(scores),
        **{key: sum(figures[key] for figures in per_label.values()) for key in _COUNTED},
        "spread": spread([score.mean_dice for score in scores]),
        "interval": bootstrap_interval(scores, groups or {}),
        "per_label": per_label,
        **_instances(scores),
    }
    told = dict(context or {})
    told.setdefault("dimensions", 2 if scores and all(score.flat for score in scores) else 3)
    outcomes = {score.case: score.outcome for score in scores if score.outcome}
    if outcomes:
        told["outcomes"] = outcomes
    rows = tuple(row for score in scores for label in score.labels for row in _rows(score.case, label))
    return Report(rows, summary, scored_on, names, told, dict(problems or {}))


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
    """One entry per case: id, labels (name -> metric values and reason), mean_dice, mean_iou, outcome if any."""
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for row in report.rows:
        figures = cases.setdefault(row.case, {}).setdefault(row.label, {})
        figures[row.metric] = row.value
        figures["reason"] = row.reason or figures.get("reason", "")
    outcomes: Mapping[str, str] = report.context.get("outcomes", {})
    return [
        {
            "id": case,
            "labels": labels,
            "mean_dice": mean_defined([figures["dice"] for figures in labels.values()]),
            "mean_iou": mean_defined([figures["iou"] for figures in labels.values()]),
            **({"outcome": outcomes[case]} if case in outcomes else {}),
        }
        for case, labels in cases.items()
    ]


_COUNTED: dict[str, tuple[Presence, ...]] = {
    "n_defined": (Presence.BOTH, Presence.ONLY_PREDICTED, Presence.MISSED),
    "n_both_empty": (Presence.NEITHER,),
    "n_empty_reference": (Presence.ONLY_PREDICTED,),
    "n_missed": (Presence.MISSED,),
}


def _instances(scores: Sequence[CaseScores]) -> dict[str, Any]:
    """Pooled figures of objects that are told apart (f1_50, pq_50, aji …), and their means over images."""
    counts = [score.instances for score in scores if score.instances is not None]
    return {**pooled(counts), "per_image": per_image(counts)} if counts else {}


def _of(score: CaseScores, name: str) -> LabelScore | None:
    return next((label for label in score.labels if label.label == name), None)


def _label_summary(scores: Sequence[LabelScore | None]) -> dict[str, Any]:
    present = [score for score in scores if score is not None]
    pooled = sum((score.counts for score in present), Counts(0, 0, 0))
    presences = [score.counts.presence for score in present]
    dice = [score.dice for score in present]
    return {
        "mean_dice": mean_defined(dice),
        "mean_iou": mean_defined([score.iou for score in present]),
        "dataset_dice": metric("dice")(pooled),
        "dataset_iou": metric("iou")(pooled),
        **{key: sum(presence in kinds for presence in presences) for key, kinds in _COUNTED.items()},
        "spread": spread(dice),
    }


def _rows(case: str, score: LabelScore) -> list[Row]:
    values = (
        score.dice,
        score.iou,
        score.volume_ml,
        score.reference_volume_ml,
        score.counts.predicted,
        score.counts.reference,
    )
    return [
        Row(case, score.label, name, value, score.reason if name in ("dice", "iou") else "")
        for name, value in zip(METRIC_NAMES, values, strict=True)
    ]
