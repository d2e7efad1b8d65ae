"""`medseg compare` and `medseg study`: what they refuse before anything is trained, and their exit codes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.cli.compare import exit_code

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--models", "unet", "--steps", "3"], "--task says what to learn"),
        (["compare", "--task", "cells_2d", "--steps", "3"], "--models says what to compare"),
        (["compare", "--task", "cells_2d", "--models", "unet"], "one of the two"),
        (["compare", "--task", "cells_2d", "--models", "unet", "--steps", "3", "--budget", "1m"], "one of the two"),
        (["compare", "--task", "cells_2d", "--models", "unet", "--budget", "soon"], "--budget: 'soon' is not"),
        (["compare", "--task", "cells_2d", "--models", "nonesuch", "--steps", "3"], "there is no model 'nonesuch'"),
        (["compare", "--task", "cells_2d", "--models", "unet", "--steps", "3", "--seeds", "a"], "write whole numbers"),
        (["compare", "--task", "cells_2d", "--models", "unet", "--steps", "3", "--seeds", "1,1"], "each seed once"),
        (["study", "cells_few_labels", "--steps", "3", "--budget", "1m"], "exclude each other"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_sentence(
    cli: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = cli(*arguments, "-o", str(tmp_path / "out"))
    assert result.returncode == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_study_that_there_is_not_is_refused_with_those_there_are(cli: Run) -> None:
    result = cli("study", "nonesuch")
    assert result.returncode == 1 and "cells_few_labels" in result.stderr


def test_the_exit_code_tells_whether_some_or_all_trainings_failed() -> None:
    finished, failed = {"state": "finished"}, {"state": "failed"}
    assert [exit_code(one) for one in ([finished], [finished, failed], [failed])] == [0, 1, 2]
