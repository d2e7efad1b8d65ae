"""Scoring a model on held-out cases through the very path that users run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.bundle import Bundle
from medseg.core.case import Case, Prediction, Status
from medseg.core.events import Listener, Progress
from medseg.core.labels import IGNORE
from medseg.core.quality import Calibration, Evidence, HeldOut
from medseg.core.report import Report
from medseg.core.task import Task
from medseg.core.volume import LabelMap
from medseg.data.labels import read_case, read_instances
from medseg.evaluation.pictures import overlay_picture, training_curves
from medseg.evaluation.regions import score_regions
from medseg.evaluation.report import build_report
from medseg.evaluation.report_page import Illustrations, Picture
from medseg.evaluation.score import CaseScores, score_case, wanted
from medseg.evaluation.slides import Slides, make_slides
from medseg.evaluation.write import write_report
from medseg.formats import read_labels, source_of, write_labelmap
from medseg.metrics.instances import InstanceCounts, match_instances

if TYPE_CHECKING:
    from medseg.inference import Predictor

PREDICTIONS, PICTURES = "predictions", "pictures"


@dataclass(frozen=True, slots=True)
class Scored:
    """One scored case: the case, its figures, where its label map lies, and what the prediction showed of itself.

    slides: what the report's viewer shows of it, made while the scan is at hand.
    """

    case: Case
    scores: CaseScores
    prediction: Path
    evidence: Evidence | None = None
    slides: Slides | None = None


def score_cases(
    predictor: Predictor, cases: Sequence[Case], task: Task, folder: Path, listener: Listener
) -> list[Scored]:
    """Predict every case as a user would, write its label map under folder/predictions, and score it."""
    scored = []
    for done, case in enumerate(cases):
        listener(Progress("score", done, len(cases)))
        scored.append(_score_one(predictor, case, task, folder / PREDICTIONS))
    listener(Progress("score", len(cases), len(cases)))
    return scored


def calibration_of(scored: Sequence[Scored]) -> Calibration:
    """What a bundle keeps of its held-out cases: evidence and Dice, sorted by it, without their names."""
    known = [(s.scores.mean_dice, s.evidence) for s in scored if s.evidence is not None]
    cases = [HeldOut(None if dice is None else round(dice, 6), evidence) for dice, evidence in known]
    return Calibration(tuple(sorted(cases, key=lambda case: (case.dice is None, case.dice or 0.0))))


def write_run_report(
    scored: Sequence[Scored], bundle: Bundle, folder: Path, scored_on: str, context: Mapping[str, Any]
) -> Report:  # fmt: skip
    """report.html/json/csv with pictures of the best, median and worst case and the training's curves."""
    curves = folder / "training.png"
    training_curves(folder / "training.csv", curves)
    report = build_report([s.scores for s in scored], scored_on, {**_origin(bundle), **context})
    slides = [s.slides for s in scored if s.slides is not None]
    shown = Illustrations(_pictures(scored, bundle.task, folder), curves, slides, bundle.task.label_table())
    write_report(report, folder, shown)
    return report


def _origin(bundle: Bundle) -> dict[str, Any]:
    """Where the model comes from: which network, trained how long, on what, by which medseg."""
    known = {key: bundle.provenance[key] for key in ("steps", "data_hash", "medseg") if key in bundle.provenance}
    network = f"{bundle.plan.network.name}, {bundle.plan.ndim}D"
    return {"bundle_hash": bundle.hash, "network": network, **known}


def _score_one(predictor: Predictor, case: Case, task: Task, folder: Path) -> Scored:
    scan, reference = read_case(case, task)
    prediction = predictor.predict(scan)
    path = write_labelmap(prediction.written, scan.source, folder / case.id)
    both, asked = (prediction.labelmap, reference), wanted(task)
    scores = score_case(case.id, *both, task.label_table(), measured=asked)
    scores = replace(scores, regions=score_regions(*both, task.region_values(), asked))
    outcome = prediction.outcome
    doubt = "" if outcome.status is Status.OK else f"{outcome.status}: {outcome.reason}"
    slides = make_slides(case.id, scan.volume, reference, [prediction.labelmap], task.label_table())
    scores = replace(scores, outcome=doubt, instances=_matched(prediction, case, task) if task.instances else None)
    return Scored(case, scores, path, prediction.evidence, slides)


def _matched(prediction: Prediction, case: Case, task: Task) -> InstanceCounts:
    """How the objects found match the true ones; voxels that are ignored leave both."""
    reference = read_instances(case, task, prediction.scan)
    ignored = None if task.ignore is None else read_case(case, task)[1].array == IGNORE
    return match_instances(prediction.written.array, reference.array, ignored=ignored)


def _pictures(scored: Sequence[Scored], task: Task, folder: Path) -> list[Picture]:
    ranked = sorted((s for s in scored if s.scores.mean_dice is not None), key=lambda s: s.scores.mean_dice or 0.0)
    if not ranked:
        return []
    chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    pictures = []
    for rank in ("best", "median", "worst"):
        one = chosen[rank]
        case = one.case
        title = f"{rank}: {case.id}, mean Dice {one.scores.mean_dice:.3f}"
        path = folder / PICTURES / f"{rank}.png"
        found = read_labels(source_of(one.prediction))
        array = (found.array > 0).astype(np.uint8) if task.instances else found.array
        shown = LabelMap(array, found.geometry, task.label_table())
        scan, reference = read_case(case, task)
        overlay_picture(scan.volume, shown, reference, path, title)
        pictures.append(Picture(path, title))
    return pictures
