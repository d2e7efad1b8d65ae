"""The golden table: what every scan of the real data gives, read (grid and findings) or refused (code).

`pytest tests/formats/test_series_table.py --regenerate-series` writes the table anew; what changes in it has
to be checked against the README beside the data before it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.core.case import Scan, Source
from medseg.core.errors import FormatError
from medseg.formats import discover, read

pytestmark = pytest.mark.real_data

TABLE = Path(__file__).parents[1] / "golden" / "series.json"
SETS = ("dicom", "lung_ct", "sarcoma_pet_ct_mr")


@pytest.mark.parametrize("name", SETS)
def test_every_series_is_read_or_refused_as_the_table_says(
    shared_data: Path, name: str, request: pytest.FixtureRequest
) -> None:
    found = {key: entry for source in discover(shared_data / name) for key, entry in [_entry(source, shared_data)]}
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    if request.config.getoption("--regenerate-series"):
        table[name] = found
        TABLE.write_text(_lines(table), encoding="utf-8")
    assert {key: found.get(key) for key in {*found, *table[name]} if found.get(key) != table[name].get(key)} == {}


def _entry(source: Source, data: Path) -> tuple[str, dict[str, Any]]:
    """A name that does not depend on where the data lie, and what became of the scan."""
    key = source.path.relative_to(data).as_posix()
    if source.format == "dicom":
        key += "#" + source.name.rsplit("/", 1)[-1]
    try:
        scan = read(source)
    except FormatError as error:
        return key, {"refused": error.code, "findings": sorted({finding.code for finding in source.findings})}
    return key, _facts(source, scan)


def _facts(source: Source, scan: Scan) -> dict[str, Any]:
    geometry, array = scan.volume.geometry, scan.volume.array
    return {
        "read": scan.modality or source.format,
        "files": len(source.files),
        "shape": [scan.volume.channels, *geometry.shape],
        "spacing": [round(size, 3) for size in geometry.spacing],
        "axes": geometry.orientation,
        "first": [round(x, 2) + 0.0 for x in geometry.origin],
        "values": [float(f"{value:.5g}") for value in (array.min(), array.max(), array.mean(dtype="float64"))],
        "findings": sorted({finding.code for finding in scan.findings}),
    }


def _lines(table: dict[str, dict[str, Any]]) -> str:
    """JSON with a line a scan, so that a difference is a line, too."""
    blocks = []
    for name in SETS:
        rows = [f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in sorted(table.get(name, {}).items())]
        blocks.append(f"{json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"
