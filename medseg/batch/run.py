"""A night of scans: none lost, none twice, whatever happens to one of them or to this process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.batch.driver import Driver
from medseg.batch.ledger import Ledger, State, held
from medseg.batch.outputs import DEFAULT_KINDS, SegType, Wanted, remove_half_files, targets_of
from medseg.batch.plan import Question
from medseg.batch.results import BatchResult, previous_outputs
from medseg.batch.segment import PRIVATE, ScanPredictor, Setup
from medseg.batch.watch import Arrivals, snapshot
from medseg.core.case import Source
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message
from medseg.core.identifiers import Identifiers
from medseg.executors import open_executor
from medseg.executors.contract import Executor as Workers
from medseg.executors.contract import Limits

if TYPE_CHECKING:
    from medseg.bundle import Bundle

UNPACKED = ".medseg-unpacked"
_LOOKS = 4  # at a folder that is watched, in the time that a series must be quiet
_LONGEST_SLEEP = 10.0  # seconds between two looks


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a folder is segmented.

    kinds: outputs, of `medseg.batch.outputs.KINDS`; deidentify: DICOM outputs without patient; seg_type:
    see `medseg.batch.outputs.Wanted`; tracebacks: report those of failed scans; keep_identifiers: patients'
    names and ids, as DICOM headers tell them, stay in file names and results.csv; retry: ends of earlier
    runs that are tried again; executor: a name of `medseg.executors.EXECUTORS`; limits: for it; quiet_for:
    watch the folder and take series that did not change for so many seconds; answers: what else answers
    depend on (flips, overlap), so that others make earlier ones stale.
    """

    kinds: frozenset[str] = DEFAULT_KINDS
    deidentify: bool = False
    seg_type: SegType = "BINARY"
    tracebacks: bool = False
    keep_identifiers: bool = False
    retry: frozenset[State] = frozenset()
    executor: str = "serial"
    limits: Limits = field(default_factory=Limits)
    quiet_for: float | None = None
    answers: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Hex digest of all that answers depend on."""
        told = {**self.answers, "kinds": sorted(self.kinds), "deidentify": self.deidentify, "seg_type": self.seg_type}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A bundle, and what loads its predictor in a worker (picklable, unless the executor is serial)."""

    bundle: Bundle
    load: Callable[[], ScanPredictor]


def predict_folder(
    scans: Path, model: Model | ScanPredictor, output: Path, options: BatchOptions, listener: Listener
) -> BatchResult:
    """Segment every scan below `scans` into `output`; one row per scan in results.csv.

    model: or a predictor that is loaded already, which only the serial executor can use.
    A scan that cannot be segmented becomes a row with the reason and never stops the others. What the
    ledger in `output` knows as done, from the same files, bundle and options, is not done again. An
    interrupt (Ctrl-C, SIGTERM) finishes ledger and results.csv and is raised as KeyboardInterrupt; with
    `quiet_for` it is the only end.

    Raises UsageError where there is no scan, `output` would overwrite one or belongs to a batch that is
    running, LedgerError or BatchStoppedError where `output` cannot be written to any more, or the scans went.
    """
    if not isinstance(model, Model):
        predictor = model
        model = Model(predictor.bundle, lambda: predictor)
    _check_folders(scans, output)
    task = model.bundle.task
    provenance = {"model": model.bundle.hash, "task": task.name}
    wanted = Wanted(options.kinds, provenance, task.reading, options.deidentify, options.seg_type)
    setup = Setup(model.load, wanted, output, options.tracebacks)
    with _private_modes(), _terminated_as_interrupted(), held(output):
        _clear(output)  # of a run that was killed
        try:
            # Opened first: workers load the model while this process looks for scans.
            with open_executor(options.executor, setup, options.limits) as workers:
                return _Batch(scans, model.bundle, output, options, workers).run(listener)
        finally:
            _clear(output)  # of workers that were stopped, and unpacked archives


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """A batch under way: what was asked for, and who does it."""

    scans: Path
    bundle: Bundle
    output: Path
    options: BatchOptions
    workers: Workers

    def run(self, listener: Listener) -> BatchResult:
        """Find what there is, and do what is to be done about it."""
        quiet_for = self.options.quiet_for
        sources = self._find() if quiet_for is None else []
        earlier = frozenset(previous_outputs(self.output))
        ledger = Ledger.open(self.output)
        try:
            if ledger.warning:
                listener(Message(ledger.warning, "warning"))
            with Driver(ledger, listener, self.bundle.task.label_names, self.bundle.hash, earlier) as driver:
                if quiet_for is None:
                    driver.done(sources, self._question(sources), self.workers)
                else:
                    self._watch(driver, quiet_for)
            return driver.result()
        finally:
            ledger.close()

    def _find(self) -> list[Source]:
        """The scans there are, without those that lie in the output folder; zip archives are unpacked into UNPACKED.

        Raises UsageError where there is none (unless others may arrive), or one would be overwritten.
        """
        from medseg import formats

        unpacked, output = self.output / UNPACKED, self.output.resolve()
        sources = formats.discover(self.scans, unpacked, keep_identifiers=self.options.keep_identifiers)
        if output.is_relative_to(self.scans.resolve()):
            sources = [source for source in sources if not _within(source, output)]
        if not sources and self.options.quiet_for is None:
            raise UsageError(f"{self.scans}: holds no scan (DICOM, NIfTI, NRRD, MHA, PNG, JPEG or TIFF)")
        _check_targets(sources, self.output)
        return sources

    def _question(self, sources: Sequence[Source]) -> Question:
        return Question(
            bundle=self.bundle.hash,
            options=self.options.hash,
            task=self.bundle.task,
            root=self.scans if self.scans.is_dir() else self.scans.parent,
            output=self.output,
            identifiers=Identifiers() if self.options.keep_identifiers else Identifiers.among(sources),
            retry=self.options.retry,
        )

    def _watch(self, driver: Driver, quiet_for: float) -> None:
        """Segment series as they become quiet, until an interrupt."""
        arrivals = Arrivals(quiet_for, time.monotonic, self.output / UNPACKED)
        indexed, sources = None, list[Source]()
        text = f"a series is taken when it has been quiet for {quiet_for:g} s; stop with Ctrl-C"
        driver.tell(f"watching {self.scans}: {text}")
        while True:
            now = snapshot(self.scans, self.output)
            if now != indexed:
                sources, indexed = self._find(), now
            ready = arrivals.quiet(sources)
            if ready:
                arrivals.take(ready)
                for name in driver.done(ready, self._question(sources), self.workers, among=sources):
                    arrivals.put_back(name)
            time.sleep(min(quiet_for / _LOOKS, _LONGEST_SLEEP))


# ---- folders ----------------------------------------------------------------------------------


def _check_folders(scans: Path, output: Path) -> None:
    if not scans.exists():
        raise UsageError(f"{scans}: there is no such file or folder of scans")
    if scans.resolve() == output.resolve():
        raise UsageError(f"{output}: is the folder of scans itself; choose another -o")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file; -o names a folder")


def _check_targets(sources: Sequence[Source], output: Path) -> None:
    """Raises UsageError where outputs would overwrite a scan, or links in `output` would lead out of it."""
    own = output.resolve()
    folders = {path.parent for targets in targets_of(sources, output).values() for path in targets.all()}
    for folder in sorted(folders):
        if not folder.resolve().is_relative_to(own):
            raise UsageError(f"{folder}: is a link that leads out of {output}; remove it or choose another -o")


def _within(source: Source, folder: Path) -> bool:
    files = [file.resolve() for file in source.files or (source.path,)]
    own = folder / UNPACKED
    return all(file.is_relative_to(folder) and not file.is_relative_to(own) for file in files)


def _clear(output: Path) -> None:
    """Remove half-written files and unpacked archives."""
    shutil.rmtree(output / UNPACKED, ignore_errors=True)
    with suppress(OSError):  # an output folder that became read-only is told of elsewhere
        remove_half_files(output)


# ---- this process -----------------------------------------------------------------------------


@contextmanager
def _private_modes() -> Iterator[None]:
    """Files made in the block are readable by their owner only (POSIX)."""
    before = os.umask(PRIVATE)
    os.umask(before | PRIVATE)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does (only the main thread may say what a signal does)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
