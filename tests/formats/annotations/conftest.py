"""Small pictures for annotations to lie on, and reading everything in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.formats.annotations import Picture, load

Write = Callable[..., Path]
Read = Callable[[Path, str], dict[str, Picture]]


@pytest.fixture
def write_image() -> Write:
    """Write a grey picture: write_image(path, rows, columns)."""

    def write(path: Path, rows: int = 8, columns: int = 10) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((rows, columns), 90, dtype=np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def read_all() -> Read:
    """All pictures of a source by name: read_all(folder, "cvat")."""

    def read(folder: Path, name: str) -> dict[str, Picture]:
        return {pending.name: pending.read() for pending in load(folder, name).pictures}

    return read
