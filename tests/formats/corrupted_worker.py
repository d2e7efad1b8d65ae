"""Run by test_corrupted in a process of its own: looks at damaged scans and tells, a JSON line a scan."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medseg import formats
from medseg.core.errors import FormatError, MedsegError
from medseg.workflows.cell import peak
from medseg.workflows.inspect import inspect
from medseg.workflows.predict import PredictOptions, predict


def main(folder: Path, bundle: Path, out: Path, seconds: int, gigabytes: int) -> None:
    """For each scan folder named on standard input: {"start": name}, then what came of it."""
    limit = gigabytes * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        name = line.strip()
        print(json.dumps({"start": name}), flush=True)
        faulthandler.dump_traceback_later(seconds, exit=True)
        started = time.monotonic()
        found = _look(folder / name, bundle, out / name)
        faulthandler.cancel_dump_traceback_later()
        spent = time.monotonic() - started
        print(json.dumps({"name": name, "seconds": spent, "peak": peak("cpu"), **found}), flush=True)


def _look(scans: Path, bundle: Path, out: Path) -> dict[str, Any]:
    """What reading, inspecting and predicting gave; `crashes` are exceptions that a user would see as a traceback."""
    ways: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "read": lambda: _read(scans),
        "inspected": lambda: _inspected(scans),
        "predicted": lambda: _predicted(scans, bundle, out),
    }
    found: dict[str, Any] = {"crashes": []}
    for way, look in ways.items():
        try:
            found[way] = look()
        except Exception:
            found[way] = []
            found["crashes"].append(f"{way}: {traceback.format_exc()}")
    return found


def _read(scans: Path) -> list[dict[str, Any]]:
    """Each volume: the code of its refusal, or a mark of its voxels and of its place, and its findings' codes."""
    volumes: list[dict[str, Any]] = []
    for source in formats.discover(scans):
        try:
            scan = formats.read(source)
        except FormatError as error:
            volumes.append({"refused": error.code, "reason": error.reason})
            continue
        geometry = scan.volume.geometry
        place = f"{geometry.shape} {geometry.affine.round(4).tolist()}"
        voxels = hashlib.sha256(scan.volume.array.tobytes()).hexdigest()
        codes = sorted({finding.code for finding in scan.findings})
        volumes.append({"voxels": voxels, "place": place, "codes": codes})
    return volumes


def _inspected(scans: Path) -> list[dict[str, Any]]:
    try:
        cases = inspect(scans).to_json()["cases"]
    except MedsegError as error:
        return [{"usable": False, "codes": [], "error": f"{type(error).__name__}: {error}"}]
    return [
        {"usable": case["usable"], "codes": sorted({finding["code"] for finding in case["findings"]})} for case in cases
    ]


def _predicted(scans: Path, bundle: Path, out: Path) -> list[dict[str, Any]]:
    try:
        rows = predict(scans, bundle, out, PredictOptions(device="cpu", previews=False)).rows
    except MedsegError as error:
        return [{"status": "none", "codes": [], "reason": f"{type(error).__name__}: {error}"}]
    return [{"status": row.status.value, "codes": sorted(row.findings), "reason": row.reason} for row in rows]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *map(int, sys.argv[4:6]))
