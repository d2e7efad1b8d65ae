"""What was measured in every scan of a batch: measurements.json and .csv (a row per label), cells.csv (per object)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medseg.core.files import write_json, write_text
from medseg.core.measurement import NO_UNIT, Measurement

MEASUREMENTS_JSON, MEASUREMENTS_CSV, CELLS = "measurements.json", "measurements.csv", "cells.csv"

# Gives a table without a row its columns.
_NOTHING = Measurement("", 0, "", 0, None, None, None, (), NO_UNIT)

Rows = Mapping[str, Mapping[str, Any]]


def measurement_rows(scan: str, measurements: Rows) -> list[dict[str, Any]]:
    """The rows of one scan as plain data: `scan`, then what `Written.measurements` says of each label."""
    return [{"scan": scan, **row} for row in measurements.values()]


def write_measurements(output: Path, scans: Iterable[tuple[str, Rows]], provenance: Mapping[str, str]) -> None:
    """Write both files atomically into `output`.

    scans: (name, `Written.measurements`) of every segmented scan, in the order of the rows; provenance:
    what made them (model, task, …), which the JSON file states and the CSV file repeats in a column
    `model`. Lengths are in mm, volumes in ml, values in the row's unit; what cannot be said is empty.
    """
    rows = [row for scan, measurements in scans for row in measurement_rows(scan, measurements)]
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["scan", *_NOTHING.plain()]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, "model"], restval="", lineterminator="\n")
    writer.writeheader()
    model = provenance.get("model", "")
    writer.writerows({**row, "model": model} for row in rows)
    write_json(output / MEASUREMENTS_JSON, {**provenance, "measurements": rows})
    write_text(output / MEASUREMENTS_CSV, text.getvalue())


def write_cells(output: Path, tables: Iterable[Path]) -> None:
    """Write cells.csv atomically into `output`: the rows of all tables of objects, one after the other.

    Scans of other numbers of channels or pages have other columns; what a table lacks is empty. A table that
    went away meanwhile is left out.
    """
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    for table in tables:
        with suppress(OSError), table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns |= dict.fromkeys(reader.fieldnames or ())
            rows += reader
    if columns:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(output / CELLS, text.getvalue())
