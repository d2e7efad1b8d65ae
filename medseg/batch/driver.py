"""The one writer of a batch's ledger: gives series to workers and notes down what becomes of each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from medseg.batch.inputs import files_of, hash_inputs
from medseg.batch.ledger import ENDS, SEGMENTED, Entry, Fact, File, Key, Ledger, State, path_hash
from medseg.batch.measurements import write_cells, write_measurements
from medseg.batch.outputs import OBJECTS, Targets, remove_outputs, targets_of
from medseg.batch.plan import Plan, Question, make_plan
from medseg.batch.results import BatchResult, ScanResult, printable, write_results
from medseg.batch.segment import CHANGED, CRASHED, VANISHED, Answer, Order
from medseg.core.case import Source, Status
from medseg.core.errors import MedsegError
from medseg.core.events import Listener, Message, Progress
from medseg.executors.contract import Began, Event, Executor, Finished, Job, Lost, Returned

_STOPPED = "stopped before this scan was done"
_KEEPS_CHANGING = "its files kept changing while it was computed; use --watch while scans are arriving"
_ROUNDS = 3  # times that a series may change while it is computed
_WRITE_EVERY = 5.0  # seconds between two writings of results.csv
_BACK_UP_EVERY = 300.0  # seconds between two backups of the ledger
_ESTIMATE_AFTER = 3  # scans
_STATES = {
    Status.OK: State.DONE,
    Status.REVIEW: State.REVIEW,
    Status.REFUSED: State.REFUSED,
    Status.FAILED: State.FAILED,
}
_STATUSES = {state: status for status, state in _STATES.items()}


class BatchStoppedError(MedsegError):
    """The place of the scans or of the outputs failed: no further scan would fare better."""


@dataclass(slots=True, eq=False)
class Driver:
    """A batch under way. As a context manager it leaves ledger and results.csv whole, however the block ends.

    labels, model: for results.csv; earlier: scans of a results.csv from before, whose outputs are stale.
    """

    ledger: Ledger
    listener: Listener
    labels: tuple[str, ...]
    model: str
    earlier: frozenset[str]
    _entries: dict[str, Entry] = field(default_factory=dict)
    _sources: dict[str, Source] = field(default_factory=dict)
    _targets: dict[str, Targets] = field(default_factory=dict)
    _question: Question | None = None
    _again: list[str] = field(default_factory=list)
    _written: float = 0.0
    _backed_up: float = field(default_factory=time.monotonic)
    _started: float = 0.0
    _computed: int = 0
    _planned: int = 0

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was under way is given back; results.csv says of it that it was stopped."""
        given_back = [entry for entry in self._entries.values() if entry.state is State.RUNNING]
        for entry in given_back:
            self._entries[entry.scan] = replace(entry, state=State.SELECTED)
        try:
            self.ledger.put(self._entries[entry.scan] for entry in given_back)
            if self._entries:
                write_results(self.result())
                self._write_measurements()
        except (MedsegError, OSError):
            if error is None:
                raise  # else there is a better sentence under way already

    @property
    def output(self) -> Path:
        return self.ledger.folder

    def tell(self, text: str, level: str = "info") -> None:
        self.listener(Message(text, level))

    def result(self) -> BatchResult:
        """What became of every series so far."""
        rows = tuple(_result(entry) for entry in self._entries.values())
        return BatchResult(rows, self.labels, self.model, self.output)

    # ---- doing ----------------------------------------------------------------------------------

    def done(
        self, sources: Sequence[Source], question: Question, workers: Executor, among: Sequence[Source] | None = None
    ) -> list[str]:
        """Do what is to be done about `sources`; among: all there are, of which these are ready now.

        Returns the names of series that changed meanwhile, where `among` says that others are arriving.
        Raises BatchStoppedError where no further scan would fare better.
        """
        plan = self._planned_for(sources, question, among)
        todo = list(plan.todo)
        self._progress()
        for _ in range(_ROUNDS):
            for event in workers.run(self._jobs(todo)):
                self._hear(event)
            todo, self._again = self._again, []
            if not todo or among is not None:
                return [self._sources[name].name for name in todo]
        restless = [self._entries[name] for name in todo]
        self._ended([replace(one, state=State.FAILED, code=CHANGED, reason=_KEEPS_CHANGING) for one in restless])
        return []

    def _planned_for(self, sources: Sequence[Source], question: Question, among: Sequence[Source] | None) -> Plan:
        old = self.ledger.entries()
        plan = make_plan(sources, question, old, self._facts)
        self._question = question
        every = sources if among is None else among
        self._sources |= {printable(source.name): source for source in every}
        self._targets |= {printable(name): targets for name, targets in targets_of(every, self.output).items()}
        if among is not None:  # what is still arriving, and what was done before and may be gone by now
            self._entries = {**old, **self._entries}
            for source in among:
                self._entries.setdefault(printable(source.name), question.entry(source))
        for scan, entry in plan.entries.items():
            if entry.state in ENDS and not entry.files and (scan in self.earlier or scan in old):
                self._remove(scan)
        self.earlier |= frozenset(old)
        self._entries |= plan.entries
        self.ledger.put(self._entries.values(), {"model": self.model, "labels": "\n".join(self.labels)})
        self.ledger.order(self._entries)
        self.ledger.note(plan.facts)
        self._started, self._computed, self._planned = time.monotonic(), 0, len(plan.todo)
        self.tell(plan.sentence())
        return plan

    def _remove(self, scan: str) -> None:
        try:
            remove_outputs(self._targets[scan])
        except OSError as error:
            raise BatchStoppedError(
                f"{self.output}: cannot be written to ({error.strerror}); put that right"
            ) from error

    def _jobs(self, names: Sequence[str]) -> Iterator[Job]:
        for name in names:
            source = self._sources[name]
            known = self._facts(source)
            yield Job(name, Order(source, self._targets[name], known, name in self.earlier))

    def _facts(self, source: Source) -> dict[str, Fact]:
        every = self.ledger.facts_of(path_hash(file) for file in files_of(source))
        return {fact.file: fact for fact in every}

    # ---- hearing --------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        entry = self._entries[event.key]
        if isinstance(event, Began):
            entry = replace(entry, state=State.RUNNING, attempts=entry.attempts + 1)
            self._entries[event.key] = entry
            self.ledger.put([entry])
        elif isinstance(event, Returned):
            self._entries[event.key] = replace(entry, state=State.SELECTED)
            self.tell(f"{event.key}: {event.reason}; it is begun again", "warning")
        elif isinstance(event, Lost):
            self._ended([self._lost(entry, event)])
        else:
            self._answered(entry, event)

    def _answered(self, entry: Entry, event: Finished) -> None:
        answer: Answer = event.value
        if answer.trace:
            self.tell(self._mask(answer.trace), "error")
        if answer.halt:
            raise BatchStoppedError(answer.halt)
        if answer.code == VANISHED:
            self._check_scans()
        if answer.changed:
            self._entries[entry.scan] = replace(entry, state=State.SELECTED)
            self._again.append(entry.scan)
            return
        if answer.inputs is not None:
            self.ledger.note(answer.inputs.facts)
        self._ended([self._entry(entry, answer, dict(event.seconds))])

    def _lost(self, entry: Entry, event: Lost) -> Entry:
        code = "" if event.raised else CRASHED
        reason = event.reason if event.raised else f"{event.reason} (attempts: {entry.attempts})"
        key = entry.key
        source = self._sources[entry.scan]
        with suppress(OSError):  # without its files' hash it is simply tried again
            inputs = hash_inputs(source, self._facts(source))
            self.ledger.note(inputs.facts)
            key = replace(key, inputs=inputs.hash)
        if entry.scan in self.earlier:
            self._remove(entry.scan)
        return replace(entry, state=State.FAILED, key=key, code=code, reason=self._sentence(reason))

    def _entry(self, entry: Entry, answer: Answer, seconds: dict[str, float]) -> Entry:
        labelmap = answer.labelmap
        files = [File(made.kind, self._relative(made.path), made.sha256) for made in answer.outputs]
        return replace(
            entry,
            state=_STATES[answer.status],
            key=Key(answer.inputs.hash if answer.inputs else "", entry.key.bundle, entry.key.options),
            code=answer.code,
            reason=self._sentence(answer.reason),
            findings=tuple(dict.fromkeys(finding.code for finding in answer.findings)),
            seconds=seconds,
            volumes_ml=dict(answer.volumes_ml),
            confidence=answer.confidence,
            expected=answer.expected,
            output=None if labelmap is None else printable(self._relative(labelmap)),
            files=tuple(files),
            measurements=answer.measurements,
        )

    def _ended(self, entries: Sequence[Entry]) -> None:
        """Series that have come to their end: into the ledger at once, into results.csv soon."""
        ended = [replace(entry, finished=time.time()) for entry in entries]
        self._entries |= {entry.scan: entry for entry in ended}
        self.ledger.put(ended)
        self._computed += len(ended)
        now = time.monotonic()
        if now - self._written > _WRITE_EVERY:
            write_results(self.result())
            self._written = now
        if now - self._backed_up > _BACK_UP_EVERY:
            self.ledger.back_up()
            self._backed_up = now
        self._progress()

    def _write_measurements(self) -> None:
        measured = [(one.scan, one.measurements) for one in self._entries.values() if one.state in SEGMENTED]
        if measured:
            write_measurements(self.output, measured, {"model": self.model})
        files = [file for one in self._entries.values() if one.state in SEGMENTED for file in one.files]
        write_cells(self.output, [self.output / file.path for file in files if file.kind == "cells"])

    def _progress(self) -> None:
        """Progress over all series; the time left is that of those that are computed."""
        states = [entry.state for entry in self._entries.values()]
        ended = sum(state in ENDS for state in states)
        counted = (State.REVIEW, State.REFUSED, State.FAILED)
        values = {state.value: float(count) for state in counted if (count := states.count(state))}
        left = None
        if self._computed:
            each = (time.monotonic() - self._started) / self._computed
            left = each * (self._planned - self._computed)
            values["per hour"] = 3600 / max(each, 1e-9)
            if self._computed == _ESTIMATE_AFTER and left > each:
                self.tell(f"{each:.1f} s a scan: about {max(1, round(left / 60))} min for the remaining ones")
        self.listener(Progress("segmenting", ended, len(states), values, left))

    # ---- words ----------------------------------------------------------------------------------

    def _check_scans(self) -> None:
        """Raises BatchStoppedError where not one scan but all of them are gone."""
        root = self._question.root if self._question else self.output
        try:
            gone = next(root.iterdir(), None) is None
        except OSError:
            gone = True
        if gone:
            text = "the scans are gone (unmounted?); run the same command again when they are back"
            raise BatchStoppedError(f"{root}: {text}")

    def _sentence(self, reason: str) -> str:
        return self._question.sentence(reason) if self._question else reason

    def _mask(self, text: str) -> str:
        return self._question.identifiers.mask(text) if self._question else text

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.output).as_posix()


def _result(entry: Entry) -> ScanResult:
    """The row of results.csv."""
    ended = entry.state in ENDS
    return ScanResult(
        scan=entry.scan,
        path=entry.path,
        format=entry.format,
        status=_STATUSES[entry.state] if ended else Status.FAILED,
        reason=entry.reason if ended else _STOPPED,
        findings=entry.findings,
        seconds=sum(entry.seconds.values()),
        volumes_ml=entry.volumes_ml,
        confidence=entry.confidence,
        output=entry.output,
        expected=entry.expected,
        objects=_objects(entry),
    )


def _objects(entry: Entry) -> int | None:
    """How many objects were told apart; None where labels are all that was asked for."""
    counts = [row[OBJECTS] for row in entry.measurements.values() if OBJECTS in row]
    return sum(counts) if counts else None
