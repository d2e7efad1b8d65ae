"""`medseg batch status` and `report`, from a ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medseg.batch.ledger import Entry, File, Key, Ledger, State
from medseg.cli.app import app
from medseg.core.errors import UsageError
from medseg.workflows.batch import batch_report, batch_status


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A batch with a series in every state."""
    seconds = {"read": 1.0, "compute": 5.0, "write": 0.5}
    done = {"key": Key("i", "b", "o"), "seconds": seconds, "volumes_ml": {"lung <left>": 12.5}, "confidence": 0.9}
    picture = File("preview", "previews/a b#.png", "0")
    entries = [
        Entry("a", "a.nii", "nifti", State.DONE, files=(picture,), finished=10.0, **done),
        Entry("b", "b", "nifti", State.REVIEW, reason="odd <spacing>", expected=(0.7, 0.5, 0.8), finished=20.0, **done),
        Entry("c", "c.nii", "nifti", State.REVIEW, reason="odder", expected=(0.4, 0.2, 0.6), finished=46.0, **done),
        Entry("d", "d", "dicom", State.REFUSED, code="not-selected", reason="it is coronal"),
        Entry("e", "e", "dicom", State.REFUSED, code="not-selected", reason="it is coronal"),
        Entry("f", "f", "dicom", State.FAILED, code="crashed", reason="its worker was killed"),
        Entry("g", "g", "dicom", State.SELECTED),
        Entry("h", "h", "dicom", State.RUNNING),
        Entry("i", "i", "dicom"),
    ]  # fmt: skip
    ledger = Ledger.open(tmp_path)
    ledger.put(entries, {"model": "cafe" * 16})
    ledger.close()
    return tmp_path


def _command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)], prog_name="medseg")


def test_the_status_counts_states_and_reasons(output: Path) -> None:
    status = batch_status(output)
    assert status.counts == {
        "found": 1, "selected": 1, "running": 1, "done": 1, "review": 2, "refused": 2, "failed": 1,
    }  # fmt: skip
    assert status.reasons == (("refused", "not-selected", 2), ("failed", "crashed", 1))
    assert status.per_hour == pytest.approx(200.0) and status.seconds["compute"] == 15.0
    done = _command("status", output)
    assert done.exit_code == 0
    assert "not-selected" in done.stdout and "200 scans an hour" in done.stdout
    assert "failed: f: its worker was killed" in done.stdout
    plain = json.loads(_command("status", output, "--json").stdout)
    assert plain["counts"] == status.counts and len(plain["series"]) == 9
    assert plain["series"][1]["expected"] == {"dice": 0.7, "low": 0.5, "high": 0.8}


def test_the_report_shows_what_is_to_be_reviewed_first(output: Path) -> None:
    done = _command("report", output)
    assert done.exit_code == 0 and "batch.html" in done.stdout
    page = (output / "batch.html").read_text(encoding="utf-8")
    names = [part.split("<")[0] for part in page.split("<h3>")[1:]]
    assert names == ["c", "b", "f", "d", "e", "a", "h", "g", "i"]
    assert "odd &lt;spacing&gt;" in page and "lung &lt;left&gt;" in page
    assert 'src="previews/a%20b%23.png"' in page
    assert "expected Dice 0.40 (0.20–0.60)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (output / "batch.html").stat().st_mode & 0o777 == 0o600


def test_no_ledger_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no ledger"):
        batch_report(tmp_path)
    done = _command("status", tmp_path)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
