"""Cleaning a label map: largest pieces and specks."""

from __future__ import annotations

import tracemalloc
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.core.geometry import Geometry
from medseg.core.task import parse_task
from medseg.core.volume import LabelMap
from medseg.inference import postprocess


def cleaned(array: np.ndarray[Any, Any], rules: dict[str, Any], spacing: float = 1.0) -> np.ndarray[Any, Any]:
    task = parse_task(
        {"name": "t", "modality": "CT", "labels": {"left": 1, "right": 2}, "postprocess": rules}, "t"
    )  # fmt: skip
    labelmap = LabelMap(array, Geometry.from_spacing((spacing,) * 3, array.shape), task.label_table())
    before = array.copy()
    result = postprocess(labelmap, task)
    assert np.array_equal(array, before)  # the input is left alone
    assert result.labels == labelmap.labels
    return result.array


def pieces() -> np.ndarray[Any, Any]:
    array = np.zeros((12, 10, 8), dtype=np.uint8)
    array[0:4, 0:4, 0:4] = 1  # 64 voxels
    array[6:8, 6:8, 6:8] = 1  # 8 voxels
    array[8:12, 0:4, 0:4] = 2  # 64 voxels
    array[11, 9, 7] = 2  # 1 voxel
    return array


def test_without_rules_nothing_changes() -> None:
    assert np.array_equal(cleaned(pieces(), {}), pieces())


def test_only_the_largest_piece_of_the_named_labels_stays() -> None:
    expected = pieces()
    expected[6:8, 6:8, 6:8] = 0
    assert np.array_equal(cleaned(pieces(), {"keep_largest": ["left"]}), expected)


def test_pieces_below_the_volume_go() -> None:
    expected = pieces()
    expected[11, 9, 7] = 0
    assert np.array_equal(cleaned(pieces(), {"min_volume_ml": 0.008}), expected)
    expected[6:8, 6:8, 6:8] = 0
    assert np.array_equal(cleaned(pieces(), {"min_volume_ml": 0.009}), expected)
    assert np.array_equal(cleaned(pieces(), {"min_volume_ml": 0.008}, spacing=2.0), pieces())


def test_the_largest_piece_too_may_be_too_small() -> None:
    assert not cleaned(pieces(), {"keep_largest": ["left", "right"], "min_volume_ml": 1.0}).any()


def test_pieces_that_touch_by_a_corner_are_one() -> None:
    array = np.zeros((4, 4, 4), dtype=np.uint8)
    array[0, 0, 0] = array[1, 1, 1] = 1
    assert np.array_equal(cleaned(array, {"keep_largest": ["left"]}), array)


def test_labels_that_touch_are_told_apart_and_empty_maps_stay_empty() -> None:
    array = np.zeros((6, 2, 2), dtype=np.uint8)
    array[:3], array[3:] = 1, 2
    assert np.array_equal(cleaned(array, {"keep_largest": ["left", "right"]}), array)
    assert not cleaned(np.zeros((3, 3, 3), dtype=np.uint8), {"keep_largest": ["left"]}).any()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    filled=st.sampled_from([0.1, 0.25, 0.5]),
    rules=st.sampled_from([{"keep_largest": ["left"]}, {"min_volume_ml": 0.004}, {"keep_largest": ["left", "right"]}]),
)
def test_pieces_that_reach_through_slabs_are_one(
    seed: int, shape: tuple[int, int, int], filled: float, rules: dict[str, Any]
) -> None:
    rng = np.random.default_rng(seed)
    array = (rng.integers(1, 3, shape) * (rng.random(shape) < filled)).astype(np.uint8)
    whole = cleaned(array, rules)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(import_module("medseg.inference.postprocess"), "_SLAB_VOXELS", 2 * shape[1] * shape[2])
        assert np.array_equal(cleaned(array, rules), whole)
    for value, name in ((1, "left"), (2, "right")):
        pieces, _ = ndimage.label(array == value, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())
        kept = np.flatnonzero(sizes >= 1000 * rules.get("min_volume_ml", 0))
        if name in rules.get("keep_largest", []) and len(sizes) > 1:
            kept = np.array([sizes[1:].argmax() + 1])
        assert np.array_equal(whole == value, np.isin(pieces, kept[kept > 0]))


def test_memory_of_a_large_map_stays_bounded() -> None:
    array = np.ones((400, 160, 160), dtype=np.uint8)
    array[200] = 0
    task = parse_task(
        {"name": "t", "modality": "CT", "labels": {"body": 1}, "postprocess": {"keep_largest": ["body"]}}, "t"
    )  # fmt: skip
    labelmap = LabelMap(array, Geometry.from_spacing((1.0, 1.0, 1.0), array.shape), task.label_table())
    tracemalloc.start()
    try:
        result = postprocess(labelmap, task)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.array.sum() == 200 * 160 * 160
    assert peak < array.nbytes + 70e6  # numbering all of it at once takes 120 MB more than the map
