"""What a scan and its label map measure, on arrays small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.case import Scan, Source
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.data.facts import content_hash, label_facts, outside_body, percentiles

GEOMETRY = Geometry.from_spacing((1, 2, 5), (12, 10, 8), origin=(-5, 0, 100))


def labelmap(array: np.ndarray, geometry: Geometry = GEOMETRY) -> LabelMap:
    return LabelMap(array.astype(np.int32), geometry)


def scan(array: np.ndarray, modality: str | None = None, geometry: Geometry = GEOMETRY) -> Scan:
    source = Source(Path("a.nii.gz"), (Path("a.nii.gz"),), "nifti", "a")
    return Scan(source, Volume(array[None].astype(np.float32), geometry), modality)


def test_volume_pieces_and_centroid_of_a_label():
    array = np.zeros(GEOMETRY.shape)
    array[2:4, 1:4, 2:6] = 3
    array[9, 9, 7] = 3
    array[4, 4, 6] = 3  # touches the block by a corner, so it belongs to it
    (label,) = label_facts(labelmap(array), {3: "box"}, picture=False)
    assert (label.name, label.value, label.voxels, label.pieces) == ("box", 3, 26, 2)
    assert label.volume_ml == pytest.approx(26 * 10 / 1000)
    assert label.typical_piece == 25 and label.specks == ((1, pytest.approx(label.specks[0][1])),)
    expected = GEOMETRY.to_world(np.argwhere(array == 3).mean(axis=0, keepdims=True))[0]
    assert label.centroid == pytest.approx(tuple(expected))


def test_a_speck_is_small_beside_its_label_and_its_reach_counts_in_extents_of_the_rest():
    array = np.zeros((60, 8, 8))
    array[0:10] = 1
    array[50, 4, 4] = 1
    (label,) = label_facts(labelmap(array, Geometry.from_spacing((1, 1, 1), array.shape)), {}, picture=False)
    assert label.name == "1" and label.pieces == 2
    assert label.specks == ((1, pytest.approx(41 / 10)),)


def test_pictures_have_pixels_and_no_millimetres():
    array = np.zeros((9, 9, 1))
    array[1:3, 1:3] = 1
    (label,) = label_facts(labelmap(array, Geometry(np.eye(4), array.shape)), {1: "cell"}, picture=True)
    assert label.voxels == 4 and label.volume_ml is None and label.centroid is None


def test_numbers_without_gaps_and_names_count_objects():
    array = np.arange(30 * 30).reshape(30, 30, 1) // 30 % 10
    flat = Geometry(np.eye(4), array.shape)
    (objects,) = label_facts(labelmap(array, flat), {}, picture=True)
    assert (objects.name, objects.pieces, objects.voxels) == ("objects", 9, int((array > 0).sum()))
    named = {value: f"organ {value}" for value in range(1, 10)}
    assert [label.name for label in label_facts(labelmap(array, flat), named, picture=True)] == list(named.values())


def test_negative_values_are_no_labels():
    array = np.zeros(GEOMETRY.shape)
    array[0, 0, 0], array[1, 1, 1] = -3, 2
    assert [label.value for label in label_facts(labelmap(array), {}, picture=False)] == [2]


@given(st.permutations([0, 1, 2]), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_content_is_the_same_in_every_orientation_and_not_for_other_values(axes, flips):
    array = np.arange(4 * 3 * 2, dtype=np.float32).reshape(1, 4, 3, 2)
    geometry = Geometry.from_spacing((1, 1, 2), (4, 3, 2))
    turned = array.transpose(0, *(1 + axis for axis in axes))
    turned = np.flip(turned, tuple(1 + axis for axis, flip in enumerate(flips) if flip))
    other = Volume(turned, geometry.reordered(tuple(axes), flips))
    assert content_hash(other) == content_hash(Volume(array, geometry))
    changed = turned.copy()
    changed[0, 0, 0, 0] += 1
    assert content_hash(Volume(changed, other.geometry)) != content_hash(other)


def test_minus_zero_is_zero_and_shapes_count():
    geometry = Geometry.from_spacing((1, 1, 1), (2, 2, 2))
    zeros = np.zeros((1, 2, 2, 2), dtype=np.float32)
    assert content_hash(Volume(-zeros, geometry)) == content_hash(Volume(zeros, geometry))
    flat = Geometry.from_spacing((1, 1, 1), (4, 2, 1))
    assert content_hash(Volume(zeros.reshape(1, 4, 2, 1), flat)) != content_hash(Volume(zeros, geometry))


def test_percentiles_of_a_large_array_come_from_a_sample_of_it():
    array = np.tile(np.arange(1000, dtype=np.float32), 3000)
    assert percentiles(array) == pytest.approx((5, 500, 995), abs=2)


# ---- the body -------------------------------------------------------------------------------


def body(modality: str | None = "CT", air: float = -1000, inside: float = 40) -> Scan:
    """A body of 20×20 voxels with a pocket of air inside, in 40×40 of air; its last axis is the patient's."""
    array = np.full((40, 40, 6), air)
    array[10:30, 10:30] = inside
    array[15:20, 15:20] = air
    return scan(array, modality, Geometry.from_spacing((2, 2, 5), array.shape))


def test_air_inside_the_body_is_not_outside():
    one = body()
    label = np.zeros((40, 40, 6), dtype=bool)
    label[15:20, 15:20] = True
    outside = outside_body(one, label)
    assert outside is not None and outside.air and not outside.voxels.any()


@pytest.mark.parametrize("modality", ["CT", None])
def test_what_lies_in_the_air_around_is_counted_piece_by_piece(modality):
    one = body(modality)
    array = np.zeros((40, 40, 6))
    array[12:28, 12:28] = 1
    array[0:4, 0:4] = 1
    outside = outside_body(one, array > 0)
    (label,) = label_facts(labelmap(array, one.volume.geometry), {}, False, outside)
    assert label.outside == pytest.approx(16 / 272) and label.strays == 1


def test_the_axial_plane_is_found_whatever_the_axes():
    one = body()
    label = np.zeros((40, 40, 6), dtype=bool)
    label[0:4, 0:4] = True
    axes, flips = (2, 0, 1), (True, False, True)
    geometry = one.volume.geometry.reordered(axes, flips)

    def turned(array):
        return np.flip(array.transpose(axes), tuple(axis for axis, flip in enumerate(flips) if flip))

    other = replace(one, volume=Volume(turned(one.volume.array[0])[None], geometry))
    outside = outside_body(other, turned(label))
    assert outside is not None and outside.voxels.sum() == label.sum()


def test_mr_is_judged_by_darkness_and_pictures_not_at_all():
    one = body("MR", air=3, inside=400)
    label = np.zeros((40, 40, 6), dtype=bool)
    label[0:4, 0:4] = True
    outside = outside_body(one, label)
    assert outside is not None and not outside.air and outside.voxels.sum() == label.sum()
    assert (
        outside_body(scan(np.zeros((5, 5, 1)), None, Geometry(np.eye(4), (5, 5, 1))), np.ones((5, 5, 1), bool)) is None
    )
