"""medseg: from a folder of scans and a few labelled cases to a segmentation model you can trust.

    import medseg
    run = medseg.train("lung_ct", output="run")
    medseg.predict("scans", model="run", output="out")
    medseg.evaluate("out", "references", output="scores")
    bundle = medseg.Bundle.load("run/bundle")

The names below are imported when they are first used, so that `import medseg` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medseg.core import version

if TYPE_CHECKING:
    from medseg.bundle import Bundle as Bundle
    from medseg.core.errors import MedsegError as MedsegError
    from medseg.core.task import Task as Task
    from medseg.workflows.compare import CompareOptions as CompareOptions
    from medseg.workflows.compare import compare as compare
    from medseg.workflows.evaluate import evaluate as evaluate
    from medseg.workflows.export_labels import ExportOptions as ExportOptions
    from medseg.workflows.export_labels import export_labels as export_labels
    from medseg.workflows.import_labels import ImportOptions as ImportOptions
    from medseg.workflows.import_labels import import_labels as import_labels
    from medseg.workflows.predict import PredictOptions as PredictOptions
    from medseg.workflows.predict import predict as predict
    from medseg.workflows.study import StudyOptions as StudyOptions
    from medseg.workflows.study import study as study
    from medseg.workflows.train import TrainOptions as TrainOptions
    from medseg.workflows.train import train as train

__version__ = version.VERSION

_HOMES = {
    "Bundle": "medseg.bundle",
    "CompareOptions": "medseg.workflows.compare",
    "ExportOptions": "medseg.workflows.export_labels",
    "ImportOptions": "medseg.workflows.import_labels",
    "MedsegError": "medseg.core.errors",
    "PredictOptions": "medseg.workflows.predict",
    "StudyOptions": "medseg.workflows.study",
    "Task": "medseg.core.task",
    "TrainOptions": "medseg.workflows.train",
    "compare": "medseg.workflows.compare",
    "evaluate": "medseg.workflows.evaluate",
    "export_labels": "medseg.workflows.export_labels",
    "import_labels": "medseg.workflows.import_labels",
    "predict": "medseg.workflows.predict",
    "study": "medseg.workflows.study",
    "train": "medseg.workflows.train",
}
__all__ = [  # noqa: PLE0604 -- the names are the keys of the table above
    "__version__",
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'medseg' has no attribute {name!r}")
    return getattr(import_module(home), name)
