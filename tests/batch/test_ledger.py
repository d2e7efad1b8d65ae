"""The ledger: one writer, what was put comes back, and a damaged one is set aside, never a crash."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.batch.inputs import hash_inputs, unchanged
from medseg.batch.ledger import (
    BACKUP,
    LEDGER,
    Entry,
    Fact,
    File,
    Key,
    Ledger,
    LedgerError,
    State,
    held,
    path_hash,
    read_ledger,
)
from medseg.batch.run import BatchOptions, predict_folder
from medseg.core.case import Prediction, Scan, Source
from medseg.core.errors import UsageError
from medseg.core.events import Event, Message, silent
from medseg.inference import Predictor

FULL = Entry(
    "ward/a", "ward/a.nii.gz", "nifti", State.REVIEW, Key("i", "b", "o"), "c", "odd", ("derived",), 2,
    {"read": 0.5}, {"near": 1.5}, 0.9, (0.8, 0.7, 0.9), "ward/a.nii.gz", (File("nifti", "ward/a.nii.gz", "00"),),
    {"near": {"volume_ml": 1.5}}, 12.5,
)  # fmt: skip


def _filled(folder: Path, count: int = 40) -> dict[str, Entry]:
    entries = {f"s{n:03}": replace(FULL, scan=f"s{n:03}", reason="x" * 300) for n in range(count)}
    ledger = Ledger.open(folder)
    ledger.put(entries.values())
    ledger.order(entries)
    ledger.close()
    return entries


def test_what_was_put_comes_back_in_order(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    other = Entry("b", "b.png", "image")
    ledger.put([FULL, other], {"model": "abc"})
    ledger.order(["b", "ward/a"])
    fact = Fact(path_hash(tmp_path / "a"), 3, 10**18, 2**64 - 1, "ff")
    ledger.note([fact])
    assert read_ledger(tmp_path)[1]["model"] == "abc"  # while it is being written
    ledger.close()
    ledger = Ledger.open(tmp_path)
    assert list(ledger.entries().items()) == [("b", other), ("ward/a", FULL)]
    assert ledger.facts_of([fact.file, "unknown"]) == [fact]
    ledger.order(["b"])
    assert list(ledger.entries()) == ["b"]
    ledger.close()
    read_ledger(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [BACKUP, LEDGER]


def test_only_one_batch_writes(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with held(tmp_path):
        with pytest.raises(UsageError, match="another `medseg predict` is writing"), held(tmp_path):
            raise AssertionError("it is held twice")
        with held(tmp_path / "other"):
            assert (tmp_path / "other").is_dir()
    with held(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("keep", [0, 1, 50, 100, 2000, 4096, 9000, 20000, "half", "most"])
def test_a_truncated_ledger_is_set_aside_and_its_backup_takes_its_place(tmp_path: Path, keep: int | str) -> None:
    entries = _filled(tmp_path)
    path = tmp_path / LEDGER
    size = path.stat().st_size
    length = {"half": size // 2, "most": size - 1}.get(str(keep), keep)
    with path.open("r+b") as file:
        file.truncate(int(length))
    ledger = Ledger.open(tmp_path)
    found = ledger.entries()
    ledger.close()
    assert found == entries
    if keep != "most":  # the last byte of the last page is never used
        assert "was set aside as ledger.damaged-1.sqlite" in ledger.warning and "backup" in ledger.warning
        assert (tmp_path / "ledger.damaged-1.sqlite").stat().st_size == length


def test_a_ledger_that_is_gone_comes_back_from_its_backup(tmp_path: Path) -> None:
    entries = _filled(tmp_path)
    (tmp_path / LEDGER).unlink()
    ledger = Ledger.open(tmp_path)
    assert ledger.entries() == entries and "is not there; what its backup" in ledger.warning
    ledger.close()


def test_bytes_turned_anywhere_never_crash(tmp_path: Path) -> None:
    entries = _filled(tmp_path, 20)
    whole = (tmp_path / LEDGER).read_bytes()
    rng = random.Random(1)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 20, 400))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / LEDGER).write_bytes(content)
        ledger = Ledger.open(tmp_path)
        assert set(ledger.entries()) <= set(entries) or not ledger.warning
        ledger._connection.close()


def test_without_a_backup_everything_is_done_again(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_bytes(b"no database" * 1000)
    ledger = Ledger.open(tmp_path)
    assert "no backup" in ledger.warning and ledger.entries() == {}
    ledger.close()
    with sqlite3.connect(tmp_path / LEDGER) as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'version'")
    connection.close()
    (tmp_path / BACKUP).unlink()
    ledger = Ledger.open(tmp_path)
    assert "its version is 99" in ledger.warning and (tmp_path / "ledger.damaged-2.sqlite").exists()
    ledger.close()


def test_reading_what_is_no_ledger_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no ledger\.sqlite"):
        read_ledger(tmp_path)
    (tmp_path / LEDGER).write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match="cannot be read"):
        read_ledger(tmp_path)


def test_the_hash_of_inputs_is_that_of_their_content(tmp_path: Path) -> None:
    one, two = tmp_path / "1.dcm", tmp_path / "2.dcm"
    one.write_bytes(b"abc")
    two.write_bytes(b"def")
    source = Source(tmp_path, (one, two), "dicom", "s")
    first = hash_inputs(source, {})
    known = {fact.file: fact for fact in first.facts}
    assert unchanged(source, known) and not unchanged(source, {})
    assert hash_inputs(source, {key: replace(fact, sha256="x") for key, fact in known.items()}).hash != first.hash
    one.touch()  # read again, found the same
    assert not unchanged(source, known) and hash_inputs(source, known).hash == first.hash
    two.write_bytes(b"dex")
    assert hash_inputs(source, known).hash != first.hash
    assert hash_inputs(replace(source, frames=((0, 1),)), {}).hash != hash_inputs(source, {}).hash
    one.unlink()
    assert not unchanged(source, known)


def test_pixels_beside_their_header_count(tmp_path: Path) -> None:
    header, pixels = tmp_path / "a.mhd", tmp_path / "a.raw"
    header.write_text("ElementDataFile = a.raw")
    pixels.write_bytes(b"abc")
    (tmp_path / "ab.raw").touch()
    source = Source(header, (header,), "itk", "a")
    first = hash_inputs(source, {})
    assert len(first.facts) == 2
    pixels.write_bytes(b"abd")
    assert hash_inputs(source, {}).hash != first.hash


# ---- runs ----------------------------------------------------------------------------------------

NIFTI = BatchOptions(frozenset({"nifti"}))


class Counting:
    """The real predictor, which counts."""

    def __init__(self, real: Predictor) -> None:
        self.bundle = real.bundle
        self.seen: list[str] = []
        self.before: Callable[[Scan], None] = lambda scan: None  # what happens before a scan is segmented
        self._real = real

    def predict(self, scan: Scan) -> Prediction:
        self.seen.append(scan.source.name)
        self.before(scan)
        return self._real.predict(scan)


@pytest.fixture
def counting(predictor: Predictor) -> Counting:
    return Counting(predictor)


@pytest.fixture
def scans(write_scan: Callable[..., Path], tmp_path: Path) -> Path:
    for number, name in enumerate("abc"):
        write_scan(tmp_path / "in" / f"{name}.nii.gz", number)
    (tmp_path / "in" / "d.nii.gz").write_text("no scan")
    return tmp_path / "in"


def _again(scans: Path, counting: Counting, options: BatchOptions = NIFTI) -> list[str]:
    counting.seen.clear()
    predict_folder(scans, counting, scans.parent / "out", options, silent)
    return counting.seen


def test_a_rerun_does_only_what_is_missing_or_changed(
    scans: Path, counting: Counting, write_scan: Callable[..., Path]
) -> None:
    out = scans.parent / "out"
    assert _again(scans, counting) == ["a", "b", "c"]
    results = (out / "results.csv").read_bytes()
    assert _again(scans, counting) == []
    assert (out / "results.csv").read_bytes() == results
    (scans / "a.nii.gz").touch()  # another time, the same content
    assert _again(scans, counting) == []
    write_scan(scans / "b.nii.gz", 9)
    (out / "c.nii.gz").write_bytes(b"damaged")
    assert _again(scans, counting) == ["b", "c"]
    (out / "a.nii.gz").unlink()
    assert _again(scans, counting) == ["a"]
    assert _again(scans, counting, replace(NIFTI, answers={"flips": "True"})) == ["a", "b", "c"]
    assert _again(scans, counting) == ["a", "b", "c"]  # the other answers are gone


def test_failed_scans_are_tried_again_on_demand_only(scans: Path, counting: Counting) -> None:
    broken = True

    def before(scan: Scan) -> None:
        if broken and scan.source.name == "b":
            raise RuntimeError("bad luck")

    counting.before = before
    assert _again(scans, counting) == ["a", "b", "c"]
    assert _again(scans, counting) == []
    broken = False
    assert _again(scans, counting, replace(NIFTI, retry=frozenset({State.FAILED}))) == ["b"]
    entries = {entry.scan: entry for entry in read_ledger(scans.parent / "out")[0]}
    assert entries["b"].state in (State.DONE, State.REVIEW) and entries["b"].attempts == 2
    assert entries["d"].state is State.FAILED and entries["d"].key.inputs


def test_a_truncated_ledger_loses_nothing_that_its_backup_holds(scans: Path, counting: Counting) -> None:
    _again(scans, counting)
    path = scans.parent / "out" / LEDGER
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    said: list[Event] = []
    counting.seen.clear()
    predict_folder(scans, counting, scans.parent / "out", NIFTI, said.append)
    assert counting.seen == []
    (warning,) = [event for event in said if isinstance(event, Message) and event.level == "warning"]
    assert "was set aside" in warning.text


def test_outputs_are_private(scans: Path, counting: Counting) -> None:
    _again(scans, counting)
    out = scans.parent / "out"
    modes = {path.stat().st_mode & 0o777 for path in (out, *out.rglob("*")) if path.is_file()}
    assert modes == {0o600} and out.stat().st_mode & 0o777 == 0o700


def test_a_link_in_out_leads_nowhere_else(scans: Path, counting: Counting, write_scan: Callable[..., Path]) -> None:
    write_scan(scans / "sub" / "e.nii.gz", 5)
    (scans.parent / "elsewhere").mkdir()
    (scans.parent / "out").mkdir()
    (scans.parent / "out" / "sub").symlink_to(scans.parent / "elsewhere")
    with pytest.raises(UsageError, match="is a link that leads out of"):
        _again(scans, counting)
    assert list((scans.parent / "elsewhere").iterdir()) == []


def test_a_scan_that_changes_while_it_is_computed_is_computed_again(
    scans: Path, counting: Counting, write_scan: Callable[..., Path]
) -> None:

    def before(scan: Scan) -> None:
        if counting.seen.count("b") == 1 and scan.source.name == "b":
            write_scan(scans / "b.nii.gz", 77)

    counting.before = before
    assert _again(scans, counting) == ["a", "b", "c", "b"]
    changed = (scans.parent / "out" / "b.nii.gz").read_bytes()
    assert _again(scans, counting) == []
    predict_folder(scans, counting, scans.parent / "fresh", NIFTI, silent)
    assert (scans.parent / "fresh" / "b.nii.gz").read_bytes() == changed


def test_a_scan_that_never_rests_fails(scans: Path, counting: Counting, write_scan: Callable[..., Path]) -> None:

    def before(scan: Scan) -> None:
        if scan.source.name == "b":
            write_scan(scans / "b.nii.gz", 100 + len(counting.seen))

    counting.before = before
    assert _again(scans, counting) == ["a", "b", "c", "b", "b"]
    entry = {entry.scan: entry for entry in read_ledger(scans.parent / "out")[0]}["b"]
    assert (entry.state, entry.code) == (State.FAILED, "changed")
    assert not (scans.parent / "out" / "b.nii.gz").exists()
