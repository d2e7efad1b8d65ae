"""Who does the work, by name. Each executor is one file here with `Executor(make, limits)`.

An executor knows nothing of scans: it gives jobs to workers, each of which was made once, and tells
what became of every job. Nothing that a job does ends the others. To add one: a file with a class
`Executor` (see `medseg.executors.contract`), a line in `EXECUTORS`, a class in
tests/contracts/test_executors.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.executors.contract import Executor, Limits, Make

EXECUTORS: dict[str, str] = {
    "processes": "medseg.executors.processes",
    "serial": "medseg.executors.serial",
    "ray": "medseg.executors.ray",
}


def open_executor(name: str, make: Make, limits: Limits) -> Executor:
    """The executor of that name, to be used as a context manager.

    make: called once in every worker; where workers are processes it must be picklable, as must jobs
    and results. Raises UsageError for a name that is not in the table, MissingDependencyError where
    the executor needs a package that is not installed.
    """
    home = EXECUTORS.get(name)
    if home is None:
        raise UsageError(f"there is no executor {name!r}; there are {', '.join(EXECUTORS)}")
    module: Any = import_module(home)
    executor: Executor = module.Executor(make, limits)
    return executor
