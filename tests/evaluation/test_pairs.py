"""Which files belong together, and label maps brought from one grid onto another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.case import Source
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap
from medseg.evaluation.grid import onto_grid
from medseg.evaluation.matching import first_channels, match, without_helpers


def _sources(*names: str, root: str = "r", kind: str = "nifti") -> list[Source]:
    return [Source(Path(root, f"{name}.nii.gz"), (), kind, name) for name in names]


def _named(predictions: list[str], references: list[str]) -> tuple[dict[str, str], list[str], list[str]]:
    found = match(_sources(*predictions), _sources(*references))
    pairs = {reference.name: prediction.name for reference, prediction in found.pairs}
    return pairs, [s.name for s in found.missing], [s.name for s in found.extra]


def test_whole_names_come_first() -> None:
    assert _named(["a/x", "b/x", "c"], ["a/x", "b/x", "d"]) == ({"a/x": "a/x", "b/x": "b/x"}, ["d"], ["c"])


def test_unique_stems_match_across_folders() -> None:
    assert _named(["deep/down/x", "y"], ["x", "other/y"]) == ({"x": "deep/down/x", "other/y": "y"}, [], [])
    assert _named(["a/x", "b/x"], ["x"]) == ({}, ["x"], ["a/x", "b/x"])


def test_channel_numbers_and_words_are_overlooked() -> None:
    assert _named(["case1_0000", "case2_ct"], ["case1", "case2_seg"])[0] == {
        "case1": "case1_0000",
        "case2_seg": "case2_ct",
    }


def test_what_predict_writes_beside_label_maps_is_left_out() -> None:
    sources = _sources("x", "sub/previews/x", "previews/x") + _sources("y", kind="dicom")
    assert [s.name for s in without_helpers(sources, Path("r"))] == ["x"]


def test_one_image_per_case() -> None:
    sources = _sources("a_0000", "a_0001", "b_0001", "c")
    assert [s.name for s in first_channels(sources)] == ["a_0000", "b_0001", "c"]


def test_a_shifted_grid_takes_the_nearest_label_and_background_outside() -> None:
    array = np.zeros((4, 4, 4), np.uint8)
    array[1:3, 1:3, 1:3] = 1
    array[3] = 2
    given_map = LabelMap(array, Geometry.from_spacing((1, 1, 1), (4, 4, 4)))
    moved = onto_grid(given_map, Geometry.from_spacing((1, 1, 1), (4, 4, 4), (1.2, 0, 0))).array
    assert (moved[:3] == array[1:]).all() and (moved[3] == 0).all()


def test_half_a_voxel_beyond_the_last_centre_is_still_inside() -> None:
    given_map = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2), (2, 2, 2)))
    fine = onto_grid(given_map, given_map.geometry.resampled((8, 8, 8)))
    assert fine.array.all()
    wide = onto_grid(given_map, given_map.geometry.cropped((-1, -1, -1), (3, 3, 3)))
    assert wide.array.sum() == 8


@settings(max_examples=25, deadline=None)
@given(
    st.permutations([0, 1, 2]),
    st.tuples(*(st.booleans() for _ in range(3))),
    st.integers(0, 2**31),
)
def test_reordered_axes_come_back_exactly(order: list[int], flips: tuple[bool, bool, bool], seed: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = Geometry(np.diag([1.5, 0.8, 3.0, 1.0]), (5, 4, 3))
    array = rng.integers(0, 4, geometry.shape).astype(np.uint8)
    axes = (order[0], order[1], order[2])
    turned = np.flip(array.transpose(axes), tuple(axis for axis, flip in enumerate(flips) if flip))
    back = onto_grid(LabelMap(turned, geometry.reordered(axes, flips)), geometry)
    assert (back.array == array).all()
