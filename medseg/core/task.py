"""What the user asks for, as data: a YAML file in `pipelines/` or of the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from medseg.core.errors import TaskError
from medseg.core.labels import Code, Label, default_color
from medseg.core.reading import Reading
from medseg.core.selection import Selection

NONZERO = "nonzero"
Modality = Literal["CT", "MR", "PT", "microscopy", "photo", "other"]
COLOURS = ("red", "green", "blue")  # the channels of a picture, which keep one scale
# The names in `medseg.metrics.METRICS`, in its order.
MetricName = Literal[
    "dice", "iou", "precision", "recall", "specificity", "volume_difference_ml", "hd", "hd95", "assd", "nsd",
    "cldice", "skeleton_recall", "lesion_f1", "lesion_sensitivity", "lesion_false_positives",
]  # fmt: skip
STANDARD_METRICS: tuple[MetricName, ...] = ("precision", "recall", "volume_difference_ml", "hd95", "assd", "nsd")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeSpec(_Strict):
    """A coded concept: `{value: "39607008", scheme: SCT, meaning: Lung}`."""

    value: str
    scheme: str = "SCT"
    meaning: str

    def code(self) -> Code:
        return Code(self.value, self.scheme, self.meaning)


class LabelSpec(_Strict):
    """One structure. Short forms: `lung: 1` and `left lung: [10, 11]` (values in your files)."""

    value: Annotated[int, Field(ge=1, le=254)] | None = None
    sources: list[Annotated[int, Field(ge=1)]] | Literal["nonzero"] | None = None
    names: list[str] | None = None  # regular expressions for its names in DICOM SEG and RTSTRUCT
    mirror: str | None = None
    color: tuple[int, int, int] | None = None
    category: CodeSpec | None = None
    type: CodeSpec | None = None
    modifier: CodeSpec | None = None

    @field_validator("names", mode="before")
    @classmethod
    def _expressions(cls, given: Any) -> Any:
        names = [given] if isinstance(given, str) else given
        for name in names if isinstance(names, list) else ():
            try:
                re.compile(str(name))
            except re.error as error:
                raise ValueError(f"{name!r} is not a regular expression ({error})") from error
        return names


def _label_spec(given: Any) -> Any:
    if isinstance(given, bool):
        raise ValueError("a label is a number, a list of numbers or a mapping")
    if isinstance(given, int):
        return {"value": given}
    if isinstance(given, list | str):
        return {"sources": given}
    return given


class DataSpec(_Strict):
    """Where the cases lie.

    root: a folder (relative to the task file) or `sample:NAME`; `images` and `labels` are glob
    patterns below it with `{case}` and, optionally, `{group}`; without them the layout is found out
    (images/ + labels/, Decathlon / nnU-Net, or a CSV/JSON list).
    """

    root: str | None = None
    images: str | list[str] | None = None
    labels: str | None = None
    group: str | None = None  # a regular expression; its first group, found in the case id, names the patient

    @field_validator("group")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"is not a regular expression ({error})") from error
            if groups < 1:
                raise ValueError("needs one (…) group that holds the patient's name")
        return pattern

    @model_validator(mode="after")
    def _patterns(self) -> DataSpec:
        patterns = [self.images] if isinstance(self.images, str) else list(self.images or [])
        for pattern in [*patterns, *([self.labels] if self.labels else [])]:
            if "{case}" not in pattern:
                raise ValueError(f"the pattern {pattern!r} needs {{case}} where the case's name stands")
        if self.labels and not patterns:
            raise ValueError("a labels pattern needs an images pattern beside it")
        return self


class SplitSpec(_Strict):
    """How cases become training and validation: patient-grouped folds drawn with `seed`."""

    folds: Annotated[int, Field(ge=2, le=50)] = 5
    seed: int = 0


class PostprocessSpec(_Strict):
    """What is done to the label map at the end: labels of which only the largest component stays."""

    keep_largest: list[str] = []
    min_volume_ml: Annotated[float, Field(ge=0)] = 0.0


class LimitsSpec(_Strict):
    """What a scan must be like to be segmented at all."""

    min_spacing: Annotated[float, Field(gt=0)] | None = None  # mm
    max_spacing: Annotated[float, Field(gt=0)] | None = None  # mm


class Task(_Strict):
    """A segmentation task. See docs/tasks.md for every key.

    labels: name -> LabelSpec in the order of their values; ignore: the source value of voxels that
    neither train nor score; undeclared: what a source value that no label names means;
    partial: what annotators left blank is unknown, and no background (`medseg import`).
    instances: every object is told apart from its neighbours, as their label maps number them 1, 2, 3 …;
    regions: name -> labels whose union is learnt and scored as well (whole kidney: [kidney, tumour]);
    reading: what is done about odd DICOM series; selection: which series of a folder are segmented;
    metrics: what reports say beside Dice and IoU; nsd_tolerance: in mm, None for one voxel of each case;
    plan: overrides for the planner, as `--set key=value` gives them.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    modality: Modality
    dimensions: Literal[2, 3] = 3
    channels: Annotated[list[str], Field(min_length=1, max_length=16)] = ["image"]
    labels: dict[str, Annotated[LabelSpec, BeforeValidator(_label_spec)]]
    ignore: int | None = None
    undeclared: Literal["refuse", "background", "ignore"] = "refuse"
    partial: bool = False
    instances: bool = False
    regions: dict[str, Annotated[list[str], Field(min_length=2)]] = {}
    data: DataSpec = DataSpec()
    split: SplitSpec = SplitSpec()
    postprocess: PostprocessSpec = PostprocessSpec()
    limits: LimitsSpec = LimitsSpec()
    reading: Reading = Reading()
    selection: Selection = Selection()
    metrics: list[MetricName] = list(STANDARD_METRICS)
    nsd_tolerance: Annotated[float, Field(gt=0)] | None = None  # mm
    time_budget: Annotated[float, Field(gt=0)] | None = None  # seconds, where the user gives none
    plan: dict[str, Any] = {}

    @field_validator("time_budget", mode="before")
    @classmethod
    def _seconds(cls, given: Any) -> Any:
        return parse_duration(given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if not self.labels:
            raise ValueError("labels: at least one structure is needed")
        if self.partial and self.ignore is None:
            raise ValueError("partial: unknown pixels need a value; add `ignore: 255`")
        if self.instances and [spec.sources for spec in self.labels.values()] != [NONZERO]:
            raise ValueError("instances: needs exactly one label with the values `nonzero`: each of them is an object")
        names = set(self.labels)
        given = [spec.value for spec in self.labels.values()]
        if any(v is None for v in given) and any(v is not None for v in given):
            raise ValueError("labels: give a value to every label or to none")
        values = [label.value for label in self.label_table()]
        if sorted(values) != list(range(1, len(values) + 1)):
            raise ValueError(f"labels: values must be 1..{len(values)} without gaps, not {values}")
        _check_sources(self)
        _check_regions(self)
        for name, spec in self.labels.items():
            if spec.mirror is not None and (spec.mirror not in names or self.labels[spec.mirror].mirror != name):
                raise ValueError(f"labels: {name!r} mirrors into {spec.mirror!r}, which must mirror back into {name!r}")
        unknown = set(self.postprocess.keep_largest) - names
        if unknown:
            raise ValueError(f"postprocess.keep_largest: {sorted(unknown)} are no labels; there are {sorted(names)}")
        return self

    @property
    def classes(self) -> int:
        """What a network for this task tells apart: background and labels; an object's interior and border."""
        return len(self.labels) + (2 if self.instances else 1)

    def label_table(self) -> tuple[Label, ...]:
        """The labels as core types, ordered by value."""
        table = [_label(name, place, spec) for place, (name, spec) in enumerate(self.labels.items(), start=1)]
        return tuple(sorted(table, key=lambda label: label.value))

    def region_values(self) -> dict[str, tuple[int, ...]]:
        """The label values of every region, by its name."""
        values = {label.name: label.value for label in self.label_table()}
        return {region: tuple(sorted(values[name] for name in names)) for region, names in self.regions.items()}

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.label_table())


def _label(name: str, place: int, spec: LabelSpec) -> Label:
    value = place if spec.value is None else spec.value
    if spec.sources is None:
        sources: tuple[int, ...] = (value,)
    else:
        sources = () if spec.sources == NONZERO else tuple(int(v) for v in spec.sources)
    return Label(
        name=name,
        value=value,
        sources=sources,
        mirror=spec.mirror,
        color=spec.color or default_color(value),
        category=spec.category.code() if spec.category else None,
        type=spec.type.code() if spec.type else None,
        modifier=spec.modifier.code() if spec.modifier else None,
        names=tuple(spec.names or ()),
    )


def _check_sources(task: Task) -> None:
    seen: dict[int, str] = {}
    for label in task.label_table():
        if not label.sources and len(task.labels) > 1:
            raise ValueError(f"labels: {label.name!r} takes every value but 0, so it must be the only label")
        for value in label.sources:
            if value in seen:
                raise ValueError(f"labels: value {value} belongs to both {seen[value]!r} and {label.name!r}")
            if value == task.ignore:
                raise ValueError(f"labels: value {value} of {label.name!r} is the ignore value too")
            seen[value] = label.name


def _check_regions(task: Task) -> None:
    for region, names in task.regions.items():
        if region in task.labels:
            raise ValueError(f"regions: {region!r} is a label already; give the union a name of its own")
        unknown = sorted(set(names) - set(task.labels))
        if unknown:
            raise ValueError(f"regions: {unknown} of {region!r} are no labels; there are {sorted(task.labels)}")
        if len(set(names)) < len(names):
            raise ValueError(f"regions: {region!r} names a label twice")


def parse_duration(text: str) -> float:
    """Seconds in '90', '90s', '10m', '1.5h' or '1h30m'. Raises ValueError for anything else."""
    match = re.fullmatch(r"\s*(?:([\d.]+)h)?\s*(?:([\d.]+)m(?:in)?)?\s*(?:([\d.]+)s?)?\s*", text)
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration; write 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part) if part else 0.0 for part in match.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise ValueError(f"{text!r} is not a duration longer than zero")
    return total


def parse_task(raw: Mapping[str, Any], origin: str) -> Task:
    """A checked Task from plain data; `origin` (a file name) is named in errors.

    Raises TaskError: one sentence with the file, the key and what is allowed.
    """
    try:
        return Task.model_validate(dict(raw))
    except ValidationError as error:
        raise TaskError("; ".join(_sentence(origin, problem) for problem in error.errors()[:5])) from error


def load_task(path: Path) -> Task:
    """Read a task file. A relative `data.root` in it is taken from the file's own folder.

    Raises TaskError where the file is missing, no YAML, or wrong.
    """
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TaskError(f"{path}: there is no such task file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise TaskError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise TaskError(f"{path}: a task file is a list of keys and values")
    task = parse_task(raw, str(path))
    root = task.data.root
    if root is None or root.startswith("sample:"):
        return task
    data = task.data.model_copy(update={"root": str((path.parent / root).resolve())})
    return task.model_copy(update={"data": data})


def _sentence(origin: str, problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{origin}: unknown key {place!r}{_did_you_mean(problem['loc'])}"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{origin}: {place}: {text}" if place else f"{origin}: {text}"


def _did_you_mean(location: tuple[Any, ...]) -> str:
    rooms: dict[str, type[BaseModel]] = {
        "data": DataSpec, "split": SplitSpec, "postprocess": PostprocessSpec, "limits": LimitsSpec, "labels": LabelSpec,
    }  # fmt: skip
    room = Task if len(location) == 1 else rooms.get(str(location[0]), Task)
    named: type[Reading | Selection] | None = {"reading": Reading, "selection": Selection}.get(str(location[0]))
    inside = len(location) > 1 and named is not None
    names = [field.name for field in fields(named)] if inside and named else list(room.model_fields)
    return f"; allowed are {', '.join(names)}"
