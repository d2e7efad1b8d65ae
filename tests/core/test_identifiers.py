"""What a DICOM header says of a patient is replaced wherever it stands."""

from __future__ import annotations

import pytest

from medseg.core.identifiers import Identifiers, names_somebody, pseudonym

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


@pytest.mark.parametrize("word", ["", "***", "ANON", "Anonymous^", "0", "00000000", "xxx", "Test^Patient", "NO_NAME"])
def test_a_placeholder_names_nobody_and_is_not_replaced(word: str) -> None:
    assert not names_somebody(word)
    assert Identifiers.of([word]) == Identifiers()


def test_what_holds_more_than_a_placeholder_names_somebody() -> None:
    for word in ("ANON-17", "1", "x1", "Anonymous^Jane", "Noname^Doe"):
        assert names_somebody(word)
    known = Identifiers.of(["Anonymous^Jane"])
    assert known.mask("anonymous, from Jane") == f"anonymous, from {pseudonym('Jane')}"


def test_nothing_known_changes_nothing() -> None:
    assert Identifiers.of(["", "^", "  "]).mask("a/b") == "a/b"
    assert Identifiers().mask("Doe") == "Doe"
