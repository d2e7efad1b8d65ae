"""One series in a worker: read, computed, written; whatever goes wrong becomes a reason."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medseg.batch.inputs import Inputs, files_of, hash_inputs, unchanged
from medseg.batch.ledger import Fact
from medseg.batch.outputs import PLACE_FAULTS, Output, Targets, Wanted, Written, remove_outputs, write_outputs
from medseg.core.case import Finding, Prediction, Scan, Severity, Source, Status
from medseg.core.errors import FormatError, MedsegError
from medseg.core.selection import CODE as NOT_SELECTED

if TYPE_CHECKING:
    from medseg.bundle import Bundle

# A scan with one of these is broken; with any other code it is whole, but nothing to be segmented.
BROKEN = frozenset({"unreadable", "partial-file"})
VANISHED, CHANGED, CRASHED, REFUSED = "vanished", "changed", "crashed", "refused-by-model"
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR})
_PICTURE = "image"
PRIVATE = 0o077  # what others may not do with outputs


class ScanPredictor(Protocol):
    """What a batch needs of `medseg.inference.Predictor`."""

    @property
    def bundle(self) -> Bundle: ...

    def predict(self, scan: Scan) -> Prediction: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is given: a series, its targets, and what is known of its files already.

    stale: outputs of an earlier run may stand there.
    """

    source: Source
    targets: Targets
    facts: Mapping[str, Fact]
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a series; paths and sentences are not masked yet.

    code: of what decided; changed: its files changed while it was computed, so it is to be done again;
    halt: why no other scan can be written either; trace: the traceback of a failure.
    """

    status: Status = Status.FAILED
    code: str = ""
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    inputs: Inputs | None = None
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    expected: tuple[float, float, float] | None = None
    labelmap: Path | None = None
    outputs: tuple[Output, ...] = ()
    measurements: Mapping[str, Any] = field(default_factory=dict)
    changed: bool = False
    halt: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """Makes the segmenter of one worker: `load` gives the predictor. Picklable where `load` is."""

    load: Callable[[], ScanPredictor]
    wanted: Wanted
    output: Path
    tracebacks: bool = False

    def __call__(self) -> Segmenter:
        # Workers are processes of their own, whose files are private from the first byte on.
        os.umask(os.umask(PRIVATE) | PRIVATE)
        return Segmenter(self.load(), self.wanted, self.output, self.tracebacks)


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """A series between two stages: what there is of scan and prediction, or its answer already."""

    order: Order
    inputs: Inputs | None = None
    scan: Scan | None = None
    prediction: Prediction | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Segmenter:
    """The three stages of a series; none of them raises but for an interrupt."""

    predictor: ScanPredictor
    wanted: Wanted
    output: Path
    tracebacks: bool

    def read(self, order: Order) -> _Item:
        """Hash the files, read the scan, and refuse it where the task's selection does."""
        item = _Item(order)
        try:
            item = replace(item, inputs=hash_inputs(order.source, order.facts))
            return self._selected(replace(item, scan=self._scan(order.source)))
        except Exception as error:
            return self._failed(item, error)

    def compute(self, item: _Item) -> _Item:
        """Segment the scan, which is forgotten where nothing is to be written of it."""
        if item.answer is not None or item.scan is None:
            return item
        try:
            prediction = self.predictor.predict(item.scan)
        except Exception as error:
            return self._failed(item, error)
        outcome = prediction.outcome
        item = replace(item, scan=None, prediction=prediction)
        if outcome.status in (Status.OK, Status.REVIEW):
            return item
        findings = tuple(prediction.scan.findings)
        errors = [finding.code for finding in findings if finding.severity is Severity.ERROR]
        code = outcome.code or (errors or [REFUSED])[-1]
        answer = Answer(outcome.status, code, outcome.reason, findings, item.inputs)
        return replace(item, prediction=None, answer=answer)

    def write(self, item: _Item) -> Answer:
        """Write the outputs, if the files are still those that were read."""
        order = item.order
        if item.answer is not None:
            return self._without_outputs(item.answer, order)
        if item.prediction is None or item.inputs is None:
            return Answer(reason="nothing was computed")
        try:
            if self._touched(order, item.inputs):
                return Answer(code=CHANGED, reason="its files changed while it was read", changed=True)
            if order.stale:
                remove_outputs(order.targets)
            written = write_outputs(item.prediction, order.targets, self.wanted)
            return self._answer(item.prediction, item.inputs, written)
        except OSError as error:
            if self._place_is_to_blame(error):
                return Answer(halt=_place_sentence(self.output, error), reason=str(error))
            return self._without_outputs(self._reason(order, error, item.inputs), order)
        except Exception as error:
            return self._without_outputs(self._reason(order, error, item.inputs), order)

    # ---- reading ------------------------------------------------------------------------------

    def _scan(self, source: Source) -> Scan:
        from medseg import formats

        return formats.read(source, self.predictor.bundle.task.reading)

    def _selected(self, item: _Item) -> _Item:
        if item.scan is None:
            return item
        scan, selection = item.scan, self.predictor.bundle.task.selection
        reason = selection.unfit_grid(scan.volume.geometry, scan.source.format == _PICTURE)
        if not reason:
            return item
        findings = (*scan.findings, Finding(NOT_SELECTED, Severity.INFO, reason))
        return replace(item, scan=None, answer=Answer(Status.REFUSED, NOT_SELECTED, reason, findings, item.inputs))

    # ---- writing ------------------------------------------------------------------------------

    def _touched(self, order: Order, inputs: Inputs) -> bool:
        """Whether the files are no longer those that were hashed."""
        known = {fact.file: fact for fact in inputs.facts}
        return not unchanged(order.source, known) and hash_inputs(order.source, {}).hash != inputs.hash

    def _answer(self, prediction: Prediction, inputs: Inputs, written: Written) -> Answer:
        outcome = prediction.outcome
        expected = prediction.expected
        return Answer(
            status=outcome.status,
            reason=outcome.reason,
            findings=(*prediction.scan.findings, *written.findings),
            inputs=inputs,
            volumes_ml=prediction.labelmap.volumes_ml(),
            confidence=prediction.confidence,
            expected=None if expected is None else (expected.dice, expected.low, expected.high),
            labelmap=written.labelmap,
            outputs=written.outputs,
            measurements=written.measurements,
        )

    def _without_outputs(self, answer: Answer, order: Order) -> Answer:
        """The answer, once nothing of an earlier run stands there any more as if it were right."""
        try:
            if order.stale:
                remove_outputs(order.targets)
        except OSError as error:
            return Answer(halt=_place_sentence(self.output, error), reason=str(error))
        return answer

    def _place_is_to_blame(self, error: OSError) -> bool:
        """Whether every other scan would meet this error, too."""
        if error.errno in PLACE_FAULTS:
            return True
        inside = error.filename is not None and Path(str(error.filename)).is_relative_to(self.output)
        return inside and error.errno in _FORBIDDEN

    # ---- failing ------------------------------------------------------------------------------

    def _failed(self, item: _Item, error: Exception) -> _Item:
        return replace(item, scan=None, answer=self._reason(item.order, error, item.inputs))

    def _reason(self, order: Order, error: Exception, inputs: Inputs | None) -> Answer:
        trace = "".join(traceback.format_exception(error)).rstrip() if self.tracebacks else ""
        gone = missing(order.source)
        if gone:
            reason = f"{gone[0].name} is no longer there ({len(gone)} of {len(files_of(order.source))} files are gone)"
            return Answer(code=VANISHED, reason=reason, findings=order.source.findings, trace=trace)
        return replace(failure(order.source, error), inputs=inputs, trace=trace)


def failure(source: Source, error: Exception) -> Answer:
    """What is said of a series on which `error` was raised."""
    findings: Sequence[Finding] = source.findings
    if isinstance(error, FormatError):
        findings = (*findings, Finding(error.code, Severity.ERROR, error.reason))
        status = Status.FAILED if error.code in BROKEN else Status.REFUSED
        return Answer(status, error.code, str(error), tuple(findings))
    if isinstance(error, MemoryError):
        return Answer(reason="there is not enough memory for this scan", findings=tuple(findings))
    reason = str(error) if isinstance(error, MedsegError) else f"{type(error).__name__}: {error}"
    return Answer(reason=reason, findings=tuple(findings))


def missing(source: Source) -> list[Path]:
    """The files of a series that are no longer there."""
    return [file for file in source.files if not file.exists()]


def _place_sentence(output: Path, error: OSError) -> str:
    """One sentence about an output folder that cannot be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"{output}: the disk is full ({error.strerror}); free some space and run the same command again, "
            "it goes on where it stopped"
        )
    return f"{output}: cannot be written to ({error.strerror}); put that right and run the same command again"
