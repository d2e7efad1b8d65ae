"""Silence ends when the last reader leaves, and takes nobody else's words away."""

from __future__ import annotations

import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.formats import read, source_of
from medseg.formats.dicom_write import write_series
from medseg.formats.quiet import quiet, without_chatter


def test_warnings_and_loggers_are_back_afterwards() -> None:
    before = list(warnings.filters)
    with quiet(), quiet():
        warnings.warn("not heard", UserWarning, stacklevel=1)
        assert logging.getLogger("pydicom").disabled
    assert warnings.filters == before
    assert not logging.getLogger("pydicom").disabled
    with pytest.warns(UserWarning):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_an_error_inside_restores_them_too() -> None:
    before = list(warnings.filters)
    with pytest.raises(ValueError, match="out"), quiet():
        raise ValueError("out")
    assert warnings.filters == before


def test_readers_in_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    before = list(warnings.filters)
    volume = Volume(np.random.default_rng(0).integers(0, 9, (1, 4, 3, 5)), Geometry.from_spacing((1, 1, 2), (4, 3, 5)))
    write_series(volume, tmp_path)
    source = source_of(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(lambda _: read(source).volume.array, range(24)))
    assert all(np.array_equal(array, arrays[0]) for array in arrays)
    assert warnings.filters == before


def test_only_the_libraries_lines_are_taken_from_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, b"Unsupported JPEG data precision 12\nsomebody else's line\nMetaImage: Read: no\n")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "somebody else's line\nlater\n"
