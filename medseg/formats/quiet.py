"""Keeping third-party readers from chattering: what matters is said in findings and errors."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# How the lines begin that the JPEG libraries and MetaImage print before they raise the same as an error.
_PRINTED = (
    b"Application transferred", b"Bogus", b"Corrupt JPEG data", b"DNL marker", b"DimSize", b"Element", b"Empty JPEG",
    b"Failed to decode tile", b"Improper", b"Inconsistent", b"Invalid", b"JPEG", b"MetaImage", b"MetaObject",
    b"Missing", b"Marker handler", b"Not a JPEG", b"Premature", b"Quantization table", b"Stream too short",
    b"Tile part length", b"Error with SIZ",
    b"Uncompress failed", b"Unsupported", b"Warning: unknown JFIF", b"   ideal =", b"gdcm",
)  # fmt: skip
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
def without_chatter() -> Iterator[None]:
    """Filter what C libraries print on the process's standard error by themselves, and know no switch for.

    For short calls, one at a time: whatever else reaches standard error meanwhile, from other
    threads, comes out at the end.
    """
    with _STDERR, tempfile.TemporaryFile() as caught:
        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            caught.seek(0)
            others = [line for line in caught if not line.startswith(_PRINTED)]
            os.write(kept, b"".join(others))
            os.close(kept)


def _silence_cpp() -> None:
    """Switch off what ITK and GDCM print themselves, where they are loaded; it only ever repeats an error."""
    if "SimpleITK" in sys.modules:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalWarningDisplay(False)
    if "gdcm" in sys.modules:
        trace = sys.modules["gdcm"].Trace
        trace.WarningOff()
        trace.ErrorOff()
        trace.DebugOff()
