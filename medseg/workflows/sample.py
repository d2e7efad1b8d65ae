"""Write the synthetic sample data anew."""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import UsageError
from medseg.core.events import Listener, silent


def sample(output: Path | str, listener: Listener = silent) -> Path:
    """Write the seeded phantoms (chest CTs, cells) with their label maps into `output`; returns it.

    The same files as medseg's own sample data. Raises UsageError where `output` holds anything.
    """
    from medseg.phantoms import write_samples

    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is not an empty folder; choose another one for the sample data")
    write_samples(folder, listener)
    return folder
