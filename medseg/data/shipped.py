"""What comes with medseg: the tasks in `pipelines/` and the synthetic scans in `sample_data/`.

A wheel carries both under `medseg/_shipped/`; in a checkout they lie beside the package.
"""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import TaskError, UsageError
from medseg.core.study import Study, load_study
from medseg.core.task import Task, load_task

_PACKAGE = Path(__file__).resolve().parents[1]
_SAMPLE = "sample:"


def pipelines() -> Path:
    """The folder of the shipped task files. Raises UsageError where the installation lacks it."""
    return _shipped("pipelines")


def sample_data() -> Path:
    """The folder of the shipped sample data. Raises UsageError where the installation lacks it."""
    return _shipped("sample_data")


def task_names() -> list[str]:
    """The names that `--task` takes, sorted."""
    return sorted(file.stem for file in pipelines().glob("*.yaml"))


def find_task(name_or_path: str) -> Task:
    """The task of this name in `pipelines/`, or the one in this YAML file (or in a folder's task.yaml).

    Raises TaskError: with the list of names where there is none, with the key where one is wrong.
    """
    path = Path(name_or_path)
    if path.is_dir() and (path / "task.yaml").is_file():
        return load_task(path / "task.yaml")
    if path.suffix.lower() in (".yaml", ".yml") or path.is_file():
        return load_task(path)
    names = task_names()
    if name_or_path not in names:
        raise TaskError(
            f"there is no task named {name_or_path!r}; there are {', '.join(names)}, or give the path of a task file"
        )
    return load_task(pipelines() / f"{name_or_path}.yaml")


def find_study(name_or_path: str) -> Study:
    """The study of this name in `pipelines/studies/`, or the one in this YAML file.

    Raises TaskError: with the list of names where there is none, with the key where one is wrong.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml") or path.is_file():
        return load_study(path)
    names = sorted(file.stem for file in (pipelines() / "studies").glob("*.yaml"))
    if name_or_path not in names:
        raise TaskError(
            f"there is no study named {name_or_path!r}; there are {', '.join(names)}, or give the path of a study file"
        )
    return load_study(pipelines() / "studies" / f"{name_or_path}.yaml")


def data_root(task: Task, data: Path | str | None = None) -> Path:
    """The folder (or list file) that holds the cases: `data` where given, else the task's own.

    Raises UsageError where the task has none or it does not exist.
    """
    root = data if data is not None else task.data.root
    if root is None:
        raise UsageError(f"task {task.name}: it names no data of its own; say where they are with --data FOLDER")
    if isinstance(root, str) and root.startswith(_SAMPLE):
        folder = sample_data() / root.removeprefix(_SAMPLE)
        if not folder.is_dir():
            raise UsageError(f"task {task.name}: there is no sample data named {root!r}")
        return folder
    path = Path(root)
    if not path.exists():
        raise UsageError(f"{path}: there is no such folder or list of cases")
    return path


def _shipped(name: str) -> Path:
    for folder in (_PACKAGE / "_shipped" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise UsageError(f"this installation of medseg lacks its {name}/ folder; install it again")
