"""DICOM series through medseg and its peers: is every pixel where its header says, and how fast.

    python benchmarks/ingestion.py --peers PYTHON [--data FOLDER] [--repeats 3]
    python benchmarks/ingestion.py --index 3000

--peers: the Python of an environment with SimpleITK, dicom2nifti, pydicom, nibabel, torch and monai (never
medseg's own); dcm2niix is found on the PATH. Tools that are not installed are skipped by name. --data:
the folder with dicom/, lung_ct/ and sarcoma_pet_ct_mr/.

The measure is the files themselves. Every frame's pixels, rescaled by its own slope and intercept, have
a place in the world (ImagePositionPatient, ImageOrientationPatient, PixelSpacing). A tool's volumes are

right          each frame's pixels are voxels of one of its volumes: place to 0.01 mm, value to 1e-4
               (lossy files: to 65 HU of the original; PixelPaddingValue may become anything);
resampled      the volume, interpolated at each frame's pixels, correlates with them by 0.9 or more (means of
               5x5 pixels, as interpolation smooths noise), better than where it is moved by two pixels
               along a row or a column, with 9 of 10 of them inside;
refused        there is no volume;
incomplete     some frames are as above, others are in no volume;
wrong          anything else: voxels lie where the patient has none of them.

Resampled and refused are right answers for odd series only (tilt, gaps, several volumes, localizers).
The NIfTI references beside some series are looked at by tests/formats/test_real_data.py.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import convert_color_space
from scipy.ndimage import map_coordinates, uniform_filter

from medseg.formats.quiet import quiet

READER = Path(__file__).with_name("ingestion_reader.py")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_PLACE_MM, _VALUE, _CORRELATION, _INSIDE = 1e-2, 1e-4, 0.9, 0.9
_LOSSY_HU = 65.0
_LOSSY = ("1.2.4.50", "1.2.4.51", "1.2.4.53", "1.2.4.55", "1.2.4.81", "1.2.4.91")

REGULAR = (
    "dicom/odd/failing/slicecount/001", "dicom/odd/generic/anatomical/001",
    "dicom/odd/generic/anatomical/002_non_isotropic", "dicom/odd/generic/compressed/001",
    "dicom/odd/generic/compressed_j2k/001", "dicom/odd/generic/compressed_jpeg/001",
    "dicom/odd/generic/compressed_jpegls/001", "dicom/odd/generic/compressed_rle/001", "dicom/odd/generic/rgb/001",
    "dicom/odd/hitachi/anatomical/001", "dicom/odd/hyperfine/anatomical/001",
    "dicom/odd/philips_enhanced/anatomical/001", "dicom/odd/siemens_multiframe/anatomical/001",
    "dicom/t1_oblique_nonsquare", "dicom/seg_and_rtstruct/dcmqi/ct-3slice",
    "dicom/seg_and_rtstruct/dcmqi/24x38x3/image", "dicom/seg_and_rtstruct/dcmqi/24x38x3/multiframe",
    "dicom/seg_and_rtstruct/dcmqi/23x38x3/image", "dicom/seg_and_rtstruct/dcmqi/23x38x3/multiframe",
    "lung_ct/lidc_idri/LIDC-IDRI-0001", "lung_ct/totalsegmentator/example_ct_dicom",
    "sarcoma_pet_ct_mr/dicom/STS_002/CT/image", "sarcoma_pet_ct_mr/dicom/STS_002/MR_T1/image",
    "sarcoma_pet_ct_mr/dicom/STS_019/PET/image", "sarcoma_pet_ct_mr/dicom/STS_042/CT/image",
    "sarcoma_pet_ct_mr/dicom/STS_042/MR_T1/image", "sarcoma_pet_ct_mr/dicom/STS_042/PET/image",
)  # fmt: skip
ODD = {
    "dicom/ct_gantry_tilt/GE_tilt_variable_spacing": "tilt and uneven spacing",
    "dicom/ct_gantry_tilt/Philips_S21610_S2010_tilt_minus18.5_7of54": "tilt",
    "dicom/odd/failing/gantrytilting/001": "tilt",
    "dicom/odd/failing/notavolume/001": "four images at one place",
    "dicom/odd/failing/sliceincrement/001": "a slice is missing",
    "dicom/odd/failing/sliceorientation/001": "two orientations",
    "dicom/odd/philips_enhanced/dti/001": "four volumes in one file",
}
SYNTAXES = "dicom/transfer_syntaxes"


@dataclass(frozen=True)
class Frame:
    """Values [rows, columns(, 3)] and `affine`: (column, row, 0) -> RAS+ mm."""

    values: NDArray[np.float64]
    affine: NDArray[np.float64]


def main() -> int:
    arguments = _arguments()
    if arguments.index:
        return indexing(arguments.index)
    with tempfile.TemporaryDirectory() as scratch:
        return comparison(arguments, Path(scratch))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--peers", help="the Python of the peers' environment")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--index", type=int, metavar="FILES", help="measure the indexing of so many small files instead"
    )
    return parser.parse_args()


# ---- correctness and speed --------------------------------------------------------------------


def comparison(arguments: argparse.Namespace, scratch: Path) -> int:
    series = {name: arguments.data / name for name in (*REGULAR, *ODD)} | _single_files(arguments.data, scratch)
    tools = {"medseg": sys.executable}
    if arguments.peers:
        found = subprocess.run([arguments.peers, READER, "--installed"], check=True, capture_output=True, text=True)
        tools |= dict.fromkeys(json.loads(found.stdout), arguments.peers)
    for tool in ("SimpleITK", "dicom2nifti", "MONAI", "dcm2niix"):
        if tool not in tools:
            print(f"{tool} is not installed: skipped", file=sys.stderr)
    with quiet():
        truth = {name: list(frames(series[_judged_by(name)])) for name in series}
    verdicts: dict[str, dict[str, tuple[str, str]]] = {}
    seconds: dict[str, dict[str, float]] = {}
    for tool, python in tools.items():
        verdicts[tool], seconds[tool] = {}, {}
        for told in _run(tool, python, series, arguments.repeats, scratch):
            name = told["name"]
            volumes = list(_volumes(scratch / tool, name, told["volumes"]))
            tolerance = _LOSSY_HU if any(mark in name for mark in _LOSSY) else None
            verdicts[tool][name] = judge(truth[name], volumes, tolerance, told)
            seconds[tool][name] = statistics.median(told["seconds"])
            print(tool, name, *verdicts[tool][name], sep=" | ", file=sys.stderr)
    _print_tables(verdicts, seconds)
    return 0


def _single_files(data: Path, scratch: Path) -> dict[str, Path]:
    """Each transfer syntax in a folder of its own: all share one place and would be a series of copies."""
    folders = {}
    for path in sorted((data / SYNTAXES).iterdir()):
        if path.name.startswith("CTImage.dcm_") and path.suffix == ".dcm":
            folder = scratch / "syntaxes" / path.stem.rsplit("_", 1)[1]
            folder.mkdir(parents=True)
            (folder / path.name).symlink_to(path)
            folders[f"{SYNTAXES}/{folder.name}"] = folder
    folder = scratch / "syntaxes" / "original"
    folder.mkdir(parents=True)
    (folder / "CTImage.dcm").symlink_to(data / SYNTAXES / "CTImage.dcm")
    return folders | {f"{SYNTAXES}/original": folder}


def _judged_by(name: str) -> str:
    """The series that holds what the pixels must be: for the transfer syntaxes the uncompressed file."""
    return f"{SYNTAXES}/original" if name.startswith(SYNTAXES) else name


def _run(tool: str, python: str, series: dict[str, Path], repeats: int, scratch: Path) -> Iterator[dict[str, Any]]:
    (scratch / tool).mkdir()
    request = scratch / f"{tool}.json"
    wanted = [{"name": name, "folder": str(folder), "repeats": repeats} for name, folder in series.items()]
    request.write_text(json.dumps(wanted))
    done = subprocess.run([python, READER, tool, request, scratch / tool], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{tool} ended with {done.returncode}: {done.stderr[-800:]}", file=sys.stderr)
    yield from map(json.loads, done.stdout.splitlines())


def _volumes(folder: Path, name: str, count: int) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
    for number in range(count):
        with np.load(folder / f"{name.replace('/', '~')}-{number}.npz") as stored:
            yield stored["array"].astype(np.float64), stored["affine"]


# ---- the files themselves ---------------------------------------------------------------------


def frames(folder: Path) -> Iterator[Frame]:
    """Every image frame below a folder, read with pydicom alone; other objects are passed over."""
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not pydicom.misc.is_dicom(path):
            continue
        dataset = pydicom.dcmread(path)
        if "Rows" in dataset and dataset.get("Modality") not in ("SEG", "RTSTRUCT"):
            yield from _frames(dataset)


def _frames(dataset: pydicom.Dataset) -> Iterator[Frame]:
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    for number, stored in enumerate(_pixels(dataset)):
        places = [dataset]
        if groups:
            sequences = [*groups[number], *(dataset.get("SharedFunctionalGroupsSequence") or [[]])[0]]
            places = [element.value[0] for element in sequences if element.VR == "SQ" and element.value] + places
        slope, intercept = _value(places, "RescaleSlope", 1), _value(places, "RescaleIntercept", 0)
        values = stored * float(slope) + float(intercept)
        values[stored == _padding(dataset)] = np.nan
        yield Frame(values, _affine(places))


def _padding(dataset: pydicom.Dataset) -> float:
    """PixelPaddingValue as pixels have it: it is often written unsigned though pixels are signed."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.nan
    wraps = dataset.PixelRepresentation == 1 and value >= 1 << (dataset.BitsAllocated - 1)
    return float(value - (1 << dataset.BitsAllocated) if wraps else value)


def _pixels(dataset: pydicom.Dataset) -> NDArray[np.float64]:
    """[frames, rows, columns(, 3)]; colours as RGB."""
    pixels = dataset.pixel_array
    if dataset.SamplesPerPixel == 3 and dataset.PhotometricInterpretation.startswith("YBR_FULL"):
        pixels = convert_color_space(pixels, "YBR_FULL", "RGB")
    frame = (dataset.Rows, dataset.Columns, *((3,) if dataset.SamplesPerPixel == 3 else ()))
    return np.asarray(pixels, dtype=np.float64).reshape(-1, *frame)


def _value(places: list[pydicom.Dataset], keyword: str, default: Any = None) -> Any:
    return next((place[keyword].value for place in places if keyword in place and place[keyword].value), default)


def _affine(places: list[pydicom.Dataset]) -> NDArray[np.float64]:
    orientation = np.array(_value(places, "ImageOrientationPatient", (1, 0, 0, 0, 1, 0)), dtype=np.float64)
    row, column = orientation.reshape(2, 3)
    between_rows, between_columns = (float(v) for v in _value(places, "PixelSpacing", (1, 1)))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * between_columns, column * between_rows, np.cross(row, column)], axis=1)
    affine[:3, 3] = _value(places, "ImagePositionPatient", (0, 0, 0))
    return _LPS_TO_RAS @ affine


# ---- the verdict ------------------------------------------------------------------------------


def judge(
    truth: list[Frame],
    volumes: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    tolerance: float | None,
    told: dict[str, Any],
) -> tuple[str, str]:
    """The verdict (see the top of this file) and why."""
    if not volumes:
        why = told["error"] or told["said"].strip() or "without a word"
        return "refused", " ".join(why.split())[:160]
    found = [max((_fit(frame, *volume, tolerance) for volume in volumes), key=_rank) for frame in truth]
    kinds = {kind for kind, _ in found}
    numbers = f"{len(volumes)} volumes, worst frame {min(found, key=_rank)[1]:.3g}"
    if kinds == {"right"}:
        return "right", numbers
    if kinds <= {"right", "resampled"}:
        return "resampled", numbers
    if kinds <= {"right", "resampled", "absent"} and kinds != {"absent"}:
        return "incomplete", f"{sum(kind == 'absent' for kind, _ in found)} of {len(found)} frames are missing"
    return "wrong", numbers


def _rank(fit: tuple[str, float]) -> tuple[int, float]:
    return ("absent", "wrong", "resampled", "right").index(fit[0]), fit[1]


def _fit(
    frame: Frame, array: NDArray[np.float64], affine: NDArray[np.float64], tolerance: float | None
) -> tuple[str, float]:
    """How a frame's pixels lie in a volume: right, resampled, wrong or absent, and the correlation."""
    channels = array[..., None] if array.ndim == 3 else array
    values = frame.values if frame.values.ndim == 3 else frame.values[..., None]
    if channels.shape[-1] != values.shape[-1] or abs(np.linalg.det(affine)) < 1e-9:
        return "wrong", 0.0
    rows, columns = values.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows), indexing="xy"), axis=-1)  # [rows, columns, 2]
    inverse = np.linalg.inv(affine)
    index = (grid @ frame.affine[:3, :2].T + frame.affine[:3, 3]) @ inverse[:3, :3].T + inverse[:3, 3]
    near = np.rint(index)
    known = np.isfinite(values).all(axis=-1)
    inside = known & ((index > -0.5) & (index < np.array(array.shape[:3]) - 0.5)).all(axis=-1)
    apart = np.linalg.norm((index - near) @ affine[:3, :3].T, axis=-1)[known].max()
    if inside.sum() == known.sum() and apart <= _PLACE_MM:
        i, j, k = near[known].astype(int).T
        difference = np.abs(channels[i, j, k] - values[known]).max()
        if difference <= (tolerance if tolerance is not None else _VALUE * max(1.0, np.abs(values[known]).max())):
            return "right", 1.0
    share = inside.sum() / known.sum()
    if share < 0.02:
        return "absent", 0.0
    steps = 2 * (inverse[:3, :3] @ frame.affine[:3, :2]).T  # two pixels along a row, two along a column
    centre, *moved = (
        _correlation(channels[..., 0], index + shift, values[..., 0], inside)
        for shift in (np.zeros(3), *steps, *-steps)
    )
    good = centre >= max(_CORRELATION, *moved) and share >= _INSIDE and apart > _PLACE_MM
    return ("resampled" if good else "wrong"), centre


def _correlation(
    array: NDArray[np.float64], index: NDArray[np.float64], values: NDArray[np.float64], inside: NDArray[np.bool_]
) -> float:
    """Of the volume at `index` [rows, columns, 3] with `values` [rows, columns], both as means of 5x5 pixels."""
    sampled = map_coordinates(array, np.moveaxis(index, -1, 0), order=1, mode="nearest")
    one, other = (uniform_filter(np.where(inside, image, 0.0), 5)[inside] for image in (sampled, values))
    with np.errstate(all="ignore"):
        return float(np.nan_to_num(np.corrcoef(one, other)[0, 1]))


# ---- tables -----------------------------------------------------------------------------------


def _print_tables(verdicts: dict[str, dict[str, tuple[str, str]]], seconds: dict[str, dict[str, float]]) -> None:
    tools = list(verdicts)
    syntaxes = [name for name in verdicts["medseg"] if name.startswith(SYNTAXES)]

    def cell(tool: str, name: str) -> str:
        return verdicts[tool].get(name, ("crashed", ""))[0]

    print(f"| series | what is odd | {' | '.join(tools)} |")
    print("|---|---|" + "---|" * len(tools))
    for name, odd in [*((name, "") for name in REGULAR), *ODD.items()]:
        print(f"| {name} | {odd} | {' | '.join(cell(tool, name) for tool in tools)} |")
    right = [f"{sum(cell(tool, name) == 'right' for name in syntaxes)} right" for tool in tools]
    print(f"| {len(syntaxes)} transfer syntaxes, a file each | | {' | '.join(right)} |")
    for title, names, good in (
        (f"of {len(REGULAR)} regular series right", REGULAR, {"right"}),
        (f"of {len(ODD)} odd series right, resampled or refused", tuple(ODD), {"right", "resampled", "refused"}),
        ("wrong or incomplete without a refusal", (*REGULAR, *ODD), {"wrong", "incomplete"}),
    ):
        counts = [str(sum(cell(tool, name) in good for name in names)) for tool in tools]
        print(f"| **{title}** | | {' | '.join(counts)} |")
    common = [name for name in REGULAR if all(cell(tool, name) == "right" for tool in tools)]
    rates = [f"{len(common) / sum(seconds[tool][name] for name in common):.1f}" for tool in tools]
    print(f"| **volumes/s over the {len(common)} that all read right** | | {' | '.join(rates)} |")
    own = [[name for name in REGULAR if cell(tool, name) == "right"] for tool in tools]
    rates = [f"{len(o) / sum(seconds[t][n] for n in o):.1f}" if o else "" for t, o in zip(tools, own, strict=True)]
    print(f"| **volumes/s over those that the tool reads right** | | {' | '.join(rates)} |")


# ---- indexing ---------------------------------------------------------------------------------


def indexing(count: int) -> int:
    """Files a second of `discover` on small CT files, warm, median of three; and where the time goes."""
    from medseg.core.geometry import Geometry
    from medseg.core.volume import Volume
    from medseg.formats import discover
    from medseg.formats.dicom_write import Style, write_series

    slices = 100
    volume = Volume(np.zeros((1, 16, 16, slices), np.float32), Geometry.from_spacing((1, 1, 1), (16, 16, slices)))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-(-count // slices)):
            write_series(volume, Path(folder) / f"{number:03d}", str(number), style=Style(names="random"))
        files = sum(1 for path in Path(folder).rglob("*") if path.is_file())
        discover(Path(folder))
        spent = []
        for _ in range(3):
            started = time.perf_counter()
            found = discover(Path(folder))
            spent.append(time.perf_counter() - started)
        rate = files / statistics.median(spent)
        print(f"{files} files in {len(found)} series: {rate:.0f} files/s (median of 3)")
        profile = cProfile.Profile()
        profile.runcall(discover, Path(folder))
        pstats.Stats(profile, stream=sys.stderr).sort_stats("cumulative").print_stats(25)
    return 0


if __name__ == "__main__":
    sys.exit(main())
