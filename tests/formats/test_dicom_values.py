"""From stored numbers to values: rescaling, signs, padding, inversion, compression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medseg.core.case import Scan
from medseg.core.errors import FormatError
from medseg.formats import discover, read

from .conftest import Series, store, stored


def read_one(folder: Path) -> Scan:
    (source,) = discover(folder)
    return read(source)


def codes(scan: Scan) -> list[str]:
    return [finding.code for finding in scan.findings]


def test_every_slice_is_rescaled_by_its_own_slope_and_intercept(series: Series) -> None:
    def rescale(dataset: Any, k: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k / 4, 10 * k

    series.change(rescale)
    scan = read_one(series.folder)
    raw = series.volume.array[0] + 1024
    expected = raw * (0.5 + np.arange(6) / 4) + 10 * np.arange(6)
    np.testing.assert_allclose(scan.volume.array[0], expected, rtol=1e-6)
    assert codes(scan) == ["mixed-rescale"]
    assert not scan.integral


def test_signed_and_unsigned_slices_mix(series: Series) -> None:
    def unsigned(dataset: Any, k: int) -> None:
        dataset.PixelRepresentation = 0
        dataset.RescaleIntercept = -3024
        store(dataset, (stored(dataset) + 2000).astype("<u2"))

    series.change(unsigned, slice(0, None, 2))
    np.testing.assert_array_equal(read_one(series.folder).volume.array, series.volume.array)


def test_bits_beyond_the_stored_ones_are_ignored_and_the_sign_restored(series: Series) -> None:
    def twelve_bits(dataset: Any, k: int) -> None:
        array = stored(dataset) - 1024
        dataset.BitsStored, dataset.HighBit, dataset.RescaleIntercept = 12, 11, 0
        # 12 bits with a sign, and an old overlay in bit 13.
        store(dataset, (array.astype(np.int32) & 0x0FFF | 0x2000).astype("<u2"))

    series.change(twelve_bits)
    np.testing.assert_array_equal(read_one(series.folder).volume.array, series.volume.array)


@pytest.mark.parametrize("unsigned_tag", [False, True])
def test_padding_becomes_air(series: Series, unsigned_tag: bool) -> None:
    """As in LIDC-IDRI: pixels are signed, -2000 pads, and the tag says 63536."""

    def pad(dataset: Any, k: int) -> None:
        array = stored(dataset)
        array[0, :] = -2000
        store(dataset, array)
        dataset.add_new(0x00280120, "US" if unsigned_tag else "SS", 63536 if unsigned_tag else -2000)

    series.change(pad)
    scan = read_one(series.folder)
    rest = series.volume.array[0, :, 1:]
    np.testing.assert_array_equal(scan.volume.array[0, :, 1:], rest)
    np.testing.assert_array_equal(scan.volume.array[0, :, 0], rest.min())


def test_a_padding_range_above_the_values_becomes_air_too(series: Series) -> None:
    def pad(dataset: Any, k: int) -> None:
        array = stored(dataset)
        array[0, 0], array[0, 1] = 30000, 30005
        store(dataset, array)
        dataset.add_new(0x00280120, "SS", 30000)
        dataset.add_new(0x00280121, "SS", 30010)

    series.change(pad, slice(2, 4))
    scan = read_one(series.folder)
    assert scan.volume.array.max() < 2000
    assert set(scan.volume.array[0, :2, 0, 2:4].ravel()) == {scan.volume.array.min()}


def test_a_padding_value_in_use_is_left_alone(series: Series) -> None:
    """Water as padding would punch holes into tissue."""
    series.change(lambda d, k: d.add_new(0x00280120, "SS", int(stored(d)[1, 1])))
    np.testing.assert_array_equal(read_one(series.folder).volume.array, series.volume.array)


def test_monochrome1_is_inverted_and_told(series: Series) -> None:
    def invert(dataset: Any, k: int) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"
        store(dataset, (-1 - stored(dataset)).astype("<i2"))

    series.change(invert)
    scan = read_one(series.folder)
    np.testing.assert_array_equal(scan.volume.array, series.volume.array)
    assert codes(scan) == ["inverted"]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_lossless_compression_changes_nothing(series: Series, syntax: Any) -> None:
    series.change(lambda dataset, k: dataset.compress(syntax))
    scan = read_one(series.folder)
    np.testing.assert_array_equal(scan.volume.array, series.volume.array)
    assert codes(scan) == []


def test_what_nothing_decodes_is_refused_by_name(series: Series) -> None:
    def damage(dataset: Any, k: int) -> None:
        dataset.PixelData = pydicom.encaps.encapsulate([b"this is no JPEG"])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless

    series.change(damage)
    with pytest.raises(FormatError) as error:
        read_one(series.folder)
    assert error.value.code == "unsupported-syntax"
    assert "JPEG 2000" in error.value.reason


def test_ct_without_rescaling_is_told(series: Series) -> None:
    def forget(dataset: Any, k: int) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType

    series.change(forget)
    assert codes(read_one(series.folder)) == ["unknown-units"]


def test_derived_images_and_lossy_compression_are_told(series: Series) -> None:
    def mark(dataset: Any, k: int) -> None:
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.LossyImageCompression = "01"

    series.change(mark)
    assert sorted(codes(read_one(series.folder))) == ["derived", "lossy"]


def test_nothing_is_printed_about_odd_headers(series: Series, capfd: pytest.CaptureFixture[str]) -> None:
    def odd(dataset: Any, k: int) -> None:
        dataset.add_new(0x00080060, "CS", "CT")
        dataset.add_new(0x00100030, "DA", "not a date")
        dataset.add_new(0x00180050, "DS", "2.0000000000000000001")

    with pydicom.config.disable_value_validation():
        series.change(odd)
    read_one(series.folder)
    assert capfd.readouterr() == ("", "")
