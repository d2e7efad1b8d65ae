"""What looks wrong beside the other cases, and what must not: each check on made-up rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medseg.core.case import Finding, Severity
from medseg.core.task import parse_task
from medseg.data.inspection import CaseRow, LabelFacts
from medseg.data.sides import Pair, pairs, swapped_sides
from medseg.data.suspicions import (
    across_cases,
    labels_in_no_case,
    merged_instances,
    no_contrast,
    other_orientation,
    other_scale,
    outside_body,
    rare_labels,
    spacing_outliers,
    tiny_specks,
)

ORGAN = LabelFacts("organ", 1, 5000, 40.0, 1, 5000.0, centroid=(0.0, 0.0, 0.0), outside=0.0)


def row(name: str, *labels: LabelFacts, **changes) -> CaseRow:
    plain = CaseRow(
        name, f"{name}.nii.gz", "nifti", None, 1, (50, 50, 20), (1.0, 1.0, 3.0), "RAS", (-1000.0, 900.0),
        (-990.0, -50.0, 400.0), content=name, group=name, label=f"{name}_label.nii.gz", labels=labels or (ORGAN,),
    )  # fmt: skip
    return replace(plain, **changes)


def rows(count: int = 6) -> list[CaseRow]:
    return [row(f"case {n}") for n in range(count)]


def only(found: dict[str, list[Finding]], case: str) -> Finding:
    assert {name for name, findings in found.items() if findings} == {case}
    (finding,) = found[case]
    return finding


def test_alike_cases_give_nothing():
    found, whole = across_cases(rows(), None)
    assert not any(found.values()) and not whole


# ---- labels ---------------------------------------------------------------------------------


def test_a_label_in_one_case_only_is_told_with_its_volume():
    slip = LabelFacts("7", 7, 12, 0.09, 1, 12.0)
    finding = only(rare_labels([*rows(2), row("odd", ORGAN, slip)]), "odd")
    assert (finding.code, finding.severity) == ("label-in-one-case", Severity.WARNING)
    assert finding.values == {"label": "7", "voxels": 12, "volume_ml": 0.09, "cases": 3}


def test_two_cases_are_too_few_to_tell_a_rare_label():
    assert not rare_labels([row("a"), row("b", ORGAN, replace(ORGAN, name="other"))])


def test_a_missing_label_is_an_info_where_nearly_all_have_it():
    both = (ORGAN, replace(ORGAN, name="other"))
    cases = [row(f"case {n}", *both) for n in range(10)]
    finding = only(rare_labels([*cases, row("odd")]), "odd")
    assert (finding.code, finding.severity) == ("label-missing", Severity.INFO)
    assert not rare_labels([*cases[:4], row("odd")])


def test_a_label_of_the_task_that_no_case_has():
    task = parse_task({"name": "t", "modality": "CT", "labels": {"organ": 1, "other": 2}}, "t")
    (finding,) = labels_in_no_case(rows(), task)
    assert finding.code == "label-in-no-case" and finding.values["label"] == "other"
    assert not labels_in_no_case(rows(), None)


@pytest.mark.parametrize(
    ("specks", "severity"),
    [
        ([(1, 0.1)], Severity.INFO),
        ([(1, 0.1)] * 10, Severity.WARNING),
        ([(2, 0.1), (1, 0.9)], Severity.WARNING),
    ],
)
def test_specks_are_odd_where_they_are_many_or_far(specks, severity):
    speckled = replace(ORGAN, pieces=1 + len(specks), specks=tuple(specks))
    finding = only(tiny_specks([*rows(), row("odd", speckled)]), "odd")
    assert (finding.code, finding.severity) == ("tiny-specks", severity)
    assert finding.values["specks"] == len(specks)


def test_small_objects_among_small_objects_are_no_specks():
    nuclei = LabelFacts("nucleus", 1, 4000, None, 30, 200.0, specks=((5, 0.9), (8, 0.9)))
    assert not tiny_specks([row(f"case {n}", nuclei) for n in range(5)])


def test_labels_outside_the_body_and_lungs_at_its_wall():
    off = replace(ORGAN, outside=0.3)
    finding = only(outside_body([*rows(), row("odd", off)]), "odd")
    assert finding.code == "label-outside-body" and finding.values["share"] == 0.3
    assert only(outside_body([row("odd", replace(ORGAN, outside=0.04, strays=1))]), "odd").values["pieces"] == 1
    assert not outside_body([row("wall", replace(ORGAN, outside=0.03))])
    assert not outside_body([row("mr", off, modality="MR")])
    assert outside_body([row("mr", replace(ORGAN, outside=0.6), modality="MR")])


def test_maps_of_few_objects_are_objects_where_the_others_are():
    many = LabelFacts("objects", 1, 900, None, 30, 30.0)
    few = row("few", *(LabelFacts(str(n), n, 20, None, 1, 20.0) for n in (1, 2, 3)))
    merged = merged_instances([row("a", many), row("b", many), few])
    assert merged[2].labels == (LabelFacts("objects", 1, 60, None, 3, 20.0),)
    assert merged_instances([few, row("c")])[0] == few


# ---- sides ----------------------------------------------------------------------------------

TASK = {"name": "t", "modality": "CT", "labels": {"A": {"value": 1, "mirror": "B"}, "B": {"value": 2, "mirror": "A"}}}


def sided(name: str, left_x: float, right_x: float, names: tuple[str, str] = ("left lung", "right lung")) -> CaseRow:
    pair = zip(names, (1, 2), (left_x, right_x), strict=True)
    return row(name, *(replace(ORGAN, name=n, value=v, centroid=(x, 0.0, 0.0)) for n, v, x in pair))


def test_left_lies_at_smaller_x_than_right():
    cases = [sided("right way", -60, 55), sided("odd", 60, -55), sided("midline", 2, -2)]
    finding = only(swapped_sides(cases, pairs(cases, None)), "odd")
    assert (finding.code, finding.severity) == ("sides-swapped", Severity.WARNING)
    assert finding.values == {"left": "left lung", "right": "right lung", "right_minus_left_mm": -115.0}


def test_codes_tell_the_sides_and_else_the_majority_does():
    raw = {**TASK, "labels": {name: {**spec} for name, spec in TASK["labels"].items()}}
    raw["labels"]["A"]["modifier"] = {"value": "24028007", "meaning": "Right"}
    raw["labels"]["B"]["modifier"] = {"value": "7771000", "meaning": "Left"}
    assert pairs([], parse_task(raw, "t")) == [Pair("B", "A", True)]
    (unknown,) = pairs([], parse_task(TASK, "t"))
    assert not unknown.known
    cases = [sided(f"case {n}", 50, -50, ("A", "B")) for n in range(9)]
    assert not swapped_sides(cases, [unknown])
    odd = sided("odd", -50, 50, ("A", "B"))
    assert only(swapped_sides([*cases, odd], [unknown]), "odd").code == "sides-swapped"
    assert not swapped_sides([*cases[:3], odd], [unknown])


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("left lung", "right lung"), 1),
        (("kidney_L", "kidney_R"), 1),
        (("Lung_Lt", "Lung_Rt"), 1),
        (("liver", "spleen"), 0),
        (("left lung", "right kidney"), 0),
        (("leftover", "brightness"), 0),
    ],
)
def test_names_that_differ_in_their_side_are_pairs(names, count):
    assert len(pairs([sided("a", 0, 0, names)], None)) == count


# ---- grids and scales -----------------------------------------------------------------------


def test_a_spacing_in_metres_is_an_outlier_and_a_mixed_set_has_none():
    finding = only(spacing_outliers([*rows(), row("odd", spacing=(0.001, 0.001, 0.003))]), "odd")
    assert finding.code == "spacing-outlier" and finding.values["median_mm"] == [1.0, 1.0, 3.0]
    mixed = [row(f"thin {n}", spacing=(1.0, 1.0, 1.0)) for n in range(3)]
    assert not spacing_outliers([*rows(), *mixed]) and not spacing_outliers(rows(3))


def test_spacing_is_compared_along_the_patients_axes():
    assert not spacing_outliers([*rows(), row("sagittal", spacing=(3.0, 1.0, 1.0), orientation="SRA")])


def test_other_axes_are_an_info():
    finding = only(other_orientation([*rows(), row("odd", orientation="LPS")]), "odd")
    assert finding.severity is Severity.INFO and finding.values == {"orientation": "LPS", "usual": "RAS"}
    _, (whole,) = across_cases([*rows(), row("odd", orientation="LPS")], None)
    assert whole.code == "orientation" and whole.values == {"orientations": {"RAS": 6, "LPS": 1}}


def test_a_ct_without_its_rescale_intercept_is_told_by_task_or_by_the_others():
    stored = row("odd", intensity=(0.0, 3000.0), percentiles=(0.0, 900.0, 1500.0))
    task = parse_task({"name": "t", "modality": "CT", "labels": {"organ": 1}}, "t")
    assert only(other_scale([stored], task), "odd").code == "intensity-range"
    assert only(other_scale([*rows(), stored], None), "odd").values == {"minimum": 0.0, "maximum": 3000.0}
    assert not other_scale([stored, *rows(3)], None)
    assert not other_scale([replace(stored, modality="CT")], task)  # its reader knows the units


def test_a_ct_among_mr_and_pet_in_other_units():
    task = parse_task({"name": "t", "modality": "MR", "labels": {"organ": 1}}, "t")
    assert only(other_scale([row("odd")], task), "odd").code == "intensity-range"
    suv = [row(f"case {n}", intensity=(0.0, 8.0 + n), percentiles=(0.0, 0.5, 6.0)) for n in range(6)]
    pet = parse_task({"name": "t", "modality": "PT", "labels": {"organ": 1}}, "t")
    assert not other_scale(suv, pet)
    assert only(other_scale([*suv, replace(suv[0], id="odd", intensity=(0.0, 40000.0))], pet), "odd")


def test_mr_scales_differ_and_are_no_finding():
    scales = [row(f"case {n}", intensity=(0.0, 10.0**n), percentiles=(0.0, 1.0, 8.0)) for n in range(1, 7)]
    task = parse_task({"name": "t", "modality": "MR", "labels": {"organ": 1}}, "t")
    assert not other_scale(scales, task) and not other_scale(scales, None)


def test_an_image_of_one_value_shows_nothing():
    assert only(no_contrast([*rows(), row("odd", intensity=(5.0, 5.0))]), "odd").code == "no-contrast"


def test_broken_cases_say_nothing_about_the_others():
    broken = Finding("grid-mismatch", Severity.ERROR, "elsewhere")
    odd = row("odd", replace(ORGAN, name="other"), findings=(broken,))
    found, _ = across_cases([*rows(), odd], None)
    assert not any(found.values())
