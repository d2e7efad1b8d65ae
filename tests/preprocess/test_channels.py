"""Which channels fit which task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.core.case import Scan, Source
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.task import Task, parse_task
from medseg.core.volume import Volume
from medseg.preprocess import fit_channels

GEOMETRY = Geometry.from_spacing((1, 1, 1), (4, 5, 1))


def scan(channels: int, kind: str = "image") -> Scan:
    array = np.random.default_rng(channels).uniform(0, 255, (channels, 4, 5, 1)).astype(np.float32)
    source = Source(Path("cells.png"), (Path("cells.png"),), kind, "cells")
    return Scan(source, Volume(array, GEOMETRY))


def task(*channels: str, modality: str = "photo") -> Task:
    raw = {"name": "t", "modality": modality, "channels": list(channels), "labels": {"x": 1}}
    return parse_task(raw, "t.yaml")


GREY, COLOR = task("image"), task("red", "green", "blue")


def test_fitting_scans_pass_untouched() -> None:
    given = scan(3)
    assert fit_channels(given, COLOR) is given


def test_transparency_is_dropped() -> None:
    given = scan(4)
    np.testing.assert_array_equal(fit_channels(given, COLOR).volume.array, given.volume.array[:3])
    grey = scan(2)
    np.testing.assert_array_equal(fit_channels(grey, GREY).volume.array, grey.volume.array[:1])


@pytest.mark.parametrize("channels", [3, 4])
def test_color_becomes_grey(channels: int) -> None:
    given = scan(channels)
    out = fit_channels(given, GREY).volume.array
    red, green, blue = given.volume.array[:3]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0], 0.299 * red + 0.587 * green + 0.114 * blue, rtol=1e-5)


def test_grey_becomes_color_for_color_tasks_only() -> None:
    out = fit_channels(scan(1), COLOR).volume.array
    assert out.shape == (3, 4, 5, 1) and (out == out[:1]).all()
    with pytest.raises(FormatError, match=r"cells\.png: has 1 channel, but task 't' needs 3 \(t1, t2, flair\)"):
        fit_channels(scan(1), task("t1", "t2", "flair", modality="MR"))


def test_channels_of_volumes_are_not_colors() -> None:
    with pytest.raises(FormatError, match="has 3 channels") as caught:
        fit_channels(scan(3, "nifti"), GREY)
    assert caught.value.code == "wrong-channels"
