"""Zip archives: scans in them are found, nothing is ever written beside the folder that is theirs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from medseg.core.case import Severity
from medseg.core.errors import FormatError
from medseg.formats import discover, read
from medseg.formats.archives import unpack

from .conftest import Series


def packed(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_series_in_an_archive_is_read_like_one_in_a_folder(series: Series, tmp_path: Path) -> None:
    files = {f"inner/{path.name}": path.read_bytes() for path in series.files()}
    archive = packed(tmp_path / "night" / "a" / "study.ZIP", files)
    (in_folder,) = discover(series.folder)
    for root, name in ((tmp_path / "night", "a/study/inner"), (archive, "study/inner")):
        (source,) = discover(root, tmp_path / "unpacked")
        assert source.name == f"{name}/{in_folder.name}"
        np.testing.assert_array_equal(read(source).volume.array, series.volume.array)
        assert all(file.is_relative_to(tmp_path / "unpacked") for file in source.files)


def test_without_a_place_to_unpack_it_an_archive_is_refused(tmp_path: Path) -> None:
    packed(tmp_path / "in" / "x.zip", {"a.dcm": b"1"})
    (source,) = discover(tmp_path / "in")
    assert source.findings[0].severity is Severity.ERROR
    with pytest.raises(FormatError, match="unpack it first"):
        read(source)


@pytest.mark.parametrize("name", ["../evil.nii", "/evil.nii", "a/../../evil.nii", "C:\\evil.nii", "..\\evil.nii"])
def test_entries_never_leave_their_folder(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "in" / "bad.zip", {name: b"x"})
    with pytest.raises(FormatError, match="unsafe entry"):
        unpack(archive, tmp_path / "in" / "to")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(FormatError, match="unsafe entry"):
        unpack(tmp_path / "l.zip", tmp_path / "to")


def test_bombs_damaged_and_encrypted_archives_are_refused(tmp_path: Path) -> None:
    bomb = packed(tmp_path / "bomb.zip", {"zeros": bytes(1 << 27)})
    with pytest.raises(FormatError, match="cannot be scans"):
        unpack(bomb, tmp_path / "to")
    whole = packed(tmp_path / "ok.zip", {"a": bytes(range(256)) * 40}).read_bytes()
    for name, content in {"cut": whole[:-30], "text": b"hello", "empty": b"", "flipped": _flipped(whole)}.items():
        (tmp_path / f"{name}.zip").write_bytes(content)
        with pytest.raises(FormatError):
            unpack(tmp_path / f"{name}.zip", tmp_path / "to")
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(encrypted)
    with pytest.raises(FormatError, match="encrypted"):
        unpack(tmp_path / "secret.zip", tmp_path / "to")


def _flipped(whole: bytes) -> bytes:
    damaged = bytearray(whole)
    damaged[60] ^= 0xFF
    return bytes(damaged)
