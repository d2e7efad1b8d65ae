"""Running the command line in this process and in one of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from medseg.cli.app import app

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli() -> Run:
    """Run a command in this process: cli("tasks", "--json") -> CompletedProcess."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        result = CliRunner().invoke(app, list(args), prog_name="medseg", terminal_width=80)
        return subprocess.CompletedProcess(list(args), result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def process() -> Run:
    """Run `python -m medseg` in a process of its own."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medseg", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run
