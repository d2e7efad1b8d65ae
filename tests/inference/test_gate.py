"""The gate: what is refused, what is marked for review, and what must pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core.case import Finding, Outcome, Scan, Severity, Source, Status
from medseg.core.geometry import Geometry
from medseg.core.plan import ChannelStats, Fingerprint
from medseg.core.task import Task, parse_task
from medseg.core.volume import Volume
from medseg.formats import discover, read
from medseg.inference import check_scan
from medseg.inference.gate import in_training_units

AIR_TO_BONE = ChannelStats(-1000, -850, -100, -820, 130, -1024, 2000, True)
CT = Fingerprint(10, ((64, 64, 40),) * 2, ((2.0, 2.0, 2.0), (3.0, 3.0, 5.0)), (AIR_TO_BONE,), {}, {}, 0.1)
MR = Fingerprint(10, ((35, 50, 36),), ((1.0, 1.0, 1.0),), (ChannelStats(30, 200, 1e5, 1e3, 1e4, 0, 1e6),), {}, {}, 0.1)
CELLS = Fingerprint(10, ((64, 64, 1),), ((1.0, 1.0, 1.0),), (ChannelStats(20, 90, 250, 90, 40, 0, 255),), {}, {}, 0.1)


def task_of(modality: str = "CT", **keys: Any) -> Task:
    return parse_task({"name": "t", "modality": modality, "labels": {"a": 1}, **keys}, "t")


def scan_of(array: NDArray[Any], spacing: tuple[float, float, float] = (2.5, 2.5, 3.0), **keys: Any) -> Scan:
    array = array if array.ndim == 4 else array[None]
    source = Source(Path("scan"), (Path("scan"),), keys.pop("format", "nifti"), "scan")
    integral = bool((array == np.floor(array)).all())
    geometry = Geometry.from_spacing(spacing, array.shape[1:])
    return replace(Scan(source, Volume(array.astype(np.float32), geometry), integral=integral), **keys)


def chest(shape: tuple[int, int, int] = (60, 60, 40)) -> NDArray[np.float32]:
    """Air around a body with lungs, in HU, with noise."""
    rng = np.random.default_rng(0)
    i, j, _ = np.indices(shape)
    r = np.hypot(i / shape[0] - 0.5, j / shape[1] - 0.5)
    hu = np.where(r > 0.45, -1000.0, np.where(r < 0.25, -850.0, 40.0))
    noisy: NDArray[np.float32] = np.round(hu + rng.normal(0, 15, shape)).astype(np.float32)
    return noisy


def eight_bit(seed: int, levels: int = 255) -> NDArray[np.float32]:
    """A smooth but noisy magnitude image in few whole values, as MR series are often stored."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(35, 50, 36)), 4)
    field = (field - field.min()) / np.ptp(field) + rng.normal(0, 0.03, field.shape)
    whole: NDArray[np.float32] = np.round(np.clip(field, 0, 1) * levels).astype(np.float32)
    return whole


def labels(values: list[int]) -> NDArray[np.float32]:
    """Blobs of these values on zero."""
    array = np.zeros((40, 40, 20), dtype=np.float32)
    for n, value in enumerate(values):
        row, column = divmod(n, 8)
        array[row * 5 : row * 5 + 4, column * 5 : column * 5 + 4, 2:18] = value
    return array


def refused(outcome: Outcome, reason: str) -> bool:
    assert outcome.status is Status.REFUSED, outcome
    assert reason in outcome.reason
    return True


def test_a_ct_like_the_training_cases_passes() -> None:
    assert check_scan(scan_of(chest()), task_of(), CT) == Outcome(Status.OK)


@pytest.mark.parametrize("values", [[1], [1, 2], list(range(1, 62)), [10, 11, 117, 1024, 14175]], ids=len)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_label_maps_are_refused(values: list[int], modality: str) -> None:
    assert refused(check_scan(scan_of(labels(values)), task_of(modality), CT), "label map")


@pytest.mark.parametrize("levels", [30, 100, 255])
def test_images_in_few_whole_values_are_no_label_maps(levels: int) -> None:
    scan = scan_of(eight_bit(1, levels), (1.0, 1.0, 1.0))
    assert check_scan(scan, task_of("MR"), replace(MR, channels=(CELLS.channels[0],))).status is not Status.REFUSED


def test_a_mask_on_its_own_is_refused_where_it_fills_the_picture() -> None:
    assert refused(check_scan(scan_of(np.zeros((8, 8, 8))), task_of(), CT), "every voxel is 0")


@pytest.mark.parametrize("given", ["MR", "PT", "US"])
def test_another_dicom_modality_is_refused(given: str) -> None:
    assert refused(check_scan(scan_of(chest(), modality=given, format="dicom"), task_of(), CT), f"modality is {given}")


def test_a_ct_is_refused_by_a_task_for_pictures() -> None:
    scan = scan_of(chest(), modality="CT", format="dicom")
    assert refused(check_scan(scan, task_of("microscopy", dimensions=2), CELLS), "modality is CT")


def test_modality_other_takes_any() -> None:
    assert check_scan(scan_of(chest(), modality="US", format="dicom"), task_of("other"), CT).status is Status.OK


@pytest.mark.parametrize("lowest", [0, -47])
def test_what_has_no_air_is_no_ct(lowest: int) -> None:
    mr = eight_bit(2, 800) + lowest
    assert refused(check_scan(scan_of(mr), task_of(), CT), f"lowest value is {lowest}, so it is no CT")


def test_a_ct_without_its_rescale_intercept_gets_a_hint() -> None:
    stored = chest() + 1100
    stored[0, 0, 0] = 3000
    assert refused(check_scan(scan_of(stored), task_of(), CT), "rescale intercept")


def test_a_ct_is_refused_by_an_mr_task() -> None:
    assert refused(check_scan(scan_of(chest()), task_of("MR"), MR), "as in a CT")


def test_a_modality_named_by_the_file_is_believed() -> None:
    scan = scan_of(np.clip(chest(), -150, None), modality="CT", format="dicom")
    assert check_scan(scan, task_of(), CT).status is not Status.REFUSED


def test_dimensions() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 1)).astype(np.float32)
    scan = scan_of(picture, (1.0, 1.0, 1.0), format="image")
    assert refused(check_scan(scan, task_of("microscopy"), CELLS), "a single slice (64×64×1)")
    assert check_scan(scan, task_of("microscopy", dimensions=2), CELLS).status is Status.OK
    pages = scan_of(np.repeat(picture, 3, axis=2), (1.0, 1.0, 1.0), format="image")
    assert check_scan(pages, task_of("microscopy", dimensions=2), CELLS).status is Status.OK


def test_black_and_white_pictures_are_masks() -> None:
    mask = np.zeros((64, 64, 1))
    mask[10:20, 10:20] = 255
    scan = scan_of(mask, format="image")
    assert refused(check_scan(scan, task_of("microscopy", dimensions=2), CELLS), "it is a mask")


def test_channels_that_cannot_fit_are_refused() -> None:
    assert refused(check_scan(scan_of(np.stack([chest()] * 2)), task_of(), CT), "2 channels")
    scan = scan_of(chest())
    assert refused(check_scan(scan, task_of(channels=["ct", "pet"]), CT), "needs 2 (ct, pet)")


def test_stacks_are_taken_in_the_units_of_the_training() -> None:
    cells = task_of("microscopy")
    calibrated = replace(CELLS, spacings=((2e-4, 2e-4, 1e-3),), shapes=((64, 64, 9),))
    pixels = scan_of(np.random.default_rng(0).integers(0, 255, (64, 64, 9)), (1, 1, 1), format="image")
    microns = scan_of(pixels.volume.array, (2e-4, 2e-4, 1e-3), format="image")
    refused = check_scan(pixels, cells, calibrated)
    assert refused.status is Status.REFUSED and "states no spacing" in refused.reason
    for scan, prints in ((pixels, CELLS), (microns, CELLS), (microns, calibrated)):
        assert check_scan(scan, cells, prints).status is Status.OK
    assert in_training_units(microns, CELLS).volume.geometry.spacing == (1, 1, 1)
    assert in_training_units(microns, calibrated) is microns


def test_limits_of_the_task() -> None:
    task = task_of(limits={"min_spacing": 0.5, "max_spacing": 4.0})
    assert refused(check_scan(scan_of(chest(), (2.0, 2.0, 5.0)), task, CT), "coarser than the 4 mm")
    assert refused(check_scan(scan_of(chest(), (0.3, 2.0, 3.0)), task, CT), "finer than the 0.5 mm")
    assert check_scan(scan_of(chest()), task, CT).status is Status.OK


def test_errors_of_the_reader_refuse_and_warnings_ask_for_review() -> None:
    missing = Finding("missing-slices", Severity.WARNING, "2 slices are missing at 41 mm")
    assert check_scan(scan_of(chest(), findings=(missing,)), task_of(), CT) == Outcome(Status.REVIEW, missing.message)
    told = Finding("derived", Severity.INFO, "is derived")
    assert check_scan(scan_of(chest(), findings=(told,)), task_of(), CT).status is Status.OK
    broken = replace(missing, severity=Severity.ERROR)
    assert refused(check_scan(scan_of(chest(), findings=(broken,)), task_of(), CT), missing.message)


@pytest.mark.parametrize("spacing", [(0.7, 2.0, 2.0), (2.0, 2.0, 14.0)])
def test_spacing_far_outside_the_training_cases_asks_for_review(spacing: tuple[float, float, float]) -> None:
    outcome = check_scan(scan_of(chest(), spacing), task_of(), CT)
    assert outcome.status is Status.REVIEW
    assert "spacing" in outcome.reason
    assert "2…3" in outcome.reason


def test_a_thin_slab_asks_for_review() -> None:
    outcome = check_scan(scan_of(chest((60, 60, 6))), task_of(), CT)
    assert outcome.status is Status.REVIEW
    assert "size" in outcome.reason


def test_spacing_is_compared_along_the_patient_not_along_the_array() -> None:
    """A sagittal scan with coarse left-right spacing is odd; the same numbers in storage order are not."""
    affine = np.diag([3.0, 5.0, 3.0, 1.0])[:, [1, 0, 2, 3]]  # i runs along y
    array = chest((60, 60, 60))
    scan = scan_of(array)
    stored = replace(scan, volume=Volume(scan.volume.array, Geometry(affine, array.shape)))
    trained = replace(CT, spacings=((3.0, 5.0, 3.0),), shapes=((60, 60, 60),))
    assert check_scan(stored, task_of(), trained).status is Status.OK


def test_intensities_unlike_the_trained_structures_ask_for_review() -> None:
    dark = replace(CELLS, channels=(ChannelStats(150, 200, 250, 200, 20, 0, 255),))
    picture = np.random.default_rng(0).integers(0, 60, (64, 64, 1)).astype(np.float32)
    outcome = check_scan(scan_of(picture, format="image"), task_of("microscopy", dimensions=2), dark)
    assert outcome.status is Status.REVIEW
    assert "150 to 250" in outcome.reason


@pytest.mark.real_data
def test_real_lung_folder(shared_data: Path) -> None:
    """Every CT answered, masks and MR refused by name."""
    wide = replace(CT, spacings=((0.7, 0.7, 1.0), (3.0, 3.0, 5.0)), shapes=((500, 500, 300), (64, 64, 20)))
    statuses = {
        source.name: check_scan(read(source), task_of(), wide).status
        for folder in ("elastix", "totalsegmentator")
        for source in discover(shared_data / "lung_ct" / folder)
    }
    no_ct = {name for name in statuses if "mask" in name or "seg" in name or "mr" in name}
    assert len(no_ct) == 7
    assert {name for name, status in statuses.items() if status is Status.REFUSED} == no_ct


@pytest.mark.real_data
def test_real_mr_passes_and_its_labels_do_not(shared_data: Path) -> None:
    for folder, expected in (("images", Status.OK), ("labels", Status.REFUSED)):
        for source in discover(shared_data / "hippocampus_mr" / folder)[::5]:
            assert check_scan(read(source), task_of("MR"), MR).status is expected, source.name
