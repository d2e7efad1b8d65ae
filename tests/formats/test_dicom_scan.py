"""The fast header reader gives what pydicom gives, or leaves the file to pydicom."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from medseg.formats.dicom_frames import HEADER_TAGS, frames_of
from medseg.formats.dicom_scan import scan_header
from medseg.formats.quiet import quiet

from .conftest import Series

WANTED = frozenset(int(pydicom.tag.Tag(keyword)) for keyword in HEADER_TAGS)


def both(path: Path) -> tuple[Dataset | None, Dataset]:
    with path.open("rb") as file:
        return scan_header(file, WANTED), pydicom.dcmread(path, stop_before_pixels=True, specific_tags=HEADER_TAGS)


def assert_alike(path: Path) -> None:
    with quiet():  # real headers hold values that pydicom warns of
        ours, theirs = both(path)
        assert ours is not None
        assert_equal(ours, theirs, path)


def assert_equal(ours: Dataset, theirs: Dataset, path: Path) -> None:
    assert [element.tag for element in ours] == [element.tag for element in theirs]
    assert frames_of(ours, path) == frames_of(theirs, path)
    for element in theirs:
        assert ours[element.tag].value == element.value
    assert ours.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID
    assert ours.file_meta.MediaStorageSOPClassUID == theirs.file_meta.MediaStorageSOPClassUID


def nested(dataset: Any, k: int) -> None:
    """Sequences of unknown length, one in the other, before and between what is wanted."""
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "1"
    outer.PurposeOfReferenceCodeSequence = [inner]
    for item in (inner, outer):
        item.is_undefined_length_sequence_item = True
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    dataset.ReferencedImageSequence = [outer, outer]
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    dataset.add_new((0x0009, 0x1001), "UN", b"\1" * 70000)


@pytest.mark.parametrize("implicit", [False, True])
def test_it_reads_what_pydicom_reads(series: Series, implicit: bool) -> None:
    path = series.files()[2]
    assert_alike(path)
    dataset = pydicom.dcmread(path)
    nested(dataset, 2)
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    assert_alike(path)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_it_leaves_other_encodings_to_pydicom(series: Series, syntax: pydicom.uid.UID) -> None:
    path = series.files()[0]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=syntax != ExplicitVRBigEndian)
    ours, theirs = both(path)
    assert ours is None
    assert theirs.Rows == 4


@pytest.mark.parametrize("length", [0, 100, 132, 140, 300, 700])
def test_it_leaves_what_ends_too_early_to_pydicom(series: Series, length: int) -> None:
    assert scan_header(io.BytesIO(series.files()[0].read_bytes()[:length]), WANTED) is None


@pytest.mark.real_data
def test_real_headers_are_read_alike(shared_data: Path) -> None:
    files = [path for path in sorted((shared_data / "dicom").rglob("*")) if path.is_file()]
    alike = 0
    for path in files:
        with path.open("rb") as file:
            ours = scan_header(file, WANTED)
        if ours is not None:
            assert_alike(path)
            alike += 1
    assert alike > 100
