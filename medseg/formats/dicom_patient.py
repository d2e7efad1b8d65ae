"""Whether two DICOM scans are of one patient, told without telling who."""

from __future__ import annotations

import hashlib

import pydicom
from pydicom.dataset import Dataset

from medseg.core.case import Source
from medseg.formats.dicom_frames import text
from medseg.formats.quiet import quiet

_TAGS = ["SpecificCharacterSet", "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate"]
# What tools write in place of an identifier: many patients share these words, so they name none.
_NOBODY = frozenset(
    {"anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "unknown", "none", "null", "nobody"}
    | {"patient", "patientid", "id", "noname", "nopatientid", "test", "phantom", "removed", "xxx", "na", "0"}
)


def patient_key(source: Source, salt: bytes) -> bytes | None:
    """A salted hash of who the patient is: equal for two scans of one patient, of no use to anyone else.

    Taken from PatientID with its issuer or, where that is empty or a placeholder, from PatientName with
    PatientBirthDate (PS3.3 C.7.1.1). None where the header names nobody or cannot be read. The salt
    should be drawn anew for every run, and the key never written down.
    """
    if source.format != "dicom" or not source.files:
        return None
    try:
        with quiet():
            header = pydicom.dcmread(source.files[0], force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
            told = _identity(header)
    except Exception:  # pydicom lets through whatever a damaged file causes; reading the scan names it
        return None
    return None if told is None else hashlib.blake2b(told.encode(), key=salt).digest()


def _identity(header: Dataset) -> str | None:
    number = _plain(text(header, "PatientID"))
    if _names_somebody(number):
        return f"id|{_plain(text(header, 'IssuerOfPatientID'))}|{number}"
    name, born = _plain(text(header, "PatientName")), _plain(text(header, "PatientBirthDate"))
    return f"name|{name}|{born}" if _names_somebody(name) and born else None


def _plain(value: str) -> str:
    return "".join(character for character in value.casefold() if character.isalnum())


def _names_somebody(value: str) -> bool:
    return bool(value) and value not in _NOBODY
