"""The real data beside the checkout: what is read, what is refused, and with which word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core.case import Scan, Source
from medseg.core.errors import FormatError
from medseg.core.labels import Label
from medseg.core.volume import LabelMap
from medseg.formats import discover, read, source_of, write_labelmap
from medseg.formats.dicom_seg import write_segmentation

pytestmark = pytest.mark.real_data

# Lossy ones may stray by so many HU.
SYNTAXES = {
    "1.2.840.10008.1.2.1": 0,
    "1.2.840.10008.1.2.1.99": 0,
    "1.2.840.10008.1.2.2": 0,
    "1.2.840.10008.1.2.4.50": 65,
    "1.2.840.10008.1.2.4.51": 37,
    "1.2.840.10008.1.2.4.53": 37,
    "1.2.840.10008.1.2.4.55": 37,
    "1.2.840.10008.1.2.4.57": 0,
    "1.2.840.10008.1.2.4.70": 0,
    "1.2.840.10008.1.2.4.80": 0,
    "1.2.840.10008.1.2.4.81": 1,
    "1.2.840.10008.1.2.4.90": 0,
    "1.2.840.10008.1.2.4.91": 5,
    "1.2.840.10008.1.2.5": 0,
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_is_decoded(shared_data: Path, syntax: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "dicom" / "transfer_syntaxes"
    reference = read(source_of(folder / "CTImage.dcm")).volume.array
    (path,) = (path for path in folder.iterdir() if path.name.endswith(f"_{syntax}.dcm"))
    scan = read(source_of(path))
    assert np.abs(scan.volume.array - reference).max() <= SYNTAXES[syntax]
    assert ("lossy" in {finding.code for finding in scan.findings}) == (SYNTAXES[syntax] > 0)
    assert capfd.readouterr() == ("", "")


def differences(scan: Scan, reference: Scan) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """How far (voxels) the grids are apart, and the values of both at the same places in the world."""
    geometry = scan.volume.geometry
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    own = reference.volume.geometry.to_index(geometry.to_world(index))
    i, j, k = np.rint(own).astype(int).T
    assert sorted(geometry.shape) == sorted(reference.volume.geometry.shape)
    return float(np.abs(own - np.rint(own)).max()), scan.volume.array.ravel(), reference.volume.array[0][i, j, k]


@pytest.mark.parametrize(
    "place",
    [
        "failing/slicecount/001", "generic/anatomical/001", "generic/anatomical/002_non_isotropic",
        "generic/compressed/001", "hitachi/anatomical/001", "hyperfine/anatomical/001",
        "philips_enhanced/anatomical/001", "siemens_multiframe/anatomical/001",
    ],
)  # fmt: skip
def test_series_agree_with_dicom2nifti_in_the_world(shared_data: Path, place: str) -> None:
    folder = shared_data / "dicom" / "odd" / place
    reference = read(source_of(folder.with_name(folder.name + "_ground_truth.nii.gz")))
    apart, values, expected = differences(read(source_of(folder)), reference)
    assert apart < 1e-3
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["STS_002/CT", "STS_002/MR_T1", "STS_019/PET", "STS_042/PET"])
def test_series_equal_their_nifti_twins(shared_data: Path, case: str) -> None:
    root = shared_data / "sarcoma_pet_ct_mr"
    patient, kind = case.split("/")
    scan = read(source_of(root / "dicom" / case / "image"))
    assert scan.modality == {"PET": "PT", "MR_T1": "MR"}.get(kind, kind)
    apart, values, expected = differences(scan, read(source_of(root / "nifti" / patient / f"{kind}_image.nii.gz")))
    assert apart < 1e-3
    np.testing.assert_allclose(values, expected, rtol=1e-4)


def _outcome(source: Source) -> str:
    try:
        read(source)
    except FormatError as error:
        return error.code
    return "read"


def test_every_lung_ct_is_found_and_read(shared_data: Path) -> None:
    sources = discover(shared_data / "lung_ct")
    outcomes = {source.name: _outcome(source) for source in sources}
    assert len(outcomes) == 14
    assert {name for name, code in outcomes.items() if code != "read"} == {"lidc_idri/git_lfs_pointer_not_a_dicom"}
    lidc = read(source_of(shared_data / "lung_ct" / "lidc_idri" / "LIDC-IDRI-0001"))
    assert lidc.volume.geometry.spacing == pytest.approx((0.703125, 0.703125, 2.5))
    assert lidc.volume.array.min() == -2048  # padding, -3024 HU as it is stored, has become the smallest real value


def test_a_series_without_uids_gets_a_label_map_but_no_segmentation(shared_data: Path, tmp_path: Path) -> None:
    source = source_of(shared_data / "lung_ct" / "totalsegmentator" / "example_ct_dicom")
    geometry = read(source).volume.geometry
    labelmap = LabelMap(np.zeros(geometry.shape, np.uint8), geometry, (Label("lung", 1),))
    assert source.uid is None
    assert write_labelmap(labelmap, source, tmp_path / "x").exists()
    with pytest.raises(FormatError) as error:
        write_segmentation(labelmap, source, tmp_path / "x.seg.dcm", {})
    assert error.value.code == "missing-uids"


@pytest.mark.parametrize("place", ["t1_oblique_nonsquare", "seg_and_rtstruct/dcmqi/ct-3slice"])
def test_segmentations_of_oblique_series_lie_on_their_frames(shared_data: Path, tmp_path: Path, place: str) -> None:
    import highdicom

    source = source_of(shared_data / "dicom" / place)
    geometry = read(source).volume.geometry
    array = np.zeros(geometry.shape, np.uint8)
    array[5:20, 7:11, 1:3] = 1
    write_segmentation(LabelMap(array, geometry, (Label("box", 1),)), source, tmp_path / "x.seg.dcm", {})
    volume = highdicom.seg.segread(tmp_path / "x.seg.dcm").get_volume(combine_segments=True)
    world = np.argwhere(volume.array) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    own = np.linalg.inv(geometry.to_lps())
    index = world @ own[:3, :3].T + own[:3, 3]
    assert np.abs(index - np.rint(index)).max() < 1e-3
    assert {tuple(v) for v in np.rint(index).astype(int)} == {tuple(v) for v in np.argwhere(array)}
