"""De-identified objects: nothing of the patient is left in them, and they still belong together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medseg.core.labels import Label
from medseg.core.measurement import HOUNSFIELD, Measurement
from medseg.core.volume import LabelMap
from medseg.formats import read, source_of
from medseg.formats.dicom_deidentify import replacement, without_dates
from medseg.formats.dicom_derived import derive, save
from medseg.formats.dicom_sc import capture
from medseg.formats.dicom_seg import segmentation
from medseg.formats.dicom_sr import report
from medseg.formats.rtstruct_write import structure_set

from .conftest import Series
from .test_dicom import enhanced

KINDS = ("seg", "rtstruct", "sr", "sc")
SECRET = {
    "PatientName": "Quintessa^Zebedee", "PatientID": "MRN-88117", "PatientBirthDate": "19510203", "PatientSex": "F",
    "OtherPatientIDs": "OTHER-5521", "PatientAddress": "Elm Street 5", "PatientAge": "074Y", "PatientWeight": "71.3",
    "AccessionNumber": "ACC-7781", "StudyID": "ST-991", "StudyDate": "20240229", "StudyTime": "101112",
    "StudyDescription": "Follow-up of Quintessa", "ReferringPhysicianName": "Houseman^Gregor",
    "NameOfPhysiciansReadingStudy": "Wilsonby^James", "InstitutionName": "Saint Mary Anywhere",
    "StationName": "CTROOM7", "OperatorsName": "Nightingale^F", "DeviceSerialNumber": "SN-4471",
    "PatientComments": "knows Quintessa", "ClinicalTrialSubjectID": "TRIAL-17", "AdmissionID": "ADM-3",
    "RequestedProcedureDescription": "Thorax of Quintessa", "SeriesDescription": "Quintessa thin",
    "EthnicGroup": "Martian", "Occupation": "Beekeeper", "AdditionalPatientHistory": "Long story",
    "DeidentificationMethod": "by hand",
}  # fmt: skip


def identify(dataset: Any, k: int) -> None:
    for keyword, value in SECRET.items():
        setattr(dataset, keyword, value)
    block = dataset.private_block(0x0011, "SOME VENDOR", create=True)
    block.add_new(1, "LO", "private Quintessa")
    request = Dataset()
    request.RequestedProcedureDescription = "Thorax of Quintessa"
    dataset.RequestAttributesSequence = [request]


def objects(folder: Path, out: Path) -> dict[str, pydicom.Dataset]:
    """Every kind of object made of a series, as written and read again."""
    source = source_of(folder)
    geometry = read(source).volume.geometry
    array = np.zeros(geometry.shape, np.uint8)
    array[1:3, 1:3, 2:4] = 1
    derived = derive(LabelMap(array, geometry, (Label("lung", 1),)), source, {"task": "toy"}, deidentify=True)
    segmented = segmentation(derived)
    measured = Measurement("lung", 1, "", 8, 1.5, 3.0, 2.0, (), HOUNSFIELD)
    made = {
        "seg": segmented,
        "rtstruct": structure_set(derived),
        "sr": report(derived, segmented, [measured]),
        "sc": capture(derived, [np.zeros((8, 8, 3), np.uint8)] * 2),
    }
    for kind, dataset in made.items():
        save(without_dates(dataset), out / f"{kind}.dcm", derived)
    return {kind: pydicom.dcmread(out / f"{kind}.dcm") for kind in made}


def elements(dataset: Dataset) -> Iterator[pydicom.DataElement]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)
        else:
            yield element


@pytest.fixture(params=["classic", "enhanced"])
def made(request: pytest.FixtureRequest, series: Series, tmp_path: Path) -> dict[str, pydicom.Dataset]:
    series.change(identify)
    if request.param == "enhanced":
        dataset = enhanced(series, [0, 1, 2, 3, 4, 5])
        content = Dataset()
        content.FrameAcquisitionDateTime, content.FrameComments = "20240229101112", "Quintessa moved"
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.FrameContentSequence = [content]
        dataset.save_as(tmp_path / "in.dcm", enforce_file_format=True)
        return objects(tmp_path / "in.dcm", tmp_path)
    return objects(series.folder, tmp_path)


def test_nothing_that_the_source_says_of_the_patient_is_in_any_byte(
    made: dict[str, pydicom.Dataset], series: Series, tmp_path: Path
) -> None:
    words = {part for value in SECRET.values() for part in value.split("^")} - {"F", "071.3"}
    uids = {str(e.value) for file in series.files() for e in elements(pydicom.dcmread(file)) if e.VR == "UI"}
    for kind in KINDS:
        content = (tmp_path / f"{kind}.dcm").read_bytes()
        for word in {*words, "Quintessa", "SOME VENDOR"}:
            assert word.encode() not in content, (kind, word)
        for uid in uids:
            assert uid.startswith("1.2.840.10008.") or uid.encode() not in content, (kind, uid)


def test_objects_say_how_they_were_deidentified(made: dict[str, pydicom.Dataset]) -> None:
    for dataset in made.values():
        assert dataset.PatientIdentityRemoved == "YES"
        codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113105", "113104"]
        assert str(dataset.PatientName) == dataset.PatientID and dataset.PatientID.startswith("ANON-")
        assert (dataset.PatientBirthDate, dataset.PatientSex, dataset.StudyDate) == ("", "", "")


def test_dates_are_dummies_at_any_depth(made: dict[str, pydicom.Dataset]) -> None:
    dates = {(e.VR, str(e.value)) for d in made.values() for e in elements(d) if e.VR in ("DA", "TM", "DT")}
    assert dates <= {("DA", ""), ("TM", ""), ("DA", "19000101"), ("TM", "000000"), ("DT", "19000101000000")}


def test_objects_of_a_study_still_belong_together(made: dict[str, pydicom.Dataset], series: Series) -> None:
    header = pydicom.dcmread(series.files()[0])
    study = replacement(header.StudyInstanceUID)
    assert {d.StudyInstanceUID for d in made.values()} == {study}
    assert made["seg"].FrameOfReferenceUID == replacement(header.FrameOfReferenceUID)
    referenced = {str(e.value) for e in elements(made["sr"]) if e.keyword == "ReferencedSOPInstanceUID"}
    assert made["seg"].SOPInstanceUID in referenced
    frame = made["rtstruct"].ReferencedFrameOfReferenceSequence[0]
    series_uid = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID
    assert series_uid == replacement(header.SeriesInstanceUID)


def test_replacements_are_stable_and_leave_the_standards_own_uids() -> None:
    assert replacement("1.2.3") == replacement("1.2.3") != replacement("1.2.4")
    assert replacement("1.2.3").startswith("2.25.") and len(replacement("1.2.3")) <= 64
    assert replacement("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
