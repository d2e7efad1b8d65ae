"""What a DICOM header says of a patient is replaced wherever it stands."""

from __future__ import annotations

import pytest

from medseg.core.identifiers import Identifiers, pseudonym

KNOWN = Identifiers.of(["Doe^Jane", "ID-4711", "7", "19700102"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scans/DOE_JANE/ct", "scans/{Doe^Jane}/ct"),
        ("jane.nii.gz cannot be read", "{jane}.nii.gz cannot be read"),
        ("a/7/b", "a/{7}/b"),
        (r"C:\Doe\7\x.dcm: holds 7 volumes", r"C:\{Doe}\{7}\x.dcm: holds 7 volumes"),
        ("study_ID_4711.dcm", "study_{ID-4711}.dcm"),
        ("born 1970-01-02, 19700102", "born {1970-01-02}, {19700102}"),
        ("17 of 4711 slices; janet, adoeb", "17 of 4711 slices; janet, adoeb"),
    ],
)
def test_every_spelling_is_replaced_and_nothing_else(text: str, expected: str) -> None:
    for word in ("Doe^Jane", "jane", "Doe", "ID-4711", "19700102", "1970-01-02", "7"):
        expected = expected.replace("{" + word + "}", pseudonym(word))
    assert KNOWN.mask(text) == expected


def test_one_patient_has_one_pseudonym_however_it_is_written() -> None:
    assert pseudonym("Doe^Jane") == pseudonym("doe jane") == pseudonym("DOE_JANE")
    assert pseudonym("Doe^Jane") != pseudonym("Doe^John")


def test_nothing_known_changes_nothing() -> None:
    assert Identifiers.of(["", "^", "  "]).mask("a/b") == "a/b"
    assert Identifiers().mask("Doe") == "Doe"
