"""A scan that kills its worker, or never ends, costs itself and no other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from medseg.batch.ledger import State, read_ledger
from medseg.batch.run import BatchOptions, Model, predict_folder
from medseg.bundle import Bundle
from medseg.core.case import Prediction, Scan
from medseg.core.events import silent
from medseg.executors.contract import Limits
from medseg.inference import Predictor

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Loader:
    """Loads a predictor that dies on one scan and hangs on another, in a worker process."""

    bundle: Path

    def __call__(self) -> Deadly:
        return Deadly(Predictor(Bundle.load(self.bundle), "cpu"))


class Deadly:
    def __init__(self, real: Predictor) -> None:
        self.bundle = real.bundle
        self._real = real

    def predict(self, scan: Scan) -> Prediction:
        if scan.source.name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if scan.source.name == "hangs":
            time.sleep(100)
        return self._real.predict(scan)


def test_deadly_scans_fail_and_the_others_are_done(
    write_scan: Callable[..., Path], bundle_folder: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(("a", "dies", "hangs", "x", "y")):
        write_scan(tmp_path / "in" / f"{name}.nii.gz", number)
    options = BatchOptions(frozenset({"nifti"}), executor="processes", limits=Limits(timeout=2.0))
    model = Model(Bundle.load(bundle_folder), Loader(bundle_folder))
    result = predict_folder(tmp_path / "in", model, tmp_path / "out", options, silent)
    assert [row.segmented for row in result.rows] == [True, False, False, True, True]
    entries = {entry.scan: entry for entry in read_ledger(tmp_path / "out")[0]}
    assert (entries["dies"].state, entries["dies"].code) == (State.FAILED, "crashed")
    assert entries["dies"].reason.startswith("its worker was killed (SIGKILL)") and entries["dies"].attempts >= 2
    assert entries["hangs"].reason.startswith("took longer than 2 s") and entries["hangs"].attempts >= 2
    again = predict_folder(tmp_path / "in", model, tmp_path / "out", options, silent)
    assert again.rows == result.rows
