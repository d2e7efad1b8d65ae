"""Damaged DICOM and NIfTI files: none stops a run, none is read as something else without a word that can be known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
import torch

from medseg.bundle import Bundle
from medseg.core.machine import machine
from medseg.core.plan import ChannelStats, Fingerprint
from medseg.core.task import parse_task
from medseg.data.codes import CODES
from medseg.formats.quiet import quiet
from medseg.nets import build
from medseg.planning import plan
from tests.formats import corrupted_worker
from tests.formats.mutations import SHAPE, Damaged, damaged_copies, write_bases

pytestmark = pytest.mark.slow

FILES, SEED = 500, 1
SECONDS, GIGABYTES = 10, 2
# The worker may map this much; what it really uses is measured.
MAPPED_GIGABYTES = 8
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What the worker told of one damaged scan, beside what was done to it and what the sound scan gives."""

    damage: Damaged
    told: dict[str, Any]
    sound: dict[str, Any]

    @property
    def volumes(self) -> list[dict[str, Any]]:
        volumes: list[dict[str, Any]] = self.told["read"]
        return volumes

    @property
    def codes(self) -> list[str]:
        """All codes of all three ways."""
        ways = [*self.volumes, *self.told["inspected"], *self.told["predicted"]]
        return [
            code for way in ways for code in [*way.get("codes", ()), *([way["refused"]] if "refused" in way else [])]
        ]

    @property
    def silent(self) -> bool:
        """Whether as many volumes were read as there should be, with no finding that the sound scan lacks."""
        expected = self.sound["read"]
        return len(self.volumes) == len(expected) and all(
            "refused" not in volume and set(volume["codes"]) <= set(whole["codes"])
            for volume, whole in zip(self.volumes, expected, strict=True)
        )

    @property
    def explanation(self) -> str:
        """Why nothing was said: nothing of the volume changed, only its pixels did, or a header value that can be."""
        (volume,), (whole,) = self.volumes, self.sound["read"]
        if volume == whole:
            return "harmless"
        if volume["place"] == whole["place"]:
            return "pixels" if self.damage.region != "header" else "values"
        return "place"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    root = tmp_path_factory.mktemp("corrupted")
    real = ROOT.parent / "shared" / "data" / "dicom"
    bases = write_bases(root / "sound", real if real.is_dir() else None)
    damaged = list(damaged_copies(bases, root / "damaged", FILES, SEED))
    bundle = _bundle(root / "bundle")
    whole = dict(zip(bases, _told(root / "sound", [path.name for path in bases.values()], bundle), strict=True))
    told = _told(root / "damaged", [one.name for one in damaged], bundle)
    return [Outcome(one, found, whole[one.base]) for one, found in zip(damaged, told, strict=True)]


def _bundle(folder: Path) -> Path:
    """A tiny network with random weights, in two windows a scan."""
    task = parse_task({"name": "toy", "modality": "MR", "labels": {"near": {}, "far": {}}}, "test")
    stats = ChannelStats(0, 50, 150, 50, 20, 0, 200)
    prints = Fingerprint(3, (SHAPE,) * 3, ((1.0, 1.0, 1.0),) * 3, (stats,), {"near": 50.0, "far": 50.0}, {}, 0.1)
    small = {"features": "[4, 8]", "strides": "[[1,1,1],[2,2,2]]", "kernels": "[[3,3,3],[3,3,3]]"}
    changes = {**{f"network.{key}": value for key, value in small.items()}, "patch": "[48, 48, 8]"}
    planned = plan(prints, task, machine("cpu", 3), {**changes, "window.overlap": "0.0"})
    torch.manual_seed(0)
    Bundle(task, planned, prints, build(planned.network).state_dict(), {}).save(folder)
    return folder


def _told(scans: Path, names: list[str], bundle: Path) -> list[dict[str, Any]]:
    """What a worker process says about each folder; a process that ends early is a crash or a hang of the last one."""
    limits = [str(SECONDS), str(MAPPED_GIGABYTES)]
    command = [sys.executable, "-m", corrupted_worker.__name__, str(scans), str(bundle), str(scans) + "-out", *limits]
    process = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, cwd=ROOT, timeout=280)
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 0, f"{lines[-1:]} ended the process ({process.returncode}): {process.stderr[-3000:]}"
    assert process.stderr == ""
    return [line for line in lines if "name" in line]


def _parses(one: Damaged) -> bool:
    """Whether a reader gets past what marks the format: to elements of a data set, or to NIfTI's header."""
    data = one.file.read_bytes()
    if one.base.startswith("dicom"):
        try:
            with quiet():
                return len(pydicom.dcmread(one.file, stop_before_pixels=True)) > 0
        except Exception:
            return False
    try:
        head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, 540) if one.file.suffix == ".gz" else data[:540]
    except zlib.error:
        return False
    return len(head) >= 348 and (head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"))


def test_nearly_all_damage_lies_behind_the_preamble(outcomes: list[Outcome]) -> None:
    assert len(outcomes) == FILES
    assert sum(_parses(one.damage) for one in outcomes) >= 0.9 * FILES


def test_no_damage_crashes_hangs_or_eats_memory(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        assert one.told["crashes"] == [], one.damage
        assert one.told["seconds"] < SECONDS, one.damage
        assert one.told["peak"] < GIGABYTES * 2**30, one.damage
        for row in one.told["predicted"]:
            assert not re.match(r"\w*(Error|Exception|Warning)\b", row["reason"]), (one.damage, row)


def test_every_refusal_has_a_documented_code(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        assert set(one.codes) <= set(CODES), one.damage
        refused = [volume["refused"] for volume in one.volumes if "refused" in volume]
        inspected, predicted = one.told["inspected"], one.told["predicted"]
        assert len(predicted) == max(1, len(one.volumes)), one.damage
        assert sum(row["status"] in ("ok", "review") for row in predicted) <= len(one.volumes) - len(refused), (
            one.damage
        )
        if refused:  # as scans, or as cases with a drawing where a modality became one
            assert any(row["codes"] for row in inspected), one.damage
            assert set(refused) <= {code for row in predicted for code in row["codes"]}, one.damage
        if len(refused) == len(one.volumes):
            assert not any(row["usable"] and not row["codes"] for row in inspected), one.damage


def test_what_is_read_without_a_word_is_explained(outcomes: list[Outcome]) -> None:
    """Pixels have no checksum, and a header value that is another possible one cannot be known to be wrong."""
    silent = [one for one in outcomes if one.silent]
    why = Counter(one.explanation for one in silent)
    changed = [one.damage for one in silent if one.explanation in ("values", "place")]
    print(f"{len(silent)} of {FILES} read without a word: {dict(why)}", *changed, sep="\n")
    assert len(changed) <= 0.06 * FILES, changed
    assert len(silent) <= 0.5 * FILES, why
