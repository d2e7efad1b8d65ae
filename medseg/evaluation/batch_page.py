"""A batch as one HTML page: what needs a look first, then what was refused and why, then the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medseg.core.version import VERSION
from medseg.data.codes import CODES
from medseg.evaluation.page import render

_ORDER = ("review", "failed", "refused", "done", "running", "selected", "found")
# state -> (what it is called, class of its tag)
_WORDS = {
    "review": ("to be reviewed", "warning"),
    "failed": ("failed", "error"),
    "refused": ("refused", "info"),
    "done": ("done", "clean"),
    "running": ("under way", "info"),
    "selected": ("waiting", "info"),
    "found": ("arriving", "info"),
}
_MOST_SHOWN = 2000  # series on one page
_MOST_LABELS = 8  # volumes under a picture


@dataclass(frozen=True, slots=True)
class BatchFigures:
    """counts: series per state; reasons: (state, code, count); seconds: per stage over all series;
    per_hour: scans; model: the bundle's hash."""

    counts: Mapping[str, int]
    reasons: Sequence[tuple[str, str, int]]
    seconds: Mapping[str, float]
    per_hour: float | None
    model: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One series. preview: its picture's path relative to the page; expected: Dice and the ends of its interval.

    An interval of 0 to 1 promises nothing (see `Expected`): the page then tells no Dice at all.
    """

    scan: str
    state: str
    reason: str = ""
    findings: Sequence[str] = ()
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    confidence: float | None = None
    expected: tuple[float, float, float] | None = None
    preview: str | None = None


def batch_page(name: str, figures: BatchFigures, series: Sequence[Shown]) -> str:
    """The page, to be written beside previews/, which it shows; of what is to be reviewed, the worst comes first."""
    ordered = sorted(series, key=_place)
    counts = {state: figures.counts.get(state, 0) for state in _ORDER}
    stages = [
        (stage, total, total / max(1e-9, sum(figures.seconds.values()))) for stage, total in figures.seconds.items()
    ]
    return render(
        "batch.html.j2",
        name=name,
        figures=figures,
        counts=counts,
        words=_WORDS,
        codes=CODES,
        stages=stages,
        series=ordered[:_MOST_SHOWN],
        missing=max(0, len(ordered) - _MOST_SHOWN),
        most_labels=_MOST_LABELS,
        version=VERSION,
    )


def _place(shown: Shown) -> tuple[int, float, str]:
    expected = shown.expected[0] if shown.expected is not None else shown.confidence
    return _ORDER.index(shown.state), 1.0 if expected is None else expected, shown.scan
