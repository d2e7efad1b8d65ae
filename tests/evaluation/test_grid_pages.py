"""compare.html and study.html of made-up figures: what they claim, and what they leave unclaimed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from medseg.evaluation.compare_page import compare_page, verdict
from medseg.evaluation.learning_curve import curve, expect, fit_law, means
from medseg.evaluation.statistics import bootstrap_mean, paired_tests, rank_stability
from medseg.evaluation.study_page import promises, study_page


def compared(patients: int) -> dict[str, Any]:
    """Two models, a good and a poor one, and a third that could not run."""
    rng = np.random.default_rng(0)
    cases = [f"case_{n}" for n in range(patients)]
    dice = {
        model: {case: float(mean + rng.normal(0, 0.02)) for case in cases}
        for model, mean in {"good": 0.85, "poor": 0.7}.items()
    }
    cost = {"trainings": 1, "failed": 0, "reasons": [], "dataset_miou": 0.6, "parameters": 10**6,
            "multiply_adds": 10**9, "patch": [64, 64, 1], "seconds": 60.0, "steps": 50.0,
            "learning_rates": [0.002], "inference_ms": 20.0,
            "peak_bytes": 10**9}  # fmt: skip
    rows = [
        {"model": m, "dice": asdict(bootstrap_mean(list(d.values()), cases)), **cost} for m, d in dice.items()
    ]  # fmt: skip
    nothing = {"trainings": 0, "failed": 1, "reasons": ["patch <too> small"], "learning_rates": []}
    rows.append({"model": "broken", **dict.fromkeys(cost), **nothing})
    return {
        "task": "cells_2d", "effort": {"seconds": 60.0, "steps": None, "range_test": True}, "folds": 1, "seeds": [0],
        "training_cases": [20], "held_out_cases": patients, "held_out_patients": patients, "models": rows,
        "tests": [asdict(test) for test in paired_tests(dice)], "ranking": asdict(rank_stability(dice)),
        "cases": {m: {case: {"dice": value} for case, value in d.items()} for m, d in dice.items()}, "trainings": [],
    }  # fmt: skip


def test_the_better_model_is_named_with_its_interval_and_its_test() -> None:
    told = compared(24)
    texts = " ".join(verdict(told))
    assert "`good` has the highest mean Dice" in texts and "leads in 100 %" in texts
    assert "significant against 1 of 1 other " in texts
    page = compare_page(told, [])
    dice = told["models"][0]["dice"]
    assert f"{dice['low']:.3f} – {dice['high']:.3f}" in page and "Pareto front" in page


def test_what_could_not_run_says_why_in_escaped_text() -> None:
    page = compare_page(compared(24), [])
    assert "patch &lt;too&gt; small" in page and "<too>" not in page


def test_few_patients_get_neither_interval_nor_significance() -> None:
    told = compared(5)
    page = compare_page(told, [])
    assert "significant against 0 of 1 other " in " ".join(verdict(told))
    assert "no interval" in page and "too few for p below .05" in page


def studied(draws: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    numbers = [2, 4, 8]
    witnesses = [{n: float(0.9 - 0.5 * n**-0.7 + rng.normal(0, 0.02)) for n in numbers} for _ in range(draws)]
    promise = expect(witnesses, 5)
    assert promise is not None
    one = {"points": [asdict(p) for p in curve(witnesses)], "law": asdict(fit_law(means(witnesses))),
           "witnesses": [{str(n): v for n, v in w.items()} for w in witnesses],
           "expectation": asdict(promise)}  # fmt: skip
    scores = {str(n): {f"c{k}": 0.5 + 0.05 * n + 0.001 * k for k in range(8)} for n in numbers}
    return {
        "study": {"name": "few", "description": "", "task": "cells_2d", "models": {"unet": {}}, "cases": numbers,
                  "subsets": draws, "seeds": 1, "folds": 1},
        "effort": {"seconds": None, "steps": 5}, "held_out_cases": 8, "held_out_patients": 8,
        "curves": {"unet": one}, "steps": {"unet": [asdict(test) for test in paired_tests(scores)]},
        "counts": [{"cases": n, "means": {"unet": 0.5}, "tests": [], "ranking": None} for n in numbers],
        "costs": [], "notes": ["8 cases instead of 16"],
        "trainings": [{"key": "unet-2cases", "state": "failed", "reason": "its worker was killed (SIGKILL)"}],
    }  # fmt: skip


def test_three_draws_promise_a_gain_with_its_uncertainty() -> None:
    told = studied(3)
    promise = told["curves"]["unet"]["expectation"]
    assert f"with 5 more expect {promise['gain']:+.3f} ± {promise['plus_minus']:.3f} (95 %)" in promises(told)[0]
    page = study_page(told)
    assert "Student&#39;s t over 3 random subsets" in page and "8 cases instead of 16." in page
    assert "its worker was killed (SIGKILL)" in page and "Does more help? unet" in page


@pytest.mark.parametrize("draws", [1, 2])
def test_fewer_draws_promise_no_interval(draws: int) -> None:
    told = studied(draws)
    assert "no interval" in promises(told)[0] and "±" not in promises(told)[0]
    assert "No interval is given" in study_page(told)
