"""What the classes of an annotation tool become in medseg's label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from medseg.core.errors import UsageError
from medseg.core.labels import IGNORE, Label
from medseg.core.task import Task
from medseg.formats.annotations import BACKGROUND
from medseg.formats.annotations import IGNORE as IGNORE_NAMES

_MOST_LABELS = IGNORE - 1


@dataclass(frozen=True, slots=True)
class Target:
    """What a class becomes: the label (or background, ignore) and its value in the file; `why` where it is lost."""

    label: str
    value: int
    why: str = ""


class Classes(Protocol):
    """Gives every class its place in the label maps; `ignore`: the value of pixels that are not to be judged."""

    @property
    def ignore(self) -> int | None: ...

    def target(self, name: str, unknown: bool) -> Target:
        """What a class becomes; unknown: whether it means "not to be judged" where no label is called so."""
        ...

    def labels(self) -> dict[str, int]:
        """Name -> value of all labels, for dataset.json."""
        ...


@dataclass(slots=True)
class NewClasses:
    """Classes without a task: each is a label, numbered as the tool declares them, then as they appear.

    Names that differ in upper and lower case are one.
    """

    declared: Sequence[str] = ()
    _names: dict[str, str] = field(init=False, default_factory=dict)  # folded -> as first written

    def __post_init__(self) -> None:
        named = [name for name in self.declared if name.casefold() not in (*BACKGROUND, *IGNORE_NAMES)]
        if len(named) <= _MOST_LABELS:
            for name in named:
                self._value(name)

    @property
    def ignore(self) -> int | None:
        return IGNORE

    def target(self, name: str, unknown: bool) -> Target:
        """Raises UsageError beyond 254 classes."""
        if name.casefold() in BACKGROUND:
            return Target("background", 0)
        if unknown or name.casefold() in IGNORE_NAMES:
            return Target("ignore", IGNORE)
        return Target(name, self._value(name))

    def labels(self) -> dict[str, int]:
        return {name: value for value, name in enumerate(self._names.values(), start=1)}

    def _value(self, name: str) -> int:
        folded = name.casefold()
        self._names.setdefault(folded, name)
        if len(self._names) > _MOST_LABELS:
            raise UsageError(
                f"there are more than {_MOST_LABELS} classes; name those that are wanted in a task (--task)"
            )
        return list(self._names).index(folded) + 1


@dataclass(frozen=True, slots=True)
class TaskClasses:
    """Classes as a task's labels: by the label's own name whatever its case, then by its `names` patterns.

    A task whose only label is `nonzero` takes every class. Values are the first source value of each
    label, so that the task reads the files as they are. undeclared: what a class means that no label
    is called: background, ignore, or refuse.
    """

    task: Task
    undeclared: str = "background"

    def __post_init__(self) -> None:
        if self.undeclared == "ignore" and self.task.ignore is None:
            raise UsageError(f"task {self.task.name}: it has no ignore value for undeclared classes; add `ignore: 255`")

    @property
    def ignore(self) -> int | None:
        return self.task.ignore

    @property
    def takes_all(self) -> bool:
        """Whether every value but 0 is the task's one label, so that instance maps may stay as they are."""
        return not self.task.label_table()[0].sources and self.task.ignore is None

    def target(self, name: str, unknown: bool) -> Target:
        """Raises UsageError where two labels are called so, or none is and `undeclared` is refuse."""
        label = self._label(name)
        if label is not None:
            return Target(label.name, self._value(label))
        if name.casefold() in BACKGROUND:
            return Target("background", 0)
        if unknown or name.casefold() in IGNORE_NAMES:
            if self.ignore is not None:
                return Target("ignore", self.ignore)
            return Target("background", 0, "it is not to be judged, but the task has no `ignore` value")
        only = self.task.label_table()[0]
        if not only.sources:
            return Target(only.name, self._value(only))
        return self._undeclared(name)

    def labels(self) -> dict[str, int]:
        return {label.name: self._value(label) for label in self.task.label_table()}

    def _label(self, name: str) -> Label | None:
        table = self.task.label_table()
        own = [label for label in table if label.name.casefold() == name.casefold()]
        called = own or [label for label in table if label.names and label.is_called(name)]
        if len(called) > 1:
            both = " and ".join(repr(label.name) for label in called[:2])
            raise UsageError(f"task {self.task.name}: the class {name!r} is called by both {both}; mend their `names`")
        return called[0] if called else None

    def _undeclared(self, name: str) -> Target:
        known = ", ".join(self.task.label_names)
        if self.undeclared == "refuse":
            raise UsageError(
                f"task {self.task.name}: no label is called {name!r} (there are {known}); add it to a label's `names`, "
                "or say --undeclared background or ignore"
            )
        why = f"no label of the task is called so (there are {known})"
        if self.undeclared == "ignore" and self.ignore is not None:
            return Target("ignore", self.ignore, why)
        return Target("background", 0, why)

    def _value(self, label: Label) -> int:
        if label.sources:
            return label.sources[0]
        return 1 if self.task.ignore != 1 else 2
