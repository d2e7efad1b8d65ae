"""`medseg import` and `medseg export-labels`: what they print, and that the printed commands follow on."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cvat(tmp_path: Path) -> Path:
    """A CVAT export of two pictures, one with a line that has no area."""
    (tmp_path / "in/images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.full((8, 10), 50, np.uint8)).save(tmp_path / f"in/images/{name}.png")
    shape = '<box label="cell" xtl="1" ytl="1" xbr="4" ybr="3" occluded="0" z_order="0"/>'
    line = '<polyline label="axon" points="1,1;2,2"/>'
    images = "".join(
        f'<image id="{n}" name="{name}.png" width="10" height="8">{shape}{line * n}</image>'
        for n, name in enumerate(("a", "b"))
    )
    (tmp_path / "in/annotations.xml").write_text(f"<annotations>{images}</annotations>", encoding="utf-8")
    return tmp_path / "in"


def test_import_prints_a_summary_and_commands_that_work(cli: Run, cvat: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli("import", str(cvat), "-o", str(out))
    assert result.returncode == 0, result.stderr
    assert "cell   cell    1      2       2       12" in result.stdout
    assert "shapes of the type 'polyline' cover no area: axon" in result.stdout
    assert "2 images with label maps (cvat)" in result.stdout
    command = next(line.strip() for line in result.stdout.splitlines() if "medseg init" in line)
    assert cli(*shlex.split(command)[1:]).returncode == 0
    assert "labels:\n  cell: 1\n" in (out / "task.yaml").read_text(encoding="utf-8")
    assert cli("inspect", str(out), "--task", str(out / "task.yaml"), "-o", str(tmp_path / "page")).returncode in (0, 1)


def test_import_and_export_as_json(cli: Run, cvat: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    imported = json.loads(cli("import", str(cvat), "-o", str(out), "--format", "cvat", "--json").stdout)
    assert imported["images"] == 2 and imported["classes"][0]["pixels"] == 12
    exported = cli("export-labels", str(out / "labels"), "--images", str(out / "images"), "-o", str(back), "--json")
    assert json.loads(exported.stdout)["shapes"] == {"cell": 2}
    again = cli("export-labels", str(out / "labels"), "--images", str(out / "images"), "-o", str(tmp_path / "c"))
    assert again.returncode == 0 and "2 pictures written for labelme" in again.stdout


def test_errors_are_one_sentence(cli: Run, cvat: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, code in (
        (["import", str(tmp_path / "gone"), "-o", str(tmp_path / "x")], 1),
        (["import", str(empty), "-o", str(tmp_path / "x")], 2),
        (["import", str(cvat), "-o", str(cvat)], 2),
        (["import", str(cvat), "-o", str(tmp_path / "x"), "--partial", "--format", "voc"], 1),
        (["export-labels", str(empty), "--images", str(empty), "-o", str(tmp_path / "x")], 1),
    ):
        result = cli(*arguments)
        assert (result.returncode, result.stdout) == (code, ""), result.stderr
        assert result.stderr.startswith("medseg: ")
