"""No patient's name, id or birth date reaches anything that is written or told."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import pydicom
import pytest

from medseg import formats
from medseg.batch.run import BatchOptions, predict_folder
from medseg.core.events import Event
from medseg.formats.dicom_write import write_series
from medseg.inference import Predictor

Write = Callable[..., Path]
SECRETS = ("mustermann", "erika", "4711-007", "4711_007", "19580317", "1958-03-17", "58317")


@pytest.fixture
def scans(write_scan: Write, tmp_path: Path) -> Path:
    """A patient's folder named after her: a DICOM series, a broken slice, a NIfTI file, and the same in a zip."""
    folder = tmp_path / "scans" / "Mustermann_Erika 4711-007"
    source = formats.source_of(write_scan(tmp_path / "plain.nii.gz", 1))
    write_series(formats.read(source).volume, folder / "19580317", "x", modality="MR")
    for path in (folder / "19580317").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = "Mustermann^Erika", "4711-007"
        dataset.PatientBirthDate, dataset.OtherPatientIDs = "19580317", "58317"
        dataset.save_as(path)
    (folder / "cut-mustermann.dcm").write_bytes(path.read_bytes()[:300])
    image = nibabel.load(write_scan(folder / "erika.nii.gz", 2))
    image.header["db_name"] = b"Mustermann"
    nibabel.save(image, folder / "erika.nii.gz")
    with zipfile.ZipFile(tmp_path / "scans" / "4711_007.zip", "w") as archive:
        for path in (folder / "19580317").iterdir():
            archive.write(path, f"Erika/{path.name}")
    return folder.parent


def told(output: Path, events: list[Event], plain: object) -> str:
    """Everything but DICOM objects, which must name their patient: names of files and what is in them."""
    text = [json.dumps(plain), str(events)]
    for path in output.rglob("*"):
        text.append(path.relative_to(output).as_posix())
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            text.append((gzip.decompress(content) if path.suffix == ".gz" else content).decode("latin-1"))
    return "\n".join(text).casefold()


def test_nothing_names_the_patient(scans: Path, predictor: Predictor, tmp_path: Path) -> None:
    events: list[Event] = []
    result = predict_folder(scans, predictor, tmp_path / "out", BatchOptions(tracebacks=True), events.append)
    assert sorted(row.segmented for row in result.rows) == [False, True, True, True]
    text = told(tmp_path / "out", events, result.plain())
    assert [secret for secret in SECRETS if secret in text] == []
    assert "patient-" in text
    assert not (tmp_path / "out" / ".medseg-unpacked").exists()


def test_names_stay_where_the_user_wants_them(scans: Path, predictor: Predictor, tmp_path: Path) -> None:
    result = predict_folder(scans, predictor, tmp_path / "out", BatchOptions(keep_identifiers=True), lambda event: None)
    assert (tmp_path / "out" / "Mustermann_Erika 4711-007" / "erika.nii.gz").exists()
    assert all("patient-" not in row.scan for row in result.rows)
