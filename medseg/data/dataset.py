"""The cases of one data folder, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.core.case import Case, Finding, Severity
from medseg.core.errors import DataError, FormatError


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one case: `message` is a sentence that names the file.

    `code` is a stable word (see `medseg.core.case.Finding`): unpaired, ambiguous, missing-file,
    duplicate-id, wrong-channels, grid-mismatch, undeclared-label, empty-label, wrong-dimensions,
    wrong-modality, unreadable and the other codes of `medseg.formats`. Errors keep the case from
    being used, warnings do not. `values` holds the numbers behind the sentence.
    """

    case: str
    code: str
    message: str
    severity: Severity = Severity.ERROR
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def found(cls, case: str, path: Path, finding: Finding) -> Problem:
        """The problem that a finding about a file makes for its case."""
        return cls(case, finding.code, f"{path}: {finding.message}", finding.severity, finding.values)

    @classmethod
    def of(cls, case: str, error: FormatError) -> Problem:
        """The problem that a file which cannot be used makes for its case."""
        return cls(case, error.code, str(error))


@dataclass(frozen=True, slots=True)
class Dataset:
    """What was found in a data folder.

    cases: image and label are both there, sorted by id; unlabelled: images without a label, which
    is no fault (a note tells them); problems: what is wrong with the pairing (what is wrong inside
    the files: see `medseg.data.check`); layout: how the folder is laid out, in words; notes:
    sentences worth showing.
    """

    cases: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    problems: tuple[Problem, ...]
    layout: str
    notes: tuple[str, ...] = ()


def refuse(summary: str, problems: Iterable[Problem]) -> DataError:
    """One error that tells all `problems`, those of one case together."""
    ordered = sorted(problems, key=lambda problem: problem.case)
    return DataError(summary, [f"{problem.case}: {problem.message}" for problem in ordered])
