"""Structured reports, read back by highdicom and by following the references."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from medseg.core.labels import Code, Label
from medseg.core.measurement import HOUNSFIELD, NO_UNIT, SUV, Measurement, Spread, Unit
from medseg.core.volume import LabelMap
from medseg.formats import source_of
from medseg.formats.dicom_derived import derive, save
from medseg.formats.dicom_seg import segmentation
from medseg.formats.dicom_sr import report

from .conftest import Series

LABELS = (
    Label("left lung", 1, type=Code("39607008", "SCT", "Lung"), modifier=Code("7771000", "SCT", "Left")),
    Label("tumour", 2),
)
SPREAD = Spread(-812.25, 61.5, -950.0, -830.0, -700.125)


def measured(unit: Unit = HOUNSFIELD) -> list[Measurement]:
    return [
        Measurement("left lung", 1, "left", 8, 6.25, 31.4, 12.7, (SPREAD,), unit),
        Measurement("tumour", 2, "", 0, 0.0, None, None, (), unit),
    ]


def written(series: Series, path: Path, unit: Unit = HOUNSFIELD) -> tuple[pydicom.Dataset, pydicom.Dataset]:
    """The report and the segmentation it refers to, as read again."""
    array = np.zeros((5, 4, 6), np.uint8)
    array[1:3, 0:2, 1:3] = 1
    labelmap = LabelMap(array, series.volume.geometry, LABELS)
    derived = derive(labelmap, source_of(series.folder), {"model": "abc", "task": "toy", "review": "ok"})
    segmented = segmentation(derived)
    save(report(derived, segmented, measured(unit)), path, derived)
    return highdicom.sr.srread(path), segmented


def test_a_report_is_a_measurement_report_with_one_group_a_label(series: Series, tmp_path: Path) -> None:
    dataset, segmented = written(series, tmp_path / "x.sr.dcm")
    root = dataset.ContentTemplateSequence[0]
    assert (root.MappingResource, root.TemplateIdentifier) == ("DCMR", "1500")
    groups = dataset.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["left lung", "tumour"]
    for number, group in enumerate(groups, start=1):
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == segmented.SOPInstanceUID
        assert list(np.atleast_1d(reference.referenced_segment_numbers)) == [number]
        series_uid = pydicom.dcmread(series.files()[0]).SeriesInstanceUID
        assert [item.value for item in reference if item.value_type.value == "UIDREF"] == [series_uid]


def test_measurements_have_names_units_and_derivations(series: Series, tmp_path: Path) -> None:
    dataset, _ = written(series, tmp_path / "x.sr.dcm")
    lung, tumour = dataset.content.get_volumetric_roi_measurement_groups()
    found = [
        (m.name.meaning, m.value, m.unit.value, m.derivation.meaning if m.derivation else "")
        for m in lung.get_measurements()
    ]
    assert found == [
        ("Volume", 6.25, "ml", ""),
        ("Maximum 3D Diameter of a Mesh", 31.4, "mm", ""),
        ("Long axis", 12.7, "mm", ""),
        ("Attenuation Coefficient", -812.25, "[hnsf'U]", "Mean"),
        ("Attenuation Coefficient", 61.5, "[hnsf'U]", "Standard Deviation"),
        ("Attenuation Coefficient", -950.0, "[hnsf'U]", codes.SCT.FifthPercentile.meaning),
        ("Attenuation Coefficient", -830.0, "[hnsf'U]", "Median"),
        ("Attenuation Coefficient", -700.125, "[hnsf'U]", codes.SCT.NinetyFifthPercentile.meaning),
    ]
    assert lung.finding_type.meaning == "Lung"
    assert lung.finding_sites[0].laterality.meaning == "Left"
    assert [(m.name.meaning, m.value) for m in tumour.get_measurements()] == [("Volume", 0.0)]


def test_what_is_absent_is_said_to_be_absent(series: Series, tmp_path: Path) -> None:
    dataset, _ = written(series, tmp_path / "x.sr.dcm")
    groups = dataset.content.get_volumetric_roi_measurement_groups()
    said = [
        [e.value.meaning for e in group.get_qualitative_evaluations() if e.name.meaning == "Presence"]
        for group in groups
    ]
    assert said == [["Present"], ["Absent"]]


@pytest.mark.parametrize(
    ("unit", "name", "code"),
    [(SUV, "SUVbw", "g/ml{SUVbw}"), (NO_UNIT, "Image value", "1"), (HOUNSFIELD, "Attenuation Coefficient", "[hnsf'U]")],
)
def test_units_are_those_of_the_scan(series: Series, tmp_path: Path, unit: Unit, name: str, code: str) -> None:
    dataset, _ = written(series, tmp_path / "x.sr.dcm", unit)
    lung = dataset.content.get_volumetric_roi_measurement_groups()[0]
    mean = lung.get_measurements()[3]
    assert (mean.name.meaning, mean.unit.value) == (name, code)


def test_the_report_names_its_makers_its_patient_and_its_evidence(series: Series, tmp_path: Path) -> None:
    dataset, segmented = written(series, tmp_path / "x.sr.dcm")
    header = pydicom.dcmread(series.files()[0])
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
        assert dataset[keyword].value == header[keyword].value
    text = str(dataset)
    assert "model=abc" in text and "review=ok" in text and "medseg" in text
    listed = {
        item.ReferencedSOPInstanceUID
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    } | {
        item.ReferencedSOPInstanceUID
        for study in dataset.get("PertinentOtherEvidenceSequence", ())
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    }
    assert listed == {segmented.SOPInstanceUID, *(pydicom.dcmread(file).SOPInstanceUID for file in series.files())}
