"""PET becomes body-weight SUV, or is refused naming the missing tag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medseg.core.errors import FormatError
from medseg.core.reading import Reading
from medseg.formats import discover, read

from .conftest import Series

HALF_LIFE = 6586.2  # s, of fluorine-18


def pet(**changes: Any) -> Callable[[Any, int], None]:
    """70 kg, 350 MBq at 10:00, scanned at 11:00; `changes` overwrite attributes, None removes them."""

    def change(dataset: Any, k: int) -> None:
        injection = Dataset()
        injection.RadionuclideTotalDose, injection.RadionuclideHalfLife = 3.5e8, HALF_LIFE
        injection.RadiopharmaceuticalStartTime = "100000"
        dataset.Modality, dataset.Units, dataset.DecayCorrection, dataset.PatientWeight = "PT", "BQML", "START", 70
        dataset.SeriesDate = dataset.AcquisitionDate = "20260102"
        dataset.SeriesTime, dataset.AcquisitionTime = "110000", f"11{k:02d}00"
        for keyword, value in changes.items():
            place = injection if keyword.startswith("Radio") else dataset
            if value is None:
                delattr(place, keyword)
            else:
                setattr(place, keyword, value)
        dataset.RadiopharmaceuticalInformationSequence = [injection]

    return change


def factor(series: Series, policy: Reading | None = None) -> float:
    (source,) = discover(series.folder)
    scan = read(source, policy)
    ratio = scan.volume.array / series.volume.array
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-5)
    return float(ratio.flat[0])


def refusal(series: Series) -> FormatError:
    (source,) = discover(series.folder)
    with pytest.raises(FormatError) as error:
        read(source)
    assert error.value.code == "unknown-units"
    return error.value


def decayed(seconds: float) -> float:
    return 70e3 / (3.5e8 * 2 ** (-seconds / HALF_LIFE))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Units": "GML"}, 1.0),
        ({}, decayed(3600)),
        ({"DecayCorrection": "ADMIN"}, 70e3 / 3.5e8),
        ({"RadiopharmaceuticalStartDateTime": "20260102103000"}, decayed(1800)),
        ({"RadiopharmaceuticalStartTime": "230000"}, decayed(12 * 3600)),
        ({"SeriesTime": "180000"}, decayed(3600)),
        ({"SeriesTime": "104500"}, decayed(2700)),
    ],
)
def test_the_dose_decays_to_the_time_the_pixels_are_corrected_to(
    series: Series, changes: dict[str, Any], expected: float
) -> None:
    series.change(pet(**changes))
    assert factor(series) == pytest.approx(expected, rel=1e-5)


def test_philips_counts_take_the_private_factor(series: Series) -> None:
    def philips(dataset: Any, k: int) -> None:
        pet(Units="CNTS")(dataset, k)
        dataset.add_new((0x7053, 0x0010), "LO", "Philips PET Private Group")
        dataset.add_new((0x7053, 0x1000), "DS", "0.25")

    series.change(philips)
    assert factor(series) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"PatientWeight": None}, "PatientWeight"),
        ({"PatientWeight": 0}, "PatientWeight"),
        ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose"),
        ({"RadionuclideHalfLife": None}, "RadionuclideHalfLife"),
        ({"RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection NONE"),
        ({"Units": "CNTS"}, "in CNTS"),
        ({"Units": ""}, "without Units"),
        ({"RadiopharmaceuticalStartDateTime": "20251225103000"}, "cannot be"),
    ],
)
def test_what_is_missing_is_named(series: Series, changes: dict[str, Any], named: str) -> None:
    series.change(pet(**changes))
    assert named in refusal(series).reason


def test_a_task_may_take_the_stored_units(series: Series) -> None:
    series.change(pet(PatientWeight=None))
    assert factor(series, Reading(pet="stored")) == 1.0
    (source,) = discover(series.folder)
    assert [finding.code for finding in read(source, Reading(pet="stored")).findings] == ["unknown-units"]
    assert pydicom.dcmread(source.files[0]).Units == "BQML"
