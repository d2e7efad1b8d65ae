"""Keeping third-party readers from chattering: what matters is said in findings and errors."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_CHATTY = ("nibabel.global", "pydicom", "tifffile", "PIL", "highdicom")


class _Quiet:
    """Counts who is inside, as Python's warning filters and loggers belong to the whole process.

    The first reader to come silences them, the last to leave restores them, so that readers in
    several threads never restore one another's state.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._restore = ExitStack()
                self._restore.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                for name in _CHATTY:
                    logger = logging.getLogger(name)
                    self._restore.callback(setattr, logger, "disabled", logger.disabled)
                    logger.disabled = True
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()


_QUIET = _Quiet()
_STDERR = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """No Python warnings, log lines or C++ messages of the image libraries inside the block."""
    _silence_cpp()
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


@contextmanager
def no_stderr() -> Iterator[None]:
    """Nothing reaches the process's standard error inside the block, also from C code that knows no switch.

    For short calls into a library that prints by itself: other threads' lines are lost meanwhile.
    """
    with _STDERR:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _silence_cpp() -> None:
    """Switch off what ITK and GDCM print themselves, where they are loaded; it only ever repeats an error."""
    if "SimpleITK" in sys.modules:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalWarningDisplay(False)
    if "gdcm" in sys.modules:
        trace = sys.modules["gdcm"].Trace
        trace.WarningOff()
        trace.ErrorOff()
        trace.DebugOff()
