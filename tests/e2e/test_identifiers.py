"""From a hospital's DICOM tree to a model and its predictions: nothing that is written or said names a patient."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.drawings import change, ct, square, write_rtstruct

from .conftest import TASK, Medseg

PATIENTS = {"KOWALSKA^WILHELMINA": ("PL-90210", "19610522"), "OKAFOR^CHIDIEBERE": ("NG-77341", "19730908")}
TRAINING = """
name: boxes
modality: CT
labels:
  box: {names: ["GTV.*"]}
split: {folds: 2}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two patients, each in a folder named after them, with a CT and a structure set; one slice is cut off."""
    root = tmp_path / "ward"
    for name, (patient, born) in PATIENTS.items():
        folder = root / f"{name.replace('^', '_')} {patient}" / born
        geometry = ct(folder, shape=(24, 24, 16), seed=name)
        change(folder, PatientName=name, PatientID=patient, PatientBirthDate=born)
        contours = [square(geometry, (6, 6), (15, 15), k) for k in (5, 6, 7)]
        write_rtstruct(folder.parent / "plan" / f"{patient}.dcm", folder, {"GTV_1": contours})
    (folder.parent / f"{name}.dcm").write_bytes(next(folder.iterdir()).read_bytes()[:400])
    return root


def secrets() -> list[str]:
    words = [part for name in PATIENTS for part in name.split("^")]
    words += [part for pair in PATIENTS.values() for part in pair]
    return [*words, "1961-05-22", "1973-09-08"]


def named_in(text: str) -> list[str]:
    return [secret for secret in secrets() if secret.casefold() in text.casefold()]


def written(folder: Path) -> str:
    """Names and contents of all files below `folder` but DICOM objects, which must name their patient."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(path.relative_to(folder).as_posix())
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            parts.append((gzip.decompress(content) if path.suffix == ".gz" else content).decode("latin-1"))
    return "\n".join(parts)


def test_no_output_of_any_command_names_a_patient(tree: Path, tmp_path: Path, medseg: Medseg) -> None:
    plan = TASK[TASK.index("plan:") :].replace("[24, 24, 16]", "[16, 16, 16]")
    (tmp_path / "task.yaml").write_text(TRAINING + plan, encoding="utf-8")
    out = tmp_path / "out"
    calls = [
        ("inspect", str(tree), "-o", str(out / "inspected")),
        ("inspect", str(tree), "--json", "--task", str(tmp_path / "task.yaml")),
        ("import", str(tree), "-o", str(out / "imported")),
        ("train", "--task", str(tmp_path / "task.yaml"), "--data", str(tree), "--steps", "3", "-o", str(out / "run")),
        ("predict", str(tree), "--model", str(out / "run"), "-o", str(out / "predicted")),
    ]
    for call in calls:
        done = medseg(*call, cwd=tmp_path)
        # What the user typed may come back; what was found below it may not.
        said = (done.stdout + done.stderr).replace(str(tmp_path), "")
        assert done.returncode in (0, 1), said
        assert named_in(said) == [], call
    assert len(list((out / "predicted").rglob("*.nii.gz"))) == 2
    assert (out / "run" / "report.html").exists() and (out / "inspected" / "inspect.html").exists()
    assert named_in(written(out)) == []
