"""Scores, reports and pictures: how good a segmentation is, and what it looks like."""

from __future__ import annotations

from medseg.evaluation.montage import preview
from medseg.evaluation.pictures import overlay_picture, sample_grid, training_curves
from medseg.evaluation.report import build_report, representative_cases
from medseg.evaluation.report_page import Illustrations, Picture
from medseg.evaluation.score import CaseScores, LabelScore, score_case
from medseg.evaluation.write import write_report

__all__ = [
    "CaseScores",
    "Illustrations",
    "LabelScore",
    "Picture",
    "build_report",
    "overlay_picture",
    "preview",
    "representative_cases",
    "sample_grid",
    "score_case",
    "training_curves",
    "write_report",
]
