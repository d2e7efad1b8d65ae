"""Where outputs go: never on a scan, never on each other, never out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.batch.outputs import remove_half_files, targets_of
from medseg.core.case import Source
from medseg.core.errors import UsageError


def _source(root: Path, name: str, suffix: str = ".png") -> Source:
    path = root / f"{name}{suffix}"
    return Source(path, (path,), "image", name)


def test_no_two_scans_share_a_file(tmp_path: Path) -> None:
    names = ["a", "previews/a", "previews/a-preview", "b.seg"]
    targets = targets_of([_source(tmp_path / "in", name) for name in names], tmp_path / "out")
    files = [path for target in targets.values() for path in target.all()]
    assert len(files) == len(set(files))
    assert targets["a"].preview == tmp_path / "out/previews/a-preview-preview.png"
    assert targets["b.seg"].preview == tmp_path / "out/previews/b.seg.png"


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", ""])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="lead out"):
        targets_of([_source(tmp_path, name)], tmp_path / "out")


def test_a_scan_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would overwrite the scan"):
        targets_of([_source(tmp_path, "a")], tmp_path)


def test_half_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    half, whole = tmp_path / "sub/.medseg-x.nii.gz", tmp_path / "sub/a.nii.gz"
    half.touch()
    whole.touch()
    remove_half_files(tmp_path)
    assert whole.exists() and not half.exists()
