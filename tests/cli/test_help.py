"""Help texts, start-up cost and what becomes of errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import medseg
from medseg.cli import app as cli_app
from medseg.core.errors import DataError, FormatError, MedsegError, UsageError

Run = Callable[..., "subprocess.CompletedProcess[str]"]
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "help"
COMMANDS = [
    "train", "predict", "evaluate", "compare", "study", "init", "inspect", "prepare", "augment", "tasks", "models",
    "sample", "export-labels", "import", "batch status", "batch report",
]  # fmt: skip


def test_help_of_medseg_matches_the_golden_file(cli: Run) -> None:
    _compare("medseg", cli("--help").stdout)


def test_help_of_a_group_matches_its_golden_file(cli: Run) -> None:
    _compare("batch", cli("batch", "--help").stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_matches_its_golden_file_and_has_an_example(cli: Run, command: str) -> None:
    text = cli(*command.split(), "--help").stdout
    assert "Example:" in text and f"medseg {command}" in text
    assert "--debug" in text
    _compare(command.replace(" ", "-"), text)


def test_every_command_has_a_golden_file() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {
        "medseg", "batch", *(command.replace(" ", "-") for command in COMMANDS)
    }  # fmt: skip


def _compare(name: str, text: str) -> None:
    """Word by word: how typer breaks lines and marks types differs between its versions."""
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert _words(text) == _words(expected), f"{name}: the help changed; write it to {GOLDEN.name}/{name}.txt anew"


def _words(text: str) -> list[str]:
    return [word for word in text.split() if word not in ("<path>", "PATH")]


def test_medseg_alone_prints_its_help(cli: Run) -> None:
    result = cli()
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: medseg")


def test_version(process: Run) -> None:
    result = process("--version")
    assert result.returncode == 0
    assert result.stdout == f"medseg {medseg.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = {"numpy", "torch", "nibabel", "rich", "yaml", "scipy", "SimpleITK", "pydicom", "matplotlib"}
    if arguments[0].startswith("-"):  # newer versions of typer check a command's own options with pydantic
        heavy.add("pydantic")
    code = (
        "import sys\n"
        "from medseg.cli import main\n"
        f"sys.argv = ['medseg', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"sys.exit(', '.join(sorted({heavy!r} & set(sys.modules))) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "No such option: --nonsense"),
        (["train", "--nonsense"], "No such option: --nonsense"),
        (["train"], "--task says what to learn"),
        (["train", "--resume"], "--resume needs the run folder"),
        (["train", "a", "-o", "b", "--task", "x"], "two run folders are given"),
        (["train", "--task", "x", "--time-budget", "soon"], "--time-budget: 'soon' is not a duration"),
        (["train", "--task", "x", "--set", "batch"], "--set 'batch': write it as key=value"),
        (["train", "--task", "x", "--map", "lung=a"], "--map 'lung=a'"),
        (["train", "--task", "x", "--fold", "one"], "Invalid value for '--fold'"),
        (["predict"], "Missing argument 'SCANS'"),
        (["predict", "scans"], "--model says"),
        (["predict", "scans", "--model", "run"], "-o says where"),
        (["evaluate", "a", "b"], "-o says where"),
        (["prepare"], "--task says"),
        (["augment"], "--task says"),
        (["sample"], "say where the sample data go"),
        (["import", "a"], "-o says where"),
        (["export-labels", "a"], "--images and -o say"),
    ],
)
def test_wrong_use_is_one_line_on_stderr_and_exit_code_2(cli: Run, arguments: list[str], words: str) -> None:
    result = cli(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.startswith("medseg: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (MedsegError("this cannot be"), 1, "medseg: this cannot be\n"),
        (UsageError("not so"), 2, "medseg: not so\n"),
        (FormatError("a.nii", "is empty"), 1, "medseg: a.nii: is empty\n"),
        (DataError("two problems:", ["a", "b"]), 1, "medseg: two problems:\n  - a\n  - b\n"),
        (PermissionError(13, "Permission denied", "out"), 1, "medseg: out: Permission denied\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (
            ValueError("odd\nthing"),
            70,
            "medseg: internal error (ValueError: odd thing); run again with --debug to see where\n",
        ),
    ],
)
def test_errors_are_one_sentence(
    cli: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    _raise_in_tasks(monkeypatch, error)
    result = cli("tasks")
    assert (result.returncode, result.stdout, result.stderr) == (code, "", sentence)


@pytest.mark.parametrize("arguments", [["--debug", "tasks"], ["tasks", "--debug"]])
def test_debug_shows_the_traceback_too(cli: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    _raise_in_tasks(monkeypatch, ValueError("odd"))
    result = cli(*arguments)
    assert result.returncode == cli_app.EXIT_BUG
    assert "Traceback" in result.stderr and "ValueError: odd" in result.stderr


def _raise_in_tasks(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    from medseg.workflows import tasks

    def fail() -> None:
        raise error

    monkeypatch.setattr(tasks, "tasks", fail)
