"""Secondary captures: pictures that any archive shows, without a place in the body."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg.core.errors import FormatError
from medseg.core.labels import Label
from medseg.core.volume import LabelMap
from medseg.formats import source_of
from medseg.formats.dicom_derived import Derived, derive, save
from medseg.formats.dicom_sc import MOST_FRAMES, capture

from .conftest import Series


def derived(series: Series, *, deidentify: bool = False) -> Derived:
    labelmap = LabelMap(np.zeros((5, 4, 6), np.uint8), series.volume.geometry, (Label("a", 1),))
    return derive(labelmap, source_of(series.folder), {"model": "abc", "task": "toy"}, deidentify=deidentify)


def frames(count: int) -> list[np.ndarray]:
    """Plain frames that get brighter from one to the next, with a red quarter."""
    made = []
    for number in range(count):
        frame = np.full((40, 64, 3), 2 * number + 20, np.uint8)
        frame[:20, :32] = (230, 20, 20)
        made.append(frame)
    return made


def test_frames_come_back_in_their_order_and_colours(series: Series, tmp_path: Path) -> None:
    pictures = frames(MOST_FRAMES)
    source = derived(series)
    save(capture(source, pictures), tmp_path / "x.sc.dcm", source)
    dataset = pydicom.dcmread(tmp_path / "x.sc.dcm")
    assert dataset.NumberOfFrames == MOST_FRAMES
    shown = dataset.pixel_array  # pydicom gives back red, green and blue
    assert shown.shape == (MOST_FRAMES, 40, 64, 3)
    for frame, picture in zip(shown, pictures, strict=True):
        np.testing.assert_allclose(frame[25:, 40:].astype(int), picture[25:, 40:], atol=2)
        np.testing.assert_allclose(frame[4:16, 4:28].astype(int), picture[4:16, 4:28], atol=6)


def test_the_capture_says_whose_and_whence_it_is(series: Series, tmp_path: Path) -> None:
    dataset = capture(derived(series), frames(2))
    header = pydicom.dcmread(series.files()[0])
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
        assert dataset[keyword].value == header[keyword].value
    assert dataset.SeriesInstanceUID != header.SeriesInstanceUID
    assert "ImagePositionPatient" not in dataset and "FrameOfReferenceUID" not in dataset
    assert (dataset.LossyImageCompression, dataset.BurnedInAnnotation) == ("01", "NO")
    assert dataset.ImageComments == "model=abc,task=toy"
    assert dataset.ContributingEquipmentSequence[0].AlgorithmIdentificationSequence[0].AlgorithmName == "medseg"


def test_one_frame_needs_no_order(series: Series) -> None:
    assert "FrameIncrementPointer" not in capture(derived(series), frames(1))


@pytest.mark.parametrize("count", [0, MOST_FRAMES + 1])
def test_no_frames_and_too_many_are_refused(series: Series, count: int) -> None:
    with pytest.raises(FormatError) as error:
        capture(derived(series), frames(count))
    assert error.value.code == "no-sc"


def test_text_in_the_pixels_is_told_and_never_called_deidentified(series: Series) -> None:
    series.change(lambda d, k: setattr(d, "BurnedInAnnotation", "YES"))
    assert capture(derived(series), frames(2)).BurnedInAnnotation == "YES"
    with pytest.raises(FormatError) as error:
        capture(derived(series, deidentify=True), frames(2))
    assert error.value.code == "burned-in-annotation"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, (None, "")),
        ({"BodyPartExamined": "HEAD"}, ("HEAD", None)),
        ({"BodyPartExamined": "KNEE", "Laterality": "L"}, ("KNEE", "L")),
    ],
)
def test_the_body_part_is_that_of_the_source(series: Series, said: dict[str, str], expected: tuple[str, str]) -> None:
    series.change(lambda d, k: d.update(said))
    dataset = capture(derived(series), frames(2))
    assert (dataset.get("BodyPartExamined"), dataset.get("Laterality")) == expected
