"""Whether two DICOM scans are of one patient, told without telling who."""

from __future__ import annotations

import hashlib

import pydicom
from pydicom.dataset import Dataset

from medseg.core.case import Source
from medseg.core.identifiers import names_somebody, plain
from medseg.formats.dicom_frames import text
from medseg.formats.quiet import quiet

_TAGS = ["SpecificCharacterSet", "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate"]


def patient_key(source: Source, salt: bytes) -> bytes | None:
    """A salted hash of who the patient is: equal for two scans of one patient, of no use to anyone else.

    See `patient_of`. None where the header names nobody or cannot be read. The salt should be drawn anew
    for every run, and the key never written down.
    """
    if source.format != "dicom" or not source.files:
        return None
    try:
        with quiet():
            header = pydicom.dcmread(source.files[0], force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
            told = patient_of(header)
    except Exception:  # pydicom lets through whatever a damaged file causes; reading the scan names it
        return None
    return None if told is None else hashlib.blake2b(told.encode(), key=salt).digest()


def patient_of(header: Dataset) -> str | None:
    """Who the patient is, in words that are the same for two headers of one patient; to be hashed, never told.

    PatientID with its issuer or, where that is empty or a placeholder, PatientName with PatientBirthDate
    (PS3.3 C.7.1.1); None where the header names nobody.
    """
    number, name, born = (text(header, keyword) for keyword in ("PatientID", "PatientName", "PatientBirthDate"))
    if names_somebody(number):
        return f"id|{plain(text(header, 'IssuerOfPatientID'))}|{plain(number)}"
    return f"name|{plain(name)}|{plain(born)}" if names_somebody(name) and plain(born) else None
