"""results.csv: one row per scan of a folder, whatever became of it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.core.case import Status
from medseg.core.files import write_text

RESULTS = "results.csv"
_BEFORE = ("scan", "path", "format", "status", "reason", "findings", "seconds")
_AFTER = ("confidence", "expected_dice", "expected_low", "expected_high", "output", "model")
_COUNT = "n_instances"  # a column of tasks that tell objects apart
_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What became of one scan.

    scan: its unique name; path: relative to the scanned folder; findings: codes of what is odd about
    it; seconds: reading, computing and writing; volumes_ml: per label, empty without a label map;
    confidence: mean winning probability over the foreground; output: the label map, relative to the
    output folder; expected: the Dice to expect and the ends of its 90 % interval; objects: how many were
    told apart, None for tasks that do not.
    """

    scan: str
    path: str
    format: str
    status: Status
    reason: str = ""
    findings: tuple[str, ...] = ()
    seconds: float = 0.0
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    output: str | None = None
    expected: tuple[float, float, float] | None = None
    objects: int | None = None

    @property
    def segmented(self) -> bool:
        """Whether there is a label map."""
        return self.status in (Status.OK, Status.REVIEW)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of every scan of a folder; `model` is the bundle's hash."""

    rows: tuple[ScanResult, ...]
    labels: tuple[str, ...]
    model: str
    output: Path

    @property
    def counts(self) -> dict[str, int]:
        """Number of scans per status, every status named."""
        seen = Counter(row.status for row in self.rows)
        return {status.value: seen[status] for status in Status}

    @property
    def exit_code(self) -> int:
        """0: every scan has a label map; 1: some were refused or failed; 2: none has one."""
        segmented = sum(row.segmented for row in self.rows)
        if segmented == 0:
            return 2
        return 0 if segmented == len(self.rows) else 1

    def summary(self) -> str:
        """One line: how many succeeded, were refused (and why) and failed."""
        counts = self.counts
        review = counts[Status.REVIEW]
        parts = [f"{counts[Status.OK] + review} of {len(self.rows)} scans segmented"]
        if review:
            parts[0] += f" ({review} to be reviewed)"
        parts += [f"{counts[Status.REFUSED]} refused{self._reasons(Status.REFUSED)}"]
        parts += [f"{counts[Status.FAILED]} failed{self._reasons(Status.FAILED)}"]
        return f"{', '.join(parts)}; see {self.output / RESULTS}"

    def _reasons(self, status: Status) -> str:
        reasons = Counter(row.reason for row in self.rows if row.status == status)
        shown = [f"{count}x {reason}" if count > 1 else reason for reason, count in reasons.most_common(_REASONS_SHOWN)]
        if len(reasons) > _REASONS_SHOWN:
            shown.append("…")
        return f" ({'; '.join(shown)})" if shown else ""

    def plain(self) -> dict[str, Any]:
        """Ready for JSON: the rows of results.csv, the counts, the model and the output folder."""
        rows = [
            {
                "scan": row.scan,
                "path": row.path,
                "format": row.format,
                "status": row.status.value,
                "reason": row.reason,
                "findings": list(row.findings),
                "seconds": round(row.seconds, 2),
                "volume_ml": {label: round(ml, 4) for label, ml in row.volumes_ml.items()},
                "confidence": None if row.confidence is None else round(row.confidence, 4),
                "expected": None if row.expected is None else _expected(row.expected),
                "output": row.output,
                **({} if row.objects is None else {_COUNT: row.objects}),
            }
            for row in self.rows
        ]
        return {"output": str(self.output), "model": self.model, "counts": self.counts, "scans": rows}


def write_results(result: BatchResult) -> None:
    """Write results.csv atomically."""
    counted = any(row.objects is not None for row in result.rows)
    columns = [*_BEFORE, *(volume_column(label) for label in result.labels), *([_COUNT] if counted else []), *_AFTER]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(_cells(row, result, counted) for row in result.rows)
    write_text(result.output / RESULTS, text.getvalue())


def volume_column(label: str) -> str:
    """The column that holds a label's volume in millilitres."""
    return f"volume_ml {label}"


def printable(text: str) -> str:
    """`text` with bytes of file names that are no UTF-8 written as escapes, so that it can be printed."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def previous_outputs(output: Path) -> dict[str, str]:
    """Scan -> label map (relative to `output`) of an earlier run into the same folder.

    A file that is no results.csv of medseg counts as no earlier run.
    """
    try:
        with (output / RESULTS).open(encoding="utf-8", newline="") as file:
            return {row["scan"]: row["output"] for row in csv.DictReader(file) if row["output"]}
    except (OSError, UnicodeDecodeError, KeyError, TypeError, csv.Error):
        return {}


def _expected(figures: tuple[float, float, float]) -> dict[str, float]:
    return {name: round(figure, 4) for name, figure in zip(("dice", "low", "high"), figures, strict=True)}


def _cells(row: ScanResult, result: BatchResult, counted: bool) -> list[str]:
    volumes = [f"{row.volumes_ml[label]:.4f}" if label in row.volumes_ml else "" for label in result.labels]
    return [
        row.scan,
        row.path,
        row.format,
        row.status.value,
        row.reason,
        ";".join(row.findings),
        f"{row.seconds:.2f}",
        *volumes,
        *(["" if row.objects is None else str(row.objects)] if counted else []),
        "" if row.confidence is None else f"{row.confidence:.4f}",
        *(["", "", ""] if row.expected is None else [f"{figure:.4f}" for figure in row.expected]),
        row.output or "",
        result.model,
    ]
