"""The figures of reports beyond Dice: what a task asks for reaches cases, summary, definitions and the schema."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.labels import Label
from medseg.core.task import MetricName, Task, parse_task
from medseg.core.volume import LabelMap
from medseg.evaluation.compare import with_all_labels
from medseg.evaluation.report import build_report, case_table, definitions, metric_names
from medseg.evaluation.score import CaseScores, score_case, wanted
from medseg.evaluation.write import report_csv, report_json
from medseg.metrics import METRICS
from medseg.metrics.instances import match_instances

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text("utf-8"))
LABELS = (Label("one", 1), Label("two", 2))


def _task(**keys: Any) -> Task:
    raw = {"name": "t", "modality": "CT", "labels": {"one": 1, "two": 2}, **keys}
    return parse_task(raw, "t.yaml")


def _case(
    name: str, seed: int, task: Task | None = None, spacing: tuple[float, float, float] = (1, 1, 2)
) -> CaseScores:
    rng = np.random.default_rng(seed)
    shape = (12, 12, 6)
    true = np.kron(rng.integers(0, 3, (3, 3, 2)), np.ones((4, 4, 3), int)).astype(np.uint8)
    found = np.where(rng.random(shape) < 0.9, true, 0).astype(np.uint8)
    geometry = Geometry.from_spacing(spacing, shape)
    return score_case(name, LabelMap(found, geometry), LabelMap(true, geometry), LABELS, measured=wanted(task))


def _checked(scores: list[CaseScores], **more: Any) -> dict[str, Any]:
    plain = json.loads(json.dumps(report_json(build_report(scores, "given", **more))))
    jsonschema.validate(plain, SCHEMA)
    return plain


def test_names_that_tasks_may_ask_for_are_those_of_the_table() -> None:
    assert get_args(MetricName) == tuple(METRICS)


def test_dice_and_iou_are_there_whatever_a_task_asks_for() -> None:
    assert wanted(_task(metrics=[])).metrics == ("dice", "iou")
    assert wanted(_task(metrics=["cldice", "dice"])).metrics == ("dice", "iou", "cldice")
    assert wanted(None).metrics == wanted(_task()).metrics


def test_an_unknown_metric_is_refused_with_the_list() -> None:
    with pytest.raises(Exception, match=r"t.yaml: metrics.0: .*'hd95'"):
        _task(metrics=["hausdorff"])


def test_what_a_task_asks_for_reaches_cases_summary_and_csv() -> None:
    task = _task(metrics=["hd95", "cldice", "lesion_f1"], nsd_tolerance=3)
    report = build_report([_case(str(seed), seed, task) for seed in range(4)], "test")
    assert metric_names(report)[:5] == ("dice", "iou", "hd95", "cldice", "lesion_f1")
    assert set(METRICS) & set(definitions(report)) == {"dice", "iou", "hd95", "cldice", "lesion_f1"}
    figures = [case["labels"]["one"]["hd95"] for case in case_table(report)]
    assert report.summary["per_label"]["one"]["mean_hd95"] == pytest.approx(np.mean(figures))
    both = [figures["mean_hd95"] for figures in report.summary["per_label"].values()]
    assert report.summary["mean_hd95"] == pytest.approx(np.mean(both))
    assert report_csv(report).startswith("case,label,dice,iou,hd95,cldice,lesion_f1,volume_ml,")
    lesions = report.summary["per_label"]["one"]["lesions"]
    assert lesions["found"] <= lesions["reference"] and 0 <= lesions["sensitivity"] <= 1


def test_the_tolerance_of_nsd_is_said() -> None:
    own = build_report([_case("a", 1), _case("b", 2, spacing=(0.5, 0.5, 2))], "test")
    assert own.context["nsd_tolerance"] == "0.5 to 1 mm"
    told = build_report([_case("a", 1, _task(nsd_tolerance=2.5))], "test")
    assert told.context["nsd_tolerance"] == "2.5 mm" and definitions(told)["nsd"].endswith("tolerance: 2.5 mm")


def test_confusion_and_pooled_figures_are_those_of_all_voxels() -> None:
    scores = [_case(str(seed), seed) for seed in range(3)]
    summary = build_report(scores, "test").summary
    voxels = np.array(summary["confusion"]["voxels"])
    assert summary["confusion"]["classes"] == ["background", "one", "two"]
    assert voxels.sum() == 3 * 12 * 12 * 6
    for place, name in enumerate(("one", "two"), start=1):
        references = [next(one for one in score.labels if one.label == name).counts.reference for score in scores]
        assert voxels[place].sum() == sum(references)
    assert summary["pixel_accuracy"] == pytest.approx(np.trace(voxels) / voxels.sum())
    hits, union = np.diag(voxels), voxels.sum(axis=0) + voxels.sum(axis=1) - np.diag(voxels)
    assert summary["dataset_miou_with_background"] == pytest.approx((hits / union).mean())
    assert summary["dataset_miou"] == pytest.approx((hits / union)[1:].mean())


def test_labels_that_a_case_lacks_are_absent_in_both_with_all_its_voxels() -> None:
    complete = with_all_labels([_case("a", 1)], [*LABELS, Label("three", 3)])
    three = complete[0].labels[2]
    assert three.counts.voxels == complete[0].labels[0].counts.voxels == 12 * 12 * 6
    assert set(three.figures) == set(complete[0].labels[0].figures) and set(three.figures.values()) == {None}


def test_reports_fit_their_schema(toy_scores: list[CaseScores]) -> None:
    _checked(toy_scores, context={"a": 1}, problems={"x": "gone"})
    _checked([])
    many = _checked([_case(str(seed), seed, _task(metrics=list(METRICS))) for seed in range(21)])
    assert many["summary"]["intervals"]["mean_assd"]["low"] < many["summary"]["mean_assd"]


def test_figures_of_objects_are_defined_and_fit_the_schema(toy_scores: list[CaseScores]) -> None:
    matches = match_instances(np.array([[1, 1, 0, 2]]), np.array([[1, 1, 0, 0]]))
    plain = _checked([replace(score, instances=matches) for score in toy_scores])
    assert plain["summary"]["f1_50"] == pytest.approx(2 / 3) and "f1_50" in plain["definitions"]


def test_a_report_that_does_not_fit_the_schema_is_found() -> None:
    plain = report_json(build_report([], "given"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**plain, "scored_on": "training"}, SCHEMA)
