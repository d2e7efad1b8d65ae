"""Errors that a user can act on: one sentence that names the file or key and says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class MedsegError(Exception):
    """Base of every error medseg raises on purpose; its text is one sentence for the user."""


class TaskError(MedsegError):
    """A task file holds an unknown key, a wrong type or an impossible value."""


class PlanError(MedsegError):
    """A plan, or an override of it, cannot work."""


class BundleError(MedsegError):
    """A bundle is missing, damaged, foreign or written by a newer medseg."""


class UsageError(MedsegError):
    """What was asked for cannot be done with what was given."""


class MissingDependencyError(MedsegError):
    """An optional package is not installed; the text says how to install it."""


class FormatError(MedsegError):
    """A file cannot be read (or written) as what it claims to be.

    `code` is one of the stable finding codes (see `medseg.core.case.Finding`), so that a refused
    scan carries the same word in every report.
    """

    def __init__(self, path: Path | str, reason: str, code: str = "unreadable") -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason
        self.code = code


class DataError(MedsegError):
    """Training data has problems; all of them are reported together, each naming its file."""

    def __init__(self, summary: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([summary, *(f"  - {problem}" for problem in self.problems)]))
