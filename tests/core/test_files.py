"""Atomic writing: whole or not at all, and nothing left lying about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.core.files import atomic, atomic_folder, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir())


def test_a_file_appears_whole_with_its_suffixes_and_the_usual_rights(tmp_path):
    path = tmp_path / "new" / "a.nii.gz"
    with atomic(path) as temporary:
        assert temporary.parent == path.parent and temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content" and names(path.parent) == ["a.nii.gz"]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_folders_are_replaced_as_a_whole(tmp_path):
    path = tmp_path / "run"
    for content in ("one", "two"):
        with atomic_folder(path) as temporary:
            (temporary / "deep").mkdir()
            (temporary / "deep" / content).write_text(content)
        assert names(path / "deep") == [content]
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        (temporary / "x").write_text("")
        raise RuntimeError
    assert names(path / "deep") == ["two"] and names(tmp_path) == ["run"]


def test_json_is_utf8_and_never_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"name": "größe"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "größe"} and "größe" in path.read_text("utf-8")
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "größe"}
