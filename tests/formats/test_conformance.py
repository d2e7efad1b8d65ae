"""Objects made of real series, judged by others: dciodvfy (dicom3tools), segimage2itkimage (dcmqi), scikit-image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medseg.batch.outputs import Targets, Wanted, Written, write_outputs
from medseg.core.case import Outcome, Prediction, Status
from medseg.core.labels import Code, Label
from medseg.core.reading import Reading
from medseg.core.volume import LabelMap
from medseg.formats import discover, read, read_labels, source_of
from medseg.formats.structures import blank, read_drawing

from .test_rtstruct_write import by_skimage

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

SARCOMA = "sarcoma_pet_ct_mr/dicom"
DRAWN = "dicom/seg_and_rtstruct"
SERIES = [
    f"{SARCOMA}/STS_002/CT/image", f"{SARCOMA}/STS_042/CT/image", f"{SARCOMA}/STS_002/MR_T1/image",
    f"{SARCOMA}/STS_042/MR_T1/image", f"{SARCOMA}/STS_019/PET/image", f"{SARCOMA}/STS_042/PET/image",
    f"{DRAWN}/dcmqi/ct-3slice", f"{DRAWN}/dcmqi/23x38x3/image", f"{DRAWN}/dcmqi/24x38x3/image",
    f"{DRAWN}/dcmqi/24x38x3/multiframe", f"{DRAWN}/rt-utils/mock_data", f"{DRAWN}/dicompyler",
    f"{DRAWN}/highdicom/ct_image.dcm", "dicom/t1_oblique_nonsquare",
]  # fmt: skip
LABELS = (
    Label(
        "tumour", 1, color=(230, 159, 0), category=Code("49755003", "SCT", "Morphologically Altered Structure"),
        type=Code("108369006", "SCT", "Neoplasm"),
    ),
    Label(
        "left lung", 2, color=(86, 180, 233), type=Code("39607008", "SCT", "Lung"),
        modifier=Code("7771000", "SCT", "Left"),
    ),
    Label("absent", 3),
)  # fmt: skip


def painted(shape: tuple[int, ...], empty: bool) -> np.ndarray:
    """A thick shell with a ball inside, specks everywhere and pinholes: [I, J, K]."""
    array = np.zeros(shape, np.uint8)
    if empty:
        return array
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm((grid / np.array(shape) - 0.5), axis=-1)
    array[distance < 0.3], array[distance < 0.2], array[distance < 0.1] = 1, 0, 2
    noise = np.random.default_rng(0).random(shape)
    array[noise < 0.001], array[noise > 0.999] = 2, 0
    return array


def written(folder: Path, out: Path, *, empty: bool = False, deidentify: bool = False) -> tuple[Prediction, Written]:
    (source,) = [s for s in discover(folder) if s.modality in ("CT", "MR", "PT")]
    scan = read(source)
    geometry = scan.volume.geometry
    prediction = Prediction(LabelMap(painted(geometry.shape, empty), geometry, LABELS), scan, Outcome(Status.OK))
    kinds = frozenset({"seg", "rtstruct", "sr", "sc"})
    wanted = Wanted(kinds, {"model": "ab" * 32, "task": "toy"}, deidentify=deidentify)
    made = write_outputs(prediction, Targets(out / "x", out / "x.png"), wanted)
    assert not made.findings
    return prediction, made


@pytest.fixture(scope="module", params=SERIES)
def result(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Prediction, Written]:
    """The objects of one series, written once for all tests."""
    return written(shared_data / request.param, tmp_path_factory.mktemp("out"))


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on the PATH")
    return found


def errors(path: Path) -> set[str]:
    done = subprocess.run([program("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def unknown_errors(prediction: Prediction, made: Written) -> dict[str, set[str]]:
    """What dciodvfy says of each object, but not of its source."""
    known = errors(prediction.scan.source.files[0])
    assert [output.kind for output in made.outputs] == ["nifti", "seg", "rtstruct", "sr", "sc"]
    found = {output.kind: errors(output.path) - known for output in made.outputs[1:]}
    return {kind: lines for kind, lines in found.items() if lines}


def test_dciodvfy_finds_no_error_that_the_source_does_not_have(result: tuple[Prediction, Written]) -> None:
    program("dciodvfy")
    assert unknown_errors(*result) == {}


@pytest.mark.parametrize("variant", ["empty", "deidentify"])
@pytest.mark.parametrize("series", [SERIES[4], SERIES[5], SERIES[8], SERIES[9], SERIES[12]])
def test_dciodvfy_takes_empty_and_deidentified_objects(
    shared_data: Path, tmp_path: Path, series: str, variant: str
) -> None:
    program("dciodvfy")
    assert unknown_errors(*written(shared_data / series, tmp_path, **{variant: True})) == {}


@pytest.mark.parametrize("name", ["GE_tilt_variable_spacing", "Philips_S21610_S2010_tilt_minus18.5_7of54"])
def test_tilted_and_unevenly_spaced_series_have_sound_objects_too(shared_data: Path, tmp_path: Path, name: str) -> None:
    program("dciodvfy")
    prediction, made = written(shared_data / "dicom" / "ct_gantry_tilt" / name, tmp_path)
    assert unknown_errors(prediction, made) == {}
    masks = []
    for output in made.outputs[1:3]:  # SEG and RTSTRUCT, on the slices as they were acquired
        drawing = read_drawing(source_of(output.path), prediction.scan.source, Reading())
        masks.append([])
        for structure in drawing.structures:
            slices = blank(drawing)
            for piece in structure.patches:
                rows, columns = piece.mask.shape
                slices[piece.k, piece.row : piece.row + rows, piece.column : piece.column + columns] |= piece.mask
            masks[-1].append(slices)
    assert masks[0][0].any() and np.array_equal(masks[0], masks[1])


def test_dcmqi_gives_the_label_map_back_exactly(result: tuple[Prediction, Written], tmp_path: Path) -> None:
    tool, (prediction, made) = program("segimage2itkimage"), result
    command = [tool, "--inputDICOM", str(made.outputs[1].path), "--outputDirectory", str(tmp_path), "-t", "nii"]
    subprocess.run(command, check=True, capture_output=True)
    for label in LABELS:
        found = read_labels(source_of(tmp_path / f"{label.value}.nii.gz"))
        index = prediction.labelmap.geometry.to_index(found.geometry.to_world(np.argwhere(found.array)))
        assert np.abs(index - np.rint(index)).max(initial=0) < 0.05
        back = np.zeros(prediction.labelmap.array.shape, bool)
        back[tuple(np.rint(index).astype(int).T)] = True
        assert np.array_equal(back, prediction.labelmap.array == label.value), label.name


def test_structures_rasterised_by_scikit_image_are_the_label_map(result: tuple[Prediction, Written]) -> None:
    prediction, made = result
    masks = by_skimage(made.outputs[2].path, prediction.labelmap.geometry)
    for label in LABELS:
        assert np.array_equal(masks[label.name], prediction.labelmap.array == label.value), label.name
