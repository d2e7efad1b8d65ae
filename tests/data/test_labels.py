"""What the values of a user's label map become, and onto which grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.core.case import Case
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE
from medseg.data.labels import map_values, present_values, read_case, read_case_label, read_case_volume
from medseg.formats import source_of


def mapped(values, task):
    return map_values(np.array(values).reshape(1, 1, -1), task, Path("x.nii.gz")).ravel().tolist()


def test_sources_are_merged(task):
    lungs = task(labels={"left": [10, 11], "right": [12, 13, 14]})
    assert mapped([0, 10, 11, 12, 14], lungs) == [0, 1, 1, 2, 2]


def test_nonzero_takes_everything_but_ignore(task):
    assert mapped([0, 1, 7, 300, -3, 99], task(labels={"nucleus": "nonzero"}, ignore=99)) == [0, 1, 1, 1, 1, IGNORE]


@pytest.mark.parametrize(("undeclared", "target"), [("background", 0), ("ignore", IGNORE)])
def test_undeclared_values_become_what_the_task_says(task, undeclared, target):
    assert mapped([0, 1, 5, 70000, -2], task(undeclared=undeclared)) == [0, 1, target, target, target]


def test_undeclared_values_are_refused_by_name_and_number(task):
    two = task(labels={"liver": [1], "spleen": [2, 3]})
    with pytest.raises(
        FormatError, match=r"x\.nii\.gz.*values -1, 5; declared are 0 and liver = 1, spleen = 2/3"
    ) as caught:
        mapped([0, 1, 2, 5, -1], two)
    assert caught.value.code == "undeclared-label"


def test_a_picture_of_0_and_255_counts_as_0_and_1(task):
    assert mapped([0, 255, 255], task()) == [0, 1, 1]
    for other in (task(labels={"a": 1, "b": 2}), task(labels={"a": [7]}), task(undeclared="refuse")):
        with pytest.raises(FormatError):
            mapped([0, 1, 255], other)
    assert mapped([0, 255], task(ignore=255)) == [0, IGNORE]
    assert mapped([0, 1, 255], task(ignore=255)) == [0, 1, IGNORE]


@pytest.mark.parametrize("values", [[], [0], [3, 0, 3], [-1, 2], [0, 10**6]])
def test_present_values(values):
    array = np.array(values, dtype=np.int64).reshape(len(values), 1, 1)
    assert present_values(array) == sorted(set(values))


def test_float_labels_and_bool_pictures_are_read(write, task, blob):
    image = source_of(write("image.nii.gz"))
    labelmap = read_case_label(Case("a", "a", (image,), source_of(write("label.nii.gz", blob))), task())
    assert labelmap.array.dtype == np.uint8 and [label.name for label in labelmap.labels] == ["blob"]
    np.testing.assert_array_equal(labelmap.array, blob)


def test_a_label_map_with_other_axes_over_the_same_voxels_is_reordered(write, task, blob):
    geometry = Geometry.from_spacing((1, 2, 3), blob.shape, (5, 6, 7))
    turned = geometry.reordered((2, 0, 1), (True, False, True))
    image = write("image.nii.gz", np.arange(120).reshape(6, 5, 4), geometry=geometry)
    label = write("label.nii.gz", blob.transpose(2, 0, 1)[::-1, :, ::-1], geometry=turned)
    scan, labelmap = read_case(Case("a", "a", (source_of(image),), source_of(label)), task())
    np.testing.assert_array_equal(labelmap.array, blob)
    assert labelmap.geometry is scan.volume.geometry


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"array": np.zeros((6, 5, 3))}, "6×5×3 voxels against 6×5×4"),
        ({"spacing": (1, 1, 3)}, "spacing 1×1×3 mm against 1×1×2 mm"),
        ({"geometry": Geometry.from_spacing((1, 1, 2), (6, 5, 4), (9, 0, 0))}, "9 mm apart"),
    ],
)
def test_another_grid_is_refused_with_its_numbers(write, task, changes, numbers):
    case = Case("a", "a", (source_of(write("image.nii.gz")),), source_of(write("label.nii.gz", **changes)))
    with pytest.raises(FormatError, match=numbers) as caught:
        read_case(case, task())
    assert caught.value.code == "grid-mismatch" and "label.nii.gz" in str(caught.value)


def test_channel_files_are_stacked_on_one_grid(write, task, blob):
    geometry = Geometry.from_spacing((1, 1, 2), blob.shape)
    turned = geometry.reordered((1, 0, 2), (False, True, False))
    first = source_of(write("t1.nii.gz", blob + 0.5, geometry=geometry))
    second = source_of(write("t2.nii.gz", 2 * blob.transpose(1, 0, 2)[:, ::-1], geometry=turned))
    two = task(modality="MR", channels=["T1", "T2"])
    scan = read_case_volume(Case("a", "a", (first, second)), two)
    np.testing.assert_array_equal(scan.volume.array, np.stack([blob + 0.5, 2 * blob]))
    assert not scan.integral
    with pytest.raises(FormatError, match="3 image files, but the task has 2 channels"):
        read_case_volume(Case("a", "a", (first, second, second)), two)
    other = source_of(write("t3.nii.gz", np.zeros((6, 5, 5))))
    with pytest.raises(FormatError, match="does not lie on the grid of") as caught:
        read_case_volume(Case("a", "a", (first, other)), two)
    assert caught.value.code == "grid-mismatch"


def test_colour_pictures_become_grey_where_the_task_has_one_channel(write, task):
    colours = np.stack([np.full((4, 3, 1), value) for value in (10, 20, 30)])
    case = Case("a", "a", (source_of(write("a.png", colours)),))
    grey = read_case_volume(case, task(modality="microscopy", dimensions=2))
    assert grey.volume.array.shape == (1, 4, 3, 1)
    assert grey.volume.array[0, 0, 0, 0] == pytest.approx(0.299 * 10 + 0.587 * 20 + 0.114 * 30)
    colour = read_case_volume(case, task(modality="photo", dimensions=2, channels=["r", "g", "b"]))
    assert colour.volume.array[:, 0, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.real_data
def test_real_lobes_merge_and_a_dicom_series_meets_a_flipped_label_map(shared_data, tmp_path, task):
    """TotalSegmentator's example: DICOM in LPS, its label map stored as LAS; the liver has 89 HU where they meet."""
    from medseg.data.check import check_cases
    from medseg.data.layouts import Overrides, apply_overrides, find_cases

    origin = shared_data / "lung_ct" / "totalsegmentator"
    for name, target in (
        ("images/series", "example_ct_dicom"),
        ("labels/series.nii.gz", "example_seg_dicom.nii.gz"),
        ("images/volume.nii.gz", "example_ct.nii.gz"),
        ("labels/volume.nii.gz", "example_seg_fast_force_split.nii.gz"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(origin / target)
    given = task(labels={"liver": 1, "lung": 2})
    refused = find_cases(given, tmp_path)
    assert {problem.code for problem in check_cases(refused.cases, given)} == {"undeclared-label"}
    mapped_task = apply_overrides(
        given, Overrides(map={"liver": (5,), "lung": (10, 11, 12, 13, 14)}, undeclared="background")
    )
    cases = find_cases(mapped_task, tmp_path).cases
    assert [case.id for case in cases] == ["series", "volume"] and check_cases(cases, mapped_task) == []
    scan, labelmap = read_case(cases[0], mapped_task)
    assert scan.modality == "CT" and scan.volume.array[0][labelmap.array == 1].mean() == pytest.approx(89, abs=3)
    scan, labelmap = read_case(cases[1], mapped_task)
    assert scan.volume.array[0][labelmap.array == 2].mean() < -600


@pytest.mark.parametrize(
    ("image", "label", "fits"),
    [
        ((5e-4, 5e-4, 2e-3), None, True),
        (None, (5e-4, 5e-4, 2e-3), True),
        ((5e-4, 5e-4, 2e-3), (5e-4, 5e-4, 2.01e-3), True),
        ((5e-4, 5e-4, 2e-3), (5e-4, 5e-4, 3e-3), False),
    ],
)
def test_label_stacks_fit_by_size_where_one_side_states_no_spacing(write, task, blob, image, label, fits):
    case = Case(
        "a",
        "a",
        (source_of(write("image.tif", np.arange(120).reshape(6, 5, 4), image or (1, 1, 1))),),
        source_of(write("label.tif", blob, label or (1, 1, 1))),
    )
    if fits:
        scan, labelmap = read_case(case, task(modality="microscopy"))
        assert labelmap.geometry.same_grid(scan.volume.geometry, 0.0)
        np.testing.assert_array_equal(labelmap.array, blob)
        return
    with pytest.raises(FormatError, match="spacing") as error:
        read_case(case, task(modality="microscopy"))
    assert error.value.code == "grid-mismatch"
