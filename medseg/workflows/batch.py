"""What became of a night of scans: figures and a page, from the ledger of the output folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.batch.ledger import ENDS, Entry, State, read_ledger

REPORT = "batch.html"


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How far a batch has come.

    entries: every series; counts: per state; reasons: code and count of what was refused or failed;
    seconds: of each stage over all series that were computed; per_hour: scans, while it computed (None
    where too few were); model: the bundle's hash.
    """

    folder: Path
    entries: Sequence[Entry]
    counts: dict[str, int]
    reasons: tuple[tuple[str, str, int], ...]
    seconds: dict[str, float] = field(default_factory=dict)
    per_hour: float | None = None
    model: str = ""

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "output": str(self.folder),
            "model": self.model,
            "counts": self.counts,
            "reasons": [{"state": state, "code": code, "count": count} for state, code, count in self.reasons],
            "seconds": {stage: round(seconds, 2) for stage, seconds in self.seconds.items()},
            "per_hour": None if self.per_hour is None else round(self.per_hour, 1),
            "series": [_plain(entry) for entry in self.entries],
        }


def batch_status(output: Path | str) -> BatchStatus:
    """Read the ledger of an output folder, also while its batch runs.

    Raises UsageError where there is none, LedgerError where it cannot be read.
    """
    folder = Path(output)
    entries, about = read_ledger(folder)
    counts = Counter(entry.state for entry in entries)
    bad = (State.REFUSED, State.FAILED)
    reasons = Counter((entry.state.value, entry.code or "other") for entry in entries if entry.state in bad)
    seconds: Counter[str] = Counter()
    for entry in entries:
        seconds.update(entry.seconds)
    return BatchStatus(
        folder=folder,
        entries=entries,
        counts={state.value: counts[state] for state in State},
        reasons=tuple((state, code, count) for (state, code), count in reasons.most_common()),
        seconds=dict(seconds),
        per_hour=_per_hour(entries),
        model=about.get("model", ""),
    )


def batch_report(output: Path | str) -> Path:
    """Write batch.html into the output folder: throughput, states, refusals by reason, thumbnails.

    Returns its path. Raises as `batch_status` does.
    """
    from medseg.core.files import write_text
    from medseg.evaluation.batch_page import BatchFigures, Shown, batch_page

    status = batch_status(output)
    figures = BatchFigures(status.counts, status.reasons, status.seconds, status.per_hour, status.model)
    shown = [
        Shown(
            scan=entry.scan,
            state=entry.state.value,
            reason=entry.reason,
            findings=entry.findings,
            volumes_ml=entry.volumes_ml,
            seconds=sum(entry.seconds.values()),
            confidence=entry.confidence,
            expected=entry.expected,
            preview=next((file.path for file in entry.files if file.kind == "preview"), None),
        )
        for entry in status.entries
    ]
    path = status.folder / REPORT
    write_text(path, batch_page(status.folder.resolve().name, figures, shown))
    path.chmod(0o600)
    return path


def _per_hour(entries: Sequence[Entry]) -> float | None:
    """Scans an hour, from the first end to the last; pauses between runs count as if they were work."""
    ends = sorted(entry.finished for entry in entries if entry.finished is not None and entry.seconds)
    if len(ends) < 3 or ends[-1] <= ends[0]:
        return None
    return 3600 * (len(ends) - 1) / (ends[-1] - ends[0])


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "scan": entry.scan,
        "path": entry.path,
        "state": entry.state.value,
        "code": entry.code,
        "reason": entry.reason,
        "findings": list(entry.findings),
        "attempts": entry.attempts,
        "seconds": {stage: round(seconds, 3) for stage, seconds in entry.seconds.items()},
        "volume_ml": {label: round(ml, 4) for label, ml in entry.volumes_ml.items()},
        "confidence": entry.confidence,
        "expected": None if entry.expected is None else dict(zip(("dice", "low", "high"), entry.expected, strict=True)),
        "key": {"inputs": entry.key.inputs, "bundle": entry.key.bundle, "options": entry.key.options},
        "outputs": [{"kind": file.kind, "path": file.path, "sha256": file.sha256} for file in entry.files],
        "finished": entry.finished,
        "over": entry.state in ENDS,
    }
