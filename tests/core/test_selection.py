"""Selection rules: nothing is excluded by default, and every rule gives its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.core.case import Source
from medseg.core.errors import TaskError
from medseg.core.geometry import Geometry
from medseg.core.selection import Selection
from medseg.core.task import Task, parse_task

AXIAL = Geometry.from_spacing((0.8, 0.8, 2.5), (512, 400, 60))
# k runs from back to front, and from left to right.
CORONAL = Geometry(np.array([[0.8, 0, 0, 0], [0, 0, 2.5, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]]), (512, 400, 60))
SAGITTAL = Geometry(np.array([[0, 0, 2.5, 0], [0.8, 0, 0, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]]), (512, 400, 60))


def series(description: str = "Thorax 1.0 I70f", image_type: str = "ORIGINAL\\PRIMARY\\AXIAL") -> Source:
    return Source(Path("s"), (), "dicom", "s", "CT", description=description, image_type=image_type)


def task(**selection: object) -> Task:
    return parse_task({"name": "t", "modality": "CT", "labels": {"a": 1}, "selection": selection}, "t.yaml")


def test_nothing_is_excluded_by_default() -> None:
    rules = parse_task({"name": "t", "modality": "CT", "labels": {"a": 1}}, "t.yaml").selection
    assert rules == Selection() and rules.unfit_header(series("", "")) == ""
    for geometry in (AXIAL, CORONAL, SAGITTAL, Geometry(np.eye(4), (1, 1, 1))):
        assert rules.unfit_grid(geometry, picture=False) == rules.unfit_grid(geometry, picture=True) == ""


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"exclude_image_types": ["derived"]}, "its image type matches 'derived'"),
        ({"exclude_descriptions": ["MIP"]}, "its series description matches 'MIP'"),
        ({"include_descriptions": ["lung", "thorax"]}, "its series description matches none"),
    ],
)
def test_words_of_headers_are_judged_without_being_repeated(rules: dict[str, object], reason: str) -> None:
    selection = task(**rules).selection
    odd = series("Mip for Mrs Mustermann", "DERIVED\\SECONDARY\\MPR")
    assert reason in selection.unfit_header(odd) and "Mustermann" not in selection.unfit_header(odd)
    assert selection.unfit_header(series()) == ""
    assert selection.unfit_header(Source(Path("a.nii"), (), "nifti", "a")) == ""


@pytest.mark.parametrize(
    ("rules", "geometry", "reason"),
    [
        ({"orientation": ["axial"]}, CORONAL, "it is coronal, and the task is for axial series"),
        ({"orientation": ["axial", "coronal"]}, SAGITTAL, "it is sagittal, and the task is for axial or coronal"),
        ({"pixel_spacing": [0.9, 2]}, AXIAL, "its pixel spacing of 0.8×0.8 mm is outside the task's 0.9 to 2 mm"),
        ({"slice_spacing": [0, 2]}, AXIAL, "its slice spacing of 2.5 mm is outside"),
        ({"slice_spacing": [0, 2]}, SAGITTAL, "its slice spacing of 2.5 mm is outside"),
        ({"min_coverage": [0, 0, 151]}, AXIAL, "it covers 150 mm feet-head, less than the 151 mm"),
        ({"min_coverage": [420, 0, 0]}, AXIAL, "it covers 410 mm left-right"),
        ({"min_slices": 61}, AXIAL, "it has 60 slices, fewer than the 61"),
    ],
)
def test_grids_are_judged(rules: dict[str, object], geometry: Geometry, reason: str) -> None:
    selection = task(**rules).selection
    assert selection.unfit_grid(geometry, picture=False).startswith(reason)
    fitting = {"orientation": ["axial", "coronal", "sagittal"], "pixel_spacing": [0.8, 0.8], "min_slices": 60}
    assert task(**fitting, slice_spacing=[2.5, 2.5]).selection.unfit_grid(geometry, picture=False) == ""


def test_headers_that_tell_the_grid_are_enough() -> None:
    rules = task(orientation=["axial"], exclude_image_types=["mip"]).selection
    assert rules.unfit_header(replace(series(), grid=CORONAL)).startswith("it is coronal")
    assert rules.unfit_header(replace(series(image_type="MIP"), grid=CORONAL)).startswith("its image type")
    assert rules.unfit_header(replace(series(), grid=AXIAL)) == ""


def test_pictures_have_no_plane_and_no_millimetres() -> None:
    rules = task(orientation=["coronal"], pixel_spacing=[5, 6], min_coverage=[1000, 1000, 1000]).selection
    assert rules.unfit_grid(Geometry(np.eye(4), (300, 200, 1)), picture=True) == ""


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"orientaton": ["axial"]}, "unknown key 'selection.orientaton'; allowed are orientation, pixel_spacing"),
        ({"orientation": ["oblique"]}, "'axial', 'coronal' or 'sagittal'"),
        ({"slice_spacing": [3, 1]}, "slice_spacing is the lowest and the highest"),
        ({"min_slices": 0}, "min_slices is a number of slices above 0"),
        ({"min_coverage": [-1, 0, 0]}, "min_coverage holds three lengths"),
        ({"exclude_descriptions": ["(scout"]}, "is not a regular expression"),
    ],
)
def test_impossible_rules_are_refused_by_name(rules: dict[str, object], words: str) -> None:
    with pytest.raises(TaskError) as caught:
        task(**rules)
    assert words in str(caught.value)


def test_the_rules_go_into_the_bundle_as_plain_data() -> None:
    rules = task(orientation=["axial"], pixel_spacing=[0.5, 1], exclude_descriptions=["scout"])
    assert parse_task(rules.model_dump(mode="json"), "task.json") == rules
