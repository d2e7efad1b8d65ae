"""`medseg inspect`: what is in a folder, and what is wrong with it, before any compute."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg import formats
from medseg.core.case import Finding
from medseg.core.events import Listener, silent
from medseg.core.identifiers import Identifiers
from medseg.core.task import DataSpec, Task
from medseg.data.dataset import Dataset
from medseg.data.inspection import CaseRow, Inspection, retold, sorted_findings
from medseg.data.layouts import declared_labels, find_dataset
from medseg.data.leaks import (
    Parts,
    duplicate_content,
    duplicate_labels,
    patients_by_name,
    read_parts,
    same_patient,
    unknown_cases,
)
from medseg.data.shipped import find_task
from medseg.data.suspicions import across_cases, merged_instances
from medseg.workflows.looking import Look, case_rows, scan_rows

if TYPE_CHECKING:
    from medseg.bundle import Bundle

_LISTS = (".csv", ".json")


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """What a folder is held against, beside a task.

    model: a run folder or bundle: would `medseg predict` with it refuse the scans, and are they like its
    training cases? (Its task counts where none is given.) split: JSON file with train, validation and
    test lists of case ids. keep_identifiers: patients' names and ids, as DICOM headers tell them, stay
    in names and sentences instead of being replaced by pseudonyms.
    """

    model: Path | None = None
    split: Path | None = None
    keep_identifiers: bool = False


def inspect(
    path: Path | str,
    task: Task | str | Path | None = None,
    output: Path | str | None = None,
    options: InspectOptions | None = None,
    listener: Listener = silent,
) -> Inspection:
    """Look at a scan, a folder of scans, or a folder (or list) of labelled cases; with a task, check them for it.

    Every file is read, one at a time; what is wrong with one is a finding of its row. Zip archives of scans
    are looked into. With `output`, inspect.json and inspect.html (with a thumbnail of every volume) are
    written into that folder.
    Raises UsageError where there is nothing at `path` or the split file is none, TaskError for a wrong
    task, BundleError for a wrong model.
    """
    root, options = Path(path), options or InspectOptions()
    bundle = _bundle(options.model)
    wanted = task if isinstance(task, Task) or task is None else find_task(str(task))
    wanted = wanted or (bundle.task if bundle is not None else None)
    parts = read_parts(options.split) if options.split is not None else None
    dataset = _dataset(root, wanted)
    with tempfile.TemporaryDirectory(prefix="medseg-") as unpacked:
        names = _names(root) if wanted is None else {}
        look = Look(_base(root), wanted, bundle, names, output is not None, Path(unpacked))
        if dataset is None:
            rows, notes = scan_rows(root, look, listener), []
        else:
            rows, notes = case_rows(dataset, look, listener), [*dataset.notes, *_others(root, dataset, look)]
    rows = [replace(row, parts=(parts or {}).get(row.id, ())) for row in merged_instances(rows)]
    found, whole = _across(rows, look, parts, labelled=dataset is not None)
    inspection = Inspection(
        root=str(root),
        layout="scans" if dataset is None else dataset.layout,
        cases=tuple(replace(row, findings=sorted_findings([*row.findings, *found.get(row.id, ())])) for row in rows),
        notes=tuple(notes),
        findings=sorted_findings(whole),
        context=_context(wanted, options),
    )
    tell = _teller(look, options.keep_identifiers)
    inspection = retold(inspection, tell)
    if output is not None:
        _write(inspection, Path(output), look, tell)
    return inspection


# ---- finding out what there is --------------------------------------------------------------


def _bundle(model: Path | None) -> Bundle | None:
    if model is None:
        return None
    from medseg.bundle import Bundle

    return Bundle.load(model)


def _context(task: Task | None, options: InspectOptions) -> dict[str, str]:
    """What the folder was held against."""
    given = {"task": task.name if task else "", "model": str(options.model or ""), "split": str(options.split or "")}
    return {key: value for key, value in given.items() if value}


def _dataset(root: Path, task: Task | None) -> Dataset | None:
    """The labelled cases; None where there are only scans."""
    if root.is_file() and root.suffix.lower() not in _LISTS:
        return None
    spec, channels = (task.data, tuple(task.channels)) if task else (DataSpec(), ())
    return find_dataset(root, spec, channels)


def _base(root: Path) -> Path:
    return root.parent if root.is_file() else root


def _names(root: Path) -> dict[int, str]:
    """What a dataset.json calls the values of the label maps; values that two regions share keep their number."""
    declared = declared_labels(_base(root))
    return {values[0]: name for name, values in declared.items() if len(values) == 1}


def _others(root: Path, dataset: Dataset, look: Look) -> list[str]:
    """A note about scans below `root` that belong to no case."""
    if root.is_file():
        return []
    cases = (*dataset.cases, *dataset.unlabelled)
    taken = [source for case in cases for source in (*case.images, *([case.label] if case.label else []))]
    used = {file for source in taken for file in source.files}
    told = " ".join(problem.message for problem in dataset.problems)
    sources = formats.discover(root)
    look.identifiers.update(*(source.identifiers for source in sources))
    left = [
        source
        for source in sources
        if used.isdisjoint(source.files) and str(source.path) not in told and str(source.files[0]) not in told
    ]
    if not left:
        return []
    some = ", ".join(source.name for source in left[:3]) + (" …" if len(left) > 3 else "")
    return [f"{len(left)} further scans belong to no case and are not looked at: {some}"]


# ---- all of them together -------------------------------------------------------------------


def _across(
    rows: Sequence[CaseRow], look: Look, parts: Parts | None, labelled: bool
) -> tuple[dict[str, list[Finding]], list[Finding]]:
    """Findings that show only beside the other cases: by case, and about the whole."""
    found, whole = across_cases(rows, look.task)
    further = [duplicate_content(rows)]
    if labelled:
        further += [duplicate_labels(look.label_hashes, rows), same_patient(rows, look.patients, parts)]
        whole += patients_by_name(rows)
    if parts is not None:
        whole += unknown_cases(rows, parts)
    for part in further:
        for case, findings in part.items():
            found.setdefault(case, []).extend(findings)
    return found, whole


def _teller(look: Look, keep_identifiers: bool) -> Callable[[str], str]:
    """What makes a text fit to be told: paths from the inspected folder on, patients by their pseudonyms."""
    base, unpacked = (re.escape(str(folder).rstrip(os.sep)) for folder in (look.base, look.unpacked))
    sep = re.escape(os.sep)
    # Archives are unpacked into folders named by eight hex digits and the archive.
    ours = re.compile(rf"(?<![\w./\\-])(?:{unpacked}{sep}[0-9a-f]{{8}}|{base}){sep}")
    identifiers = Identifiers() if keep_identifiers else Identifiers.of(look.identifiers)

    def tell(text: str) -> str:
        return identifiers.mask(ours.sub("", text))

    return tell


def _write(inspection: Inspection, output: Path, look: Look, tell: Callable[[str], str]) -> None:
    from medseg.evaluation.inspect_page import write_inspection

    trained = look.bundle.fingerprint if look.bundle is not None else None
    pictures = {tell(case): picture for case, picture in look.pictures.items()}
    write_inspection(inspection, output, pictures, look.task.label_table() if look.task else (), trained)
