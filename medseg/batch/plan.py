"""What is to be done about every series that was found, and what is done already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.batch.inputs import hash_inputs
from medseg.batch.ledger import ENDS, SEGMENTED, Entry, Fact, Key, State
from medseg.batch.outputs import sha256_of
from medseg.batch.results import printable
from medseg.batch.segment import BROKEN, CHANGED, VANISHED
from medseg.core.case import Source
from medseg.core.identifiers import Identifiers
from medseg.core.reading import refused_by_all
from medseg.core.selection import CODE as NOT_SELECTED
from medseg.core.task import Task

_SCANNERS = ("CT", "MR", "PT")
_REASONS_SHOWN = 4

Known = Callable[[Source], Mapping[str, Fact]]


@dataclass(frozen=True, slots=True)
class Question:
    """What decides about a series beside its files.

    bundle, options: their hashes; task: of the bundle; root: the folder of scans; output: of results;
    identifiers: what no text may repeat; retry: ends that are not taken for an answer.
    """

    bundle: str
    options: str
    task: Task
    root: Path
    output: Path
    identifiers: Identifiers
    retry: frozenset[State] = frozenset()

    def entry(self, source: Source) -> Entry:
        """A series as it was found."""
        path = source.path
        relative = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        codes = dict.fromkeys(finding.code for finding in source.findings)
        shown = printable(self.identifiers.mask(relative))
        return Entry(printable(source.name), shown, source.format, findings=tuple(codes))

    def sentence(self, reason: str) -> str:
        """A reason as it may be written: one line without identifiers."""
        return printable(self.identifiers.mask(" ".join(reason.split())))


@dataclass(frozen=True, slots=True)
class Plan:
    """entries: of every series; todo: names of those to be segmented; facts: of files that were hashed for it."""

    entries: Mapping[str, Entry]
    todo: tuple[str, ...]
    facts: tuple[Fact, ...] = ()
    done_before: int = 0

    def sentence(self) -> str:
        """What will be done, in one line."""
        refused = [entry for name, entry in self.entries.items() if name not in set(self.todo) and _unusable(entry)]
        parts = [f"{len(self.entries)} series: {len(self.todo)} to be segmented"]
        if self.done_before:
            parts.append(f"{self.done_before} done before")
        if refused:
            reasons = Counter(entry.code or entry.state.value for entry in refused).most_common()
            shown = ", ".join(f"{count} {code}" for code, count in reasons[:_REASONS_SHOWN])
            more = ", …" if len(reasons) > _REASONS_SHOWN else ""
            parts.append(f"{len(refused)} not usable ({shown}{more})")
        return ", ".join(parts)


@dataclass(slots=True)
class _Sorting:
    entries: dict[str, Entry] = field(default_factory=dict)
    todo: list[str] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    done: int = 0


def make_plan(sources: Iterable[Source], question: Question, old: Mapping[str, Entry], known: Known) -> Plan:
    """Sort series into those that cannot be segmented, those that are done, and those to be done.

    old: entries of earlier runs; known: what is known of a series' files. Files are read only where an
    earlier answer depends on files that were touched since.
    """
    found = _Sorting()
    for source in sources:
        entry = question.entry(source)
        refused = _refused(source, question)
        if refused is not None:
            code, reason = refused
            state = State.FAILED if code in BROKEN else State.REFUSED
            codes = tuple(dict.fromkeys([*entry.findings, code]))
            entry = replace(entry, state=state, code=code, reason=question.sentence(reason), findings=codes)
        else:
            entry = _known(source, entry, question, old.get(entry.scan), (known, found))
        found.entries[entry.scan] = entry
        if entry.state is State.SELECTED:
            found.todo.append(entry.scan)
    return Plan(found.entries, tuple(found.todo), tuple(found.facts), found.done)


def _refused(source: Source, question: Question) -> tuple[str, str] | None:
    """Code and reason why a series is not read at all."""
    finding = refused_by_all(source)
    if finding is not None:
        return finding.code, finding.message
    task = question.task
    if source.format == "dicom" and source.modality and task.modality in _SCANNERS and source.modality != task.modality:
        return NOT_SELECTED, f"its modality is {source.modality}, but the task {task.name!r} is for {task.modality}"
    reason = task.selection.unfit_header(source)
    return (NOT_SELECTED, reason) if reason else None


def _known(
    source: Source,
    entry: Entry,
    question: Question,
    before: Entry | None,
    sorting: tuple[Known, _Sorting],
) -> Entry:
    """The entry of an earlier run where it is still true, else one that is to be done."""
    known, found = sorting
    key = Key("", question.bundle, question.options)
    if before is not None and before.state in ENDS and before.key.inputs:
        try:
            facts = known(source)
            inputs = hash_inputs(source, facts)
        except OSError:
            return replace(entry, state=State.SELECTED, key=key)
        found.facts += [fact for fact in inputs.facts if facts.get(fact.file) != fact]
        key = replace(key, inputs=inputs.hash)
        if before.key == key and _holds(before, question):
            found.done += 1
            return replace(before, path=entry.path, format=entry.format)
    attempts = before.attempts if before is not None and before.key == key else 0
    return replace(entry, state=State.SELECTED, key=key, attempts=attempts)


def _holds(entry: Entry, question: Question) -> bool:
    """Whether an answer is to be kept: outputs are there as they were written, and nobody wants it anew."""
    if entry.state in question.retry or entry.code in (VANISHED, CHANGED):
        return False
    if entry.state not in SEGMENTED:
        return True
    try:
        return all(sha256_of(question.output / file.path) == file.sha256 for file in entry.files)
    except OSError:
        return False


def _unusable(entry: Entry) -> bool:
    return entry.state in (State.REFUSED, State.FAILED)
