"""The cell phantoms: determinism, kinds, instances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.phantoms import cells
from medseg.phantoms.microscopy import KINDS


@pytest.mark.parametrize("seed", range(4))
def test_one_seed_gives_one_picture(seed: int) -> None:
    first, again = cells(seed), cells(seed)
    assert np.array_equal(first.volume.array, again.volume.array)
    assert np.array_equal(first.labelmap.array, again.labelmap.array)


@pytest.mark.parametrize("seed", range(8))
def test_pictures_are_what_their_kind_says(seed: int) -> None:
    phantom = cells(seed)
    kind = KINDS[seed]
    assert phantom.volume.array.dtype == np.uint8
    assert phantom.volume.array.shape == (3 if kind == "tissue" else 1, 256, 256, 1)
    inside = phantom.labelmap.array > 0
    grey = phantom.volume.array.mean(axis=0)
    brighter = np.median(grey[inside]) > np.median(grey[~inside])
    assert brighter == (kind == "fluorescence")


@pytest.mark.parametrize("seed", range(8))
def test_every_nucleus_has_its_number_and_some_touch(seed: int) -> None:
    labels = cells(seed).labelmap.array[..., 0]
    count = int(labels.max())
    assert sorted(np.unique(labels)) == list(range(count + 1))
    assert count >= 6
    _, pieces = ndimage.label(labels > 0, structure=np.ones((3, 3)))
    assert pieces < count
