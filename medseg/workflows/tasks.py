"""The shipped tasks, told in a line each; read without the task checker so that it answers at once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import TaskError


@dataclass(frozen=True, slots=True)
class TaskLine:
    """What a list of tasks shows of one."""

    name: str
    modality: str
    dimensions: int
    labels: tuple[str, ...]
    description: str

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}


def tasks() -> tuple[TaskLine, ...]:
    """The tasks in `pipelines/`, by name. Raises TaskError for a file that is no task."""
    from medseg.data.shipped import pipelines

    return tuple(_line(path) for path in sorted(pipelines().glob("*.yaml")))


def _line(path: Path) -> TaskLine:
    import yaml

    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return TaskLine(
            name=str(raw["name"]),
            modality=str(raw["modality"]),
            dimensions=int(raw.get("dimensions", 3)),
            labels=tuple(str(label) for label in raw["labels"]),
            description=" ".join(str(raw.get("description", "")).split()),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TaskError(f"{path}: is not a task file ({error})") from error
