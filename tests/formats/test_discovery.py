"""Names, and what counts as a scan."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.case import Source
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats import discover, read, source_of
from medseg.formats.dicom_write import write_series
from medseg.formats.discovery import _uniquely_named, extension_of

OUTPUTS = (".nii.gz", ".png", ".tif", ".seg.dcm")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root: Path) -> list[str]:
    return [source.name for source in discover(root)]


def test_the_relative_path_without_extension_is_the_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "sub/b.PNG", "sub/deep/c.d.mha", "sub/e.nii")
    assert names(tmp_path) == ["a", "sub/b", "sub/deep/c.d", "sub/e"]


def test_the_extension_is_appended_where_two_share_a_stem(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "a.png", "b.png")
    assert names(tmp_path) == ["a.nii.gz", "a.png", "b"]


def test_names_stay_apart_where_an_appended_extension_meets_another_stem(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "a.png", "a.png.tif")
    assert len(set(names(tmp_path))) == 3


def test_names_differ_by_more_than_case(tmp_path: Path) -> None:
    touch(tmp_path, "Scan.nii.gz", "scan.nii.gz", "sub/X.png", "Sub/x.png")
    assert len({name.casefold() for name in names(tmp_path)}) == 4


def test_no_output_stands_where_a_folder_must(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.png", "b.png.tif", "deeper/a/c.nii.gz")
    touch(tmp_path, "d.seg.dcm/x.png", "d.mha")
    found = names(tmp_path)
    folders = {str(parent) for name in found for parent in Path(name).parents}
    assert not folders & {name + suffix for name in found for suffix in OUTPUTS}


PARTS = st.sampled_from(["a", "A", "a.png", "b", "\u00e9", "e\u0301", "a.nii.gz", "a-1"])
FILES = st.tuples(st.lists(PARTS, min_size=1, max_size=3), st.sampled_from([".nii.gz", ".nii", ".png", ".tif", ".PNG"]))


@settings(max_examples=200, deadline=None)
@given(st.sets(st.builds(lambda file: "/".join(file[0]) + file[1], FILES), max_size=8))
def test_names_and_outputs_are_unique_whatever_the_files_are_called(files: set[str]) -> None:
    root = Path("/scans")
    found = []
    for file in sorted(files):
        extension = extension_of(root / file)
        found.append((Source(root / file, (root / file,), "nifti", file[: len(file) - len(extension)]), extension))
    result = [source.name.casefold() for source in _uniquely_named(found, root)]
    assert len(set(result)) == len(files)
    folders = {str(parent) for name in result for parent in Path(name).parents}
    assert not folders & {name + suffix for name in result for suffix in OUTPUTS}


def test_a_series_is_named_after_its_folder_and_uid(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 4, 3, 2), np.int16), Geometry.from_spacing((1, 1, 2), (4, 3, 2)))
    write_series(volume, tmp_path / "p1" / "ct", "one")
    write_series(volume, tmp_path, "two")
    for source in discover(tmp_path):
        folder = "p1/ct/" if source.path != tmp_path else ""
        assert source.uid
        assert source.name == f"{folder}series-{hashlib.sha256(source.uid.encode()).hexdigest()[:8]}"
        assert source.modality == "CT"


def test_what_is_no_scan_is_left_out_and_what_claims_to_be_one_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "README.txt", "dataset.json", "list.csv", ".hidden.nii.gz", ".git/x.png", "LICENSE", "a.raw")
    touch(tmp_path, "broken.dcm")
    (tmp_path / "empty.DCM").touch()
    sources = discover(tmp_path)
    assert [source.name for source in sources] == ["broken", "empty"]
    for source in sources:
        assert [finding.code for finding in source.findings] == ["unreadable"]
        with pytest.raises(FormatError) as error:
            read(source)
        assert error.value.code == "unreadable"


def test_links_in_a_circle_are_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == ["in/a"]


def test_source_of_takes_exactly_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, "two/a.png", "two/b.png", "none/notes.txt")
    assert source_of(tmp_path / "two" / "a.png").name == "a"
    with pytest.raises(FormatError, match="holds 2 scans"):
        source_of(tmp_path / "two")
    with pytest.raises(FormatError, match="holds no scan"):
        source_of(tmp_path / "none")
    with pytest.raises(FormatError, match="is no scan"):
        source_of(tmp_path / "none" / "notes.txt")
    for missing in (source_of, discover):
        with pytest.raises(FormatError, match="no such file"):
            missing(tmp_path / "gone")


def test_a_broken_neighbour_does_not_hide_a_series(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 4, 3, 2), np.int16), Geometry.from_spacing((1, 1, 2), (4, 3, 2)))
    write_series(volume, tmp_path)
    touch(tmp_path, "pointer.dcm")
    assert len(source_of(tmp_path).files) == 2
    assert len(discover(tmp_path)) == 2
