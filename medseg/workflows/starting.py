"""What a training starts from other than chance: weights from a file, or another task's model.

run.json says which, so that resumed, repeated and helping processes all start alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle import Bundle
from medseg.core.errors import UsageError
from medseg.core.events import Listener, Message
from medseg.core.files import write_json
from medseg.core.plan import Plan, to_plain
from medseg.planning import validated
from medseg.workflows.prepare import PLAN, RUN, Preparation

if TYPE_CHECKING:
    from torch import nn

    from medseg.workflows.train import TrainOptions

_KEYS = ("weights", "finetune")  # of TrainOptions and run.json


def checked(options: TrainOptions) -> TrainOptions:
    """The options with whole paths, once what they name is known to be readable.

    Raises UsageError or BundleError: nobody wants to hear it after the data were prepared.
    """
    if options.weights is not None and options.finetune is not None:
        raise UsageError("a training starts from --weights or from --finetune, not from both")
    if options.finetune is not None:
        Bundle.load(options.finetune)
        return replace(options, finetune=options.finetune.resolve())
    if options.weights is not None:
        from medseg.nets.weights import read_state

        read_state(options.weights)
        return replace(options, weights=options.weights.resolve())
    return options


def repeated(source: Path, options: TrainOptions) -> TrainOptions:
    """The options with what the run `source`, which they repeat, started from."""
    weights, finetune = (_recorded(source, key) for key in _KEYS)
    return checked(replace(options, weights=weights, finetune=finetune))


def take_over(preparation: Preparation, options: TrainOptions, listener: Listener) -> Preparation:
    """The preparation with the network of the model that is fine-tuned, where both have as many dimensions.

    Its widths, strides, kernels and all else but the channels and classes; the patch grows to what it
    takes. Keys of the network that were asked for stay, and then nothing is taken over.
    """
    model = _recorded(preparation.folder, "finetune")
    if model is None:
        return preparation
    bundle, plan = Bundle.load(model), preparation.plan
    asked = [key for key in (*preparation.task.plan, *options.overrides) if key.startswith("network.")]
    why_not = f"{', '.join(asked)} was asked for" if asked else ""
    if bundle.plan.ndim != plan.ndim:
        why_not = f"it is for {bundle.plan.ndim}D, the task for {plan.ndim}D"
    if why_not:
        listener(Message(f"{model}: its weights are taken as far as they fit, not its network: {why_not}"))
        return preparation
    wanted = validated(_with_network(plan, bundle), preparation.task)
    write_json(preparation.folder / PLAN, to_plain(wanted))
    return replace(preparation, plan=wanted)


def start_from(preparation: Preparation, network: nn.Module, listener: Listener) -> None:
    """Put the weights that run.json names into the network, and tell what fitted and what did not.

    Raises UsageError where nothing fits.
    """
    path = _origin(preparation)
    if path is None:
        return
    from medseg.nets.weights import load_weights

    loaded = load_weights(network, preparation.plan.network, path)
    listener(Message(loaded.sentence(path.name)))


def provenance(preparation: Preparation) -> Mapping[str, Any]:
    """What a bundle keeps of what its training started from: the file's name (no path) and sha256, or the model's."""
    path = _origin(preparation)
    if path is None:
        return {}
    if path.is_dir():
        return {"started_from": {"bundle_hash": Bundle.load(path).hash}}
    with path.open("rb") as file:
        return {"started_from": {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}}


def _with_network(plan: Plan, bundle: Bundle) -> Plan:
    from medseg.nets import fit_patch

    own = plan.network
    network = replace(
        bundle.plan.network, in_channels=own.in_channels, out_channels=own.out_channels, members=own.members
    )
    i, j, k = [*fit_patch(network, plan.patch[: plan.ndim]), 1][:3]
    window = replace(plan.window, mirror=bundle.plan.window.mirror)
    reasons = {**plan.reasons, "network": f"that of the model it is fine-tuned from ({bundle.hash[:12]})"}
    return replace(plan, network=network, patch=(i, j, k), window=window, reasons=reasons)


def _origin(preparation: Preparation) -> Path | None:
    found = (_recorded(preparation.folder, key) for key in _KEYS)
    return next((path for path in found if path is not None), None)


def _recorded(folder: Path, key: str) -> Path | None:
    """A path in the options of a run's run.json; runs of older versions know none."""
    options = json.loads((folder / RUN).read_text(encoding="utf-8")).get("options", {})
    return Path(options[key]) if options.get(key) else None
