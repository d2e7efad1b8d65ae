"""Two series of one patient have one key, which tells nobody who it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medseg.core.case import Source
from medseg.formats.dicom_patient import patient_key

SALT = b"salt"


def source(folder: Path, name: str, **tags: str) -> Source:
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.SOPInstanceUID = f"1.2.{abs(hash(name)) % 10**9}"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{name}.dcm"
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    return Source(folder, (path,), "dicom", name)


def test_the_patient_id_tells_however_the_name_is_written(tmp_path):
    one = patient_key(source(tmp_path, "a", PatientID="MRN-0042", PatientName="Doe^Jane"), SALT)
    other = patient_key(source(tmp_path, "b", PatientID="mrn 0042", PatientName="DOE^JANE^^"), SALT)
    third = patient_key(source(tmp_path, "c", PatientID="MRN-0043", PatientName="Doe^Jane"), SALT)
    assert one == other != third and one is not None and b"0042" not in one


def test_another_salt_gives_another_key(tmp_path):
    someone = source(tmp_path, "a", PatientID="42")
    assert patient_key(someone, b"one") != patient_key(someone, b"two")


def test_without_an_id_name_and_birth_date_tell(tmp_path):
    one = patient_key(source(tmp_path, "a", PatientID="", PatientName="Doe^Jane", PatientBirthDate="19700101"), SALT)
    other = patient_key(source(tmp_path, "b", PatientName="Doe^Jane", PatientBirthDate="19700101"), SALT)
    assert one == other is not None


@pytest.mark.parametrize("tags", [{}, {"PatientID": "ANONYMOUS"}, {"PatientName": "Doe^Jane"}, {"PatientID": "***"}])
def test_placeholders_name_nobody(tmp_path, tags):
    assert patient_key(source(tmp_path, "a", **tags), SALT) is None


def test_damaged_and_other_files_name_nobody(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\x00" * 200)
    assert patient_key(Source(tmp_path, (tmp_path / "a.dcm",), "dicom", "a"), SALT) is None
    assert patient_key(Source(tmp_path, (tmp_path / "none.dcm",), "dicom", "a"), SALT) is None
    assert patient_key(Source(tmp_path, (tmp_path / "a.nii",), "nifti", "a"), SALT) is None
