"""What the batch's page says of a single series."""

from __future__ import annotations

import pytest

from medseg.evaluation.batch_page import BatchFigures, Shown, batch_page

FIGURES = BatchFigures({"done": 1}, (), {}, None, "abc")


@pytest.mark.parametrize(
    ("expected", "said", "silent"),
    [
        ((0.88, 0.0, 1.0), "expected Dice: too few held-out cases to say", "0.88"),
        ((0.88, 0.71, 0.93), "expected Dice 0.88 (0.71–0.93)", "too few"),
        (None, "confidence 0.77", "expected"),
    ],
)
def test_no_dice_is_promised_without_an_interval(
    expected: tuple[float, float, float] | None, said: str, silent: str
) -> None:
    page = batch_page("night", FIGURES, [Shown("scan", "done", confidence=0.77, expected=expected)])
    assert said in page and silent not in page
