"""What a study asks, as data: a YAML file in `pipelines/studies/` or of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medseg.core.errors import TaskError
from medseg.core.task import parse_duration


class Study(BaseModel):
    """How good models become with few labelled cases. See docs/studies.md for every key.

    task: name or file of the task; models: name -> plan overrides (`network.name` is the model's name
    where they give none); cases: how many labelled cases the models learn from; subsets: random draws of them,
    nested (the 4 are among the 8); seeds: trainings of every draw; folds: of the task's, held out
    one after the other; time (seconds) or steps of each training; least: seconds below which `--budget`
    rather gives up seeds and subsets; range_test: look for each training's learning rate; seed: of the draws.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    task: str
    models: dict[str, dict[str, Any]]
    cases: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    subsets: Annotated[int, Field(ge=1, le=100)] = 5
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    folds: Annotated[int, Field(ge=1, le=50)] = 1
    time: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    least: Annotated[float, Field(gt=0)] = 20.0
    range_test: bool = False
    seed: int = 0

    @field_validator("time", "least", mode="before")
    @classmethod
    def _seconds(cls, given: Any) -> Any:
        return parse_duration(given) if isinstance(given, str) else given

    @field_validator("models", mode="before")
    @classmethod
    def _overrides(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {str(name): {} for name in given}
        return {name: value or {} for name, value in given.items()} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if not self.models:
            raise ValueError("models: at least one is needed")
        if sorted(set(self.cases)) != self.cases:
            raise ValueError(f"cases: must rise, each number once, not {self.cases}")
        if (self.time is None) == (self.steps is None):
            raise ValueError("give every training a time (time: 60s) or a number of steps (steps: 500), one of the two")
        return self

    @property
    def trainings(self) -> int:
        """How many trainings the study takes."""
        return len(self.models) * len(self.cases) * self.subsets * self.seeds * self.folds

    def plan_of(self, model: str) -> dict[str, str]:
        """The plan overrides that make a training one of this model."""
        given = {key: str(value) for key, value in self.models[model].items()}
        return {"network.name": model, **given}


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A study that fits a budget: what is left of it, the seconds of each training, and what was given up for it."""

    study: Study
    seconds: float
    notes: tuple[str, ...]


def shrink(study: Study, budget: float, workers: int, reserve: float, overhead: float) -> Shrunk:
    """The study within `budget` seconds of wall-clock: every training gets an equal share.

    reserve: seconds kept for the report; overhead: seconds a training takes beyond its own time. Where the
    share falls below `study.least`, seeds are given up first, then subsets down to three (fewer would cost the
    curves their intervals), folds, the models named last, and the other subsets; at last trainings are shorter
    than that. The notes say so.
    """
    share = _share(study, budget, workers, reserve, overhead)
    kept = study
    while share < kept.least:
        fewer = _fewer(kept)
        if fewer is None:
            break
        kept = kept.model_copy(update=fewer)
        share = _share(kept, budget, workers, reserve, overhead)
    share = max(1.0, share if kept.time is None else min(share, kept.time))
    notes = [f"{kept.trainings} trainings within {budget:g} s: {share:.3g} s each"]
    for key in ("seeds", "subsets", "folds", "models"):
        before, after = getattr(study, key), getattr(kept, key)
        if before != after:
            told = (", ".join(after), ", ".join(before)) if key == "models" else (after, before)
            notes.append(f"{key}: {told[0]} instead of {told[1]}, so that a training keeps {kept.least:g} s")
    if share < kept.least:
        notes.append(f"{share:.3g} s a training are fewer than the {kept.least:g} s that the study calls the least")
    return Shrunk(kept.model_copy(update={"time": share, "steps": None}), share, tuple(notes))


def _share(study: Study, budget: float, workers: int, reserve: float, overhead: float) -> float:
    rounds = -(-study.trainings // workers)
    return (budget - reserve) / rounds - overhead


def _fewer(study: Study) -> dict[str, Any] | None:
    """What is given up next; None where nothing is left to give up."""
    if study.seeds > 1:
        return {"seeds": study.seeds - 1}
    if study.subsets > 3:
        return {"subsets": study.subsets - 1}
    if study.folds > 1:
        return {"folds": study.folds - 1}
    if len(study.models) > 1:
        return {"models": dict(list(study.models.items())[:-1])}
    return {"subsets": study.subsets - 1} if study.subsets > 1 else None


def parse_study(raw: Mapping[str, Any], origin: str) -> Study:
    """A checked study from plain data. Raises TaskError: one sentence with file and key."""
    try:
        return Study.model_validate(dict(raw))
    except ValidationError as error:
        raise TaskError("; ".join(_sentence(origin, problem) for problem in error.errors()[:5])) from error


def load_study(path: Path) -> Study:
    """Read a study file. Raises TaskError where it is missing, no YAML, or wrong."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TaskError(f"{path}: there is no such study file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise TaskError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise TaskError(f"{path}: a study file is a list of keys and values")
    return parse_study(raw, str(path))


def _sentence(origin: str, problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{origin}: unknown key {place!r}; allowed are {', '.join(Study.model_fields)}"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{origin}: {place}: {text}" if place else f"{origin}: {text}"
