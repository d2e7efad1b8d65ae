"""Fixtures that every room's tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Worker processes import the tests by name; last, so that the installed medseg stays the one that is tested.
sys.path.append(str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real labelled data beside the checkout; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "write tests/golden/series.json anew from the real data instead of comparing with it"
    parser.addoption("--regenerate-series", action="store_true", help=text)
