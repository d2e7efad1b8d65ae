"""ledger.sqlite: what is known of every series of a batch, in one file that survives a kill at any moment.

One process writes it, the driver; anyone may read it meanwhile. Every change is one transaction.
It names no patient: series by their masked names, input files by hashes of their paths.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from medseg.core.errors import MedsegError, UsageError
from medseg.core.files import atomic

LEDGER = "ledger.sqlite"
BACKUP = "ledger.backup.sqlite"
_LOCK = ".ledger.lock"
_VERSION = 1
_HEADER = 100  # bytes of SQLite's file header


class LedgerError(MedsegError):
    """The ledger cannot be read or written."""


class State(StrEnum):
    """How far a series has come.

    found: its headers were read; selected: it is to be segmented; running: a worker has it; the others
    are ends, as results.csv has them (done is its `ok`).
    """

    FOUND = "found"
    SELECTED = "selected"
    RUNNING = "running"
    DONE = "done"
    REVIEW = "review"
    REFUSED = "refused"
    FAILED = "failed"


ENDS = frozenset({State.DONE, State.REVIEW, State.REFUSED, State.FAILED})
SEGMENTED = frozenset({State.DONE, State.REVIEW})


@dataclass(frozen=True, slots=True)
class Key:
    """What an answer depends on: hashes of the series' files, of the bundle and of the options."""

    inputs: str = ""
    bundle: str = ""
    options: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """An output. kind: as --outputs names it; path: relative to the output folder; sha256: of its bytes."""

    kind: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Fact:
    """An input file as it was when it was hashed. file: hash of its path; inode is 0 where there is none."""

    file: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One series.

    scan, path, format, reason, findings, volumes_ml, confidence, output: as in results.csv; code: the
    finding that decided, where one did; attempts: how often its computation was begun; seconds: per
    stage; expected: Dice and the ends of its interval; measurements: per label; finished: UNIX time.
    """

    scan: str
    path: str
    format: str
    state: State = State.FOUND
    key: Key = field(default_factory=Key)
    code: str = ""
    reason: str = ""
    findings: tuple[str, ...] = ()
    attempts: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    expected: tuple[float, float, float] | None = None
    output: str | None = None
    files: tuple[File, ...] = ()
    measurements: Mapping[str, Any] = field(default_factory=dict)
    finished: float | None = None


_JSON = ("findings", "seconds", "volumes_ml", "expected", "files", "measurements")
_PLAIN = ("scan", "path", "format", "state", "code", "reason", "attempts", "confidence", "output", "finished")
_KEY = ("inputs", "bundle", "options")
_COLUMNS = (*_PLAIN, *_KEY, *_JSON)
_TABLES = f"""
CREATE TABLE IF NOT EXISTS series (
  {", ".join("scan TEXT PRIMARY KEY" if name == "scan" else name for name in _COLUMNS)}, place INTEGER
);
CREATE TABLE IF NOT EXISTS facts (file TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode TEXT, sha256 TEXT);
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
"""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The output folder for this process alone; made where there is none, and gone again if nothing comes to lie in it.

    Raises UsageError where another batch holds it, LedgerError where it cannot be made or written to.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"{folder}: cannot be made ({error.strerror}); choose another -o") from error
    lock = _locked(folder)
    try:
        yield
    finally:
        lock.close()
        with suppress(OSError):  # an output folder that became read-only is told of elsewhere
            (folder / _LOCK).unlink(missing_ok=True)
            if made:
                folder.rmdir()  # unless there is something in it


class Ledger:
    """The ledger of an output folder that is `held`, open for writing. `warning`: what had to be done to open it."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, warning: str = "") -> None:
        self.folder = folder
        self.warning = warning
        self._connection = connection

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Open (or make) the ledger in `folder`. A damaged one is set aside and replaced by its backup.

        Raises LedgerError where it cannot be written.
        """
        try:
            _refuse_cut_off(folder)
            return cls(folder, _connected(folder / LEDGER))
        except sqlite3.DatabaseError as error:
            if _is_io(error):
                raise LedgerError(_cannot_write(folder, error)) from error
            warning = _set_aside(folder, error)
            return cls(folder, _connected(folder / LEDGER), warning)

    def close(self) -> None:
        """Close it, with a backup beside it."""
        with suppress(LedgerError):  # the ledger itself is whole
            self.back_up()
        self._connection.close()

    def entries(self) -> dict[str, Entry]:
        """Every series by its name, in the order of the last discovery."""
        with self._told():
            return {entry.scan: entry for entry in _entries(self._connection)}

    def put(self, entries: Iterable[Entry], about: Mapping[str, str] | None = None) -> None:
        """Write entries (new or changed) and facts about the whole in one transaction."""
        names = ", ".join(_COLUMNS)
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
        marks = ", ".join("?" for _ in _COLUMNS)
        with self._told(), self._connection:
            self._connection.executemany(
                f"INSERT INTO series ({names}) VALUES ({marks}) ON CONFLICT (scan) DO UPDATE SET {updates}",
                (_row(entry) for entry in entries),
            )
            self._connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", (about or {}).items())

    def order(self, scans: Iterable[str]) -> None:
        """Note the order of the series that there are now; others are forgotten."""
        with self._told(), self._connection:
            self._connection.execute("UPDATE series SET place = NULL")
            self._connection.executemany(
                "UPDATE series SET place = ? WHERE scan = ?", ((place, scan) for place, scan in enumerate(scans))
            )
            self._connection.execute("DELETE FROM series WHERE place IS NULL")

    def facts_of(self, files: Iterable[str]) -> list[Fact]:
        """What is known of some input files, given by the hashes of their paths."""
        found = []
        with self._told():
            for file in files:
                row = self._connection.execute("SELECT * FROM facts WHERE file = ?", (file,)).fetchone()
                if row is not None:
                    found.append(Fact(row[0], row[1], row[2], int(row[3]), row[4]))
        return found

    def note(self, facts: Iterable[Fact]) -> None:
        """Remember hashed input files."""
        # inodes are unsigned 64-bit numbers, which SQLite has not.
        rows = [(fact.file, fact.size, fact.mtime_ns, str(fact.inode), fact.sha256) for fact in facts]
        with self._told(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", rows)

    def back_up(self) -> None:
        """Copy the ledger, as it is now, to ledger.backup.sqlite."""
        with self._told(), atomic(self.folder / BACKUP) as temporary, closing(sqlite3.connect(temporary)) as copy:
            self._connection.backup(copy)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(_cannot_write(self.folder, error)) from error


def read_ledger(folder: Path) -> tuple[list[Entry], dict[str, str]]:
    """The entries of a batch in order, and what it says about the whole; also while the batch runs.

    Raises UsageError where there is no ledger, LedgerError where it cannot be read.
    """
    path = folder / LEDGER
    if not path.is_file():
        raise UsageError(f"{folder}: holds no {LEDGER}; give the output folder of `medseg predict`")
    try:
        # Without a log of changes nobody writes it, and reading need not make files of its own beside it.
        how = "mode=ro" if path.with_name(LEDGER + "-wal").exists() else "immutable=1"
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, timeout=30)) as connection:
            about = dict(connection.execute("SELECT name, value FROM about").fetchall())
            return list(_entries(connection)), about
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: cannot be read ({error}); `medseg predict` into this folder rebuilds it") from error


# ---- opening ----------------------------------------------------------------------------------


def _locked(folder: Path) -> sqlite3.Connection:
    """A lock that the system releases whatever ends this process: a transaction on a database of its own."""
    lock = None
    try:
        lock = sqlite3.connect(folder / _LOCK, timeout=0, isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        if lock is not None:
            lock.close()
        if "locked" in str(error):
            raise UsageError(f"{folder}: another `medseg predict` is writing into it; wait for it or stop it") from None
        raise LedgerError(_cannot_write(folder, error)) from error
    return lock


def _refuse_cut_off(folder: Path) -> None:
    """Raises sqlite3.DatabaseError where the ledger is too short or gone beside its backup: SQLite would begin anew."""
    path = folder / LEDGER
    if (folder / BACKUP).is_file() and (not path.exists() or path.stat().st_size < _HEADER):
        raise sqlite3.DatabaseError("it is cut off" if path.exists() else "it is not there")


def _connected(path: Path) -> sqlite3.Connection:
    """The ledger's tables, checked. Raises sqlite3.DatabaseError where the file is damaged or of another version."""
    # Signals end the driver in its main thread, where everything else happens, too.
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(" ".join(str(verdict).split()))
        with connection:
            connection.executescript(_TABLES)
            connection.execute("INSERT OR IGNORE INTO about VALUES ('version', ?)", (str(_VERSION),))
        (version,) = connection.execute("SELECT value FROM about WHERE name = 'version'").fetchone()
        if version != str(_VERSION):
            raise sqlite3.DatabaseError(f"its version is {version}, this medseg writes {_VERSION}")
        for _ in _entries(connection):
            pass  # damaged rows show here, not in the middle of the night
    except (ValueError, TypeError, KeyError) as error:
        connection.close()
        raise sqlite3.DatabaseError(f"a row in it is damaged: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _set_aside(folder: Path, error: Exception) -> str:
    """Rename a damaged ledger and put its backup in its place, where there is a whole one; says so."""
    number = 1
    while (aside := folder / f"ledger.damaged-{number}.sqlite").exists():
        number += 1
    fate = "is not there"
    if (folder / LEDGER).exists():
        (folder / LEDGER).rename(aside)
        fate = f"could not be read ({' '.join(str(error).split())}) and was set aside as {aside.name}"
    for suffix in ("-wal", "-shm"):  # they belong to the damaged file and must not meet the new one
        (folder / (LEDGER + suffix)).unlink(missing_ok=True)
    instead = "there is no backup of it, so every series is done again"
    if (folder / BACKUP).is_file():
        try:
            with atomic(folder / LEDGER) as temporary:
                temporary.write_bytes((folder / BACKUP).read_bytes())
            _connected(folder / LEDGER).close()
            instead = "what its backup holds and can be verified is kept, the rest is done again"
        except sqlite3.DatabaseError:
            (folder / LEDGER).unlink(missing_ok=True)
    return f"{folder / LEDGER}: {fate}; {instead}"


def _is_io(error: sqlite3.Error) -> bool:
    """Whether the place is to blame (full, read-only, not there), and not what the file holds."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_BUSY"))


def _cannot_write(folder: Path, error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL") or getattr(error, "errno", None) == 28:
        remedy = "free some space and run the same command again, it goes on where it stopped"
        return f"{folder}: the disk is full; {remedy}"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"{folder}: cannot be written to; change its permissions or choose another -o"
    return f"{folder / LEDGER}: cannot be written ({' '.join(str(error).split())}); run the same command again"


# ---- rows -------------------------------------------------------------------------------------


def _row(entry: Entry) -> list[Any]:
    plain = [getattr(entry, name) for name in _PLAIN]
    key = [getattr(entry.key, name) for name in _KEY]
    files = [[file.kind, file.path, file.sha256] for file in entry.files]
    values: dict[str, Any] = {name: getattr(entry, name) for name in _JSON}
    values |= {"files": files, "findings": list(entry.findings)}
    return [*plain, *key, *(json.dumps(_jsonable(values[name]), allow_nan=False) for name in _JSON)]


def _jsonable(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    for row in connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM series ORDER BY place IS NULL, place, rowid"):
        told = dict(zip(_COLUMNS, row, strict=True))
        told |= {name: json.loads(told[name]) for name in _JSON}
        key = Key(*(told.pop(name) for name in _KEY))
        told["state"] = State(told["state"])
        told["findings"] = tuple(told["findings"])
        told["files"] = tuple(File(*file) for file in told["files"])
        told["expected"] = None if told["expected"] is None else tuple(told["expected"])
        yield Entry(key=key, **told)


def path_hash(path: Path) -> str:
    """What stands for an input file's path, which may name a patient."""
    return hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
