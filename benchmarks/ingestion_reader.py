"""Read folders of DICOM with one tool; run by ingestion.py, in the Python where that tool is installed.

    python ingestion_reader.py TOOL REQUEST.json FOLDER

REQUEST.json lists {"name", "folder", "repeats"}; FOLDER gets NAME-N.npz for every volume (array [I, J, K]
or [I, J, K, 3], affine in RAS+ mm). Standard output is a JSON line a folder: name, volumes, seconds (each
repeat), error and said (what the tool printed or warned of).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Volumes = list[tuple[np.ndarray, np.ndarray]]
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def with_medseg(folder: Path) -> Volumes:
    from medseg import formats
    from medseg.core.errors import FormatError

    volumes: Volumes = []
    for source in formats.discover(folder):
        try:
            scan = formats.read(source)
        except FormatError as error:
            print(f"{error.code}: {error.reason}")
            continue
        for finding in scan.findings:
            print(f"{finding.code}: {finding.message}")
        array = scan.volume.array
        volumes.append((array[0] if len(array) == 1 else np.moveaxis(array, 0, -1), scan.volume.geometry.affine))
    return volumes


def with_simpleitk(folder: Path) -> Volumes:
    import SimpleITK as sitk  # noqa: N813 -- the name under which the field knows it

    reader = sitk.ImageSeriesReader()
    volumes: Volumes = []
    for uid in reader.GetGDCMSeriesIDs(str(folder)):
        files = reader.GetGDCMSeriesFileNames(str(folder), uid)
        reader.SetFileNames(files)
        image = sitk.ReadImage(files[0]) if len(files) == 1 else reader.Execute()  # a series adds an axis to one file
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        array = sitk.GetArrayFromImage(image)
        axes = (2, 1, 0) if image.GetNumberOfComponentsPerPixel() == 1 else (2, 1, 0, 3)
        volumes.append((array.transpose(axes), _LPS_TO_RAS @ affine))
    return volumes


def with_dicom2nifti(folder: Path) -> Volumes:
    import dicom2nifti

    return _from_nifti(dicom2nifti.dicom_series_to_nifti(str(folder), None, reorient_nifti=False)["NII"])


def with_monai(folder: Path) -> Volumes:
    from monai.data import PydicomReader

    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    array = np.asarray(array)
    if array.ndim == 4:  # colours stand before the slices
        array = np.moveaxis(array, 2, -1)
    return [(array if array.ndim > 2 else array[..., None], np.asarray(meta["affine"], dtype=np.float64))]


def with_dcm2niix(folder: Path) -> Volumes:
    import nibabel

    with tempfile.TemporaryDirectory() as out:
        command = ["dcm2niix", "-b", "n", "-z", "n", "-p", "n", "-f", "%f_%s", "-o", out, str(folder)]
        told = subprocess.run(command, capture_output=True, text=True)
        print(told.stdout[-2000:], told.stderr[-500:])
        volumes: Volumes = []
        for path in sorted(Path(out).glob("*.nii")):
            volumes += _from_nifti(nibabel.load(path, mmap=False))
    return volumes


def _from_nifti(image: Any) -> Volumes:
    raw = np.asanyarray(image.dataobj)
    if raw.dtype.fields:
        raw = np.stack([raw[name] for name in raw.dtype.names[:3]], axis=-1)
        return [(raw, image.affine)]
    raw = raw if raw.ndim > 2 else raw[..., None]
    stacks = [raw] if raw.ndim == 3 else np.moveaxis(raw.reshape(*raw.shape[:3], -1), -1, 0)
    return [(one, image.affine) for one in stacks]


TOOLS: dict[str, Callable[[Path], Volumes]] = {
    "medseg": with_medseg,
    "SimpleITK": with_simpleitk,
    "dicom2nifti": with_dicom2nifti,
    "MONAI": with_monai,
    "dcm2niix": with_dcm2niix,
}


def main(tool: str, request: Path, out: Path) -> None:
    read = TOOLS[tool]
    logging.disable(logging.CRITICAL)
    for wanted in json.loads(request.read_text()):
        print(json.dumps(_one(read, wanted, out)), flush=True)


def _one(read: Callable[[Path], Volumes], wanted: dict[str, Any], out: Path) -> dict[str, Any]:
    volumes: Volumes = []
    seconds: list[float] = []
    error, said = "", io.StringIO()
    for _ in range(int(wanted["repeats"])):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            started = time.perf_counter()
            try:
                volumes = read(Path(wanted["folder"]))
            except Exception as problem:  # whatever a tool raises is its way to refuse
                error = f"{type(problem).__name__}: {problem}"
            seconds.append(time.perf_counter() - started)
        said.write("\n".join(str(warning.message) for warning in caught))
        if error:
            volumes = []
            break
    for number, (array, affine) in enumerate(volumes):
        np.savez(out / f"{wanted['name'].replace('/', '~')}-{number}.npz", array=array, affine=affine)
    told = {"error": error[:300], "said": said.getvalue()[-1500:]}
    return {"name": wanted["name"], "volumes": len(volumes), "seconds": seconds, **told}


if __name__ == "__main__":
    if sys.argv[1:] == ["--installed"]:
        modules = {"SimpleITK": "SimpleITK", "dicom2nifti": "dicom2nifti", "MONAI": "monai"}
        found = [tool for tool, module in modules.items() if __import__("importlib.util").util.find_spec(module)]
        print(json.dumps(found + (["dcm2niix"] if shutil.which("dcm2niix") else [])))
    else:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
