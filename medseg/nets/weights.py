"""Weights of another network, or of another task's model, as the start of a training.

Files are read without executing anything: safetensors, a medseg bundle (or run) folder, or a torch
state dict through `weights_only=True`. torchvision's names go where `backbones.torchvision_names`
says. What has another shape is made to fit in two customary ways, and is left out otherwise:

- 2D kernels become 3D ones: repeated along the new axis and divided by how many of the copies meet
  in a voxel, so that a volume that does not change along that axis is answered as its slices were
  (Carreira & Zisserman, CVPR 2017, arXiv:1705.07750).
- The first layer takes another number of channels: one channel gets the sum of all kernels, so that
  a grey picture is answered as its coloured copy was; n channels get them in turn, times C / n.

Heads of another number of classes stay fresh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch raises for a damaged file; nothing is unpickled here

import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.core.plan import NetworkSpec
from medseg.nets.backbones import torchvision_names

State = dict[str, Tensor]

_BUNDLE_WEIGHTS = ("weights.safetensors", "bundle/weights.safetensors")
_COUNTER = "num_batches_tracked"  # of batch normalisation: no weight, and not worth a word
_MEMBER = "members.0."  # before the names of the first model of several that answer as one
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network_weights")  # around state dicts in checkpoints
_FEW = 3  # names of one part that are still told one by one


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a file's tensors.

    matched: taken as they are; inflated: from 2D to 3D; adapted: to another number of channels (it may
    have been inflated, too); skipped: left in the file, and why; missing: what stays fresh in the
    network. All by name, in the network's or (skipped) the file's own words.
    """

    matched: tuple[str, ...]
    inflated: tuple[str, ...]
    adapted: tuple[str, ...]
    skipped: Mapping[str, str]
    missing: tuple[str, ...]

    def sentence(self, origin: str) -> str:
        """What was taken and what was not, for the training's log."""
        taken = len(self.matched) + len(self.inflated) + len(self.adapted)
        parts = [f"{origin}: {taken} tensors taken"]
        parts += [f"{len(self.inflated)} inflated to 3D"] if self.inflated else []
        parts += [f"{_told(self.adapted)} adapted to the channels"] if self.adapted else []
        text = ", ".join(parts)
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(name)
        left = "; ".join(f"{_told(names)} ({reason})" for reason, names in reasons.items())
        text += f"; left out of the file: {left}" if left else ""
        return text + (f"; fresh in the network: {_told(self.missing)}" if self.missing else "")


def load_weights(network: nn.Module, spec: NetworkSpec, path: Path) -> Loaded:
    """Put the weights of a file or bundle folder into the network of `spec`, as far as they fit.

    Raises UsageError where the file is missing, damaged or foreign, or where nothing in it fits.
    """
    return transfer(network, spec, read_state(path), str(path))


def read_state(path: Path) -> State:
    """The tensors of a safetensors file, a torch state dict or a bundle folder, by name.

    Raises UsageError in a sentence where there are none to be read.
    """
    file = _file(path)
    try:
        with file.open("rb") as opened:
            head = opened.read(9)
        raw = _safetensors(file) if head[8:] == b"{" else _torch(file)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file of weights") from None
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, UnpicklingError) as error:
        raise UsageError(
            f"{path}: is damaged or holds no weights that can be read without executing code "
            f"({type(error).__name__}); give safetensors, a medseg bundle or a state dict"
        ) from error
    state = {str(name).removeprefix("module."): value for name, value in raw.items() if isinstance(value, Tensor)}
    if any(name.startswith(_MEMBER) for name in state):  # of an ensemble, the first one
        state = {name.removeprefix(_MEMBER): value for name, value in state.items() if name.startswith(_MEMBER)}
    if not state:
        raise UsageError(f"{path}: holds no tensors by name; give a state dict, as torch.save(model.state_dict()) does")
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise UsageError(f"{path}: holds values that are no numbers; its training went wrong")
    return state


def transfer(network: nn.Module, spec: NetworkSpec, state: Mapping[str, Tensor], origin: str) -> Loaded:
    """Put tensors by name into the network of `spec`, as far as they fit; `origin` names them in the error.

    Raises UsageError where nothing fits.
    """
    own = network.state_dict()
    places = torchvision_names(state) if any(name.startswith("backbone.") for name in own) else {n: n for n in state}
    fit = _Fit(
        network, spec, _channels_of(own, {places[name]: value for name, value in state.items() if name in places})
    )
    skipped: dict[str, str] = {}
    taken: dict[str, list[str]] = {"matched": [], "inflated": [], "adapted": []}
    for name, value in state.items():
        place = places.get(name)
        if name.endswith(_COUNTER):
            if place in own:
                own[place].copy_(value)
        elif place is None or place not in own:
            skipped[name] = "has no place in this network"
        else:
            how, made = fit(place, value, own[place])
            if made is None:
                skipped[name] = how
            else:
                own[place].copy_(made)
                taken[how].append(place)
    filled = {name for names in taken.values() for name in names}
    missing = tuple(name for name in own if name not in filled and not name.endswith(_COUNTER))
    if not filled:
        raise UsageError(
            f"{origin}: nothing in it fits network {spec.name!r}: its tensors are {_told(state)}, "
            f"the network's {_told(own)}"
        )
    matched, inflated, adapted = (tuple(names) for names in taken.values())
    return Loaded(matched, inflated, adapted, skipped, missing)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """How a tensor is made to fit; channels: of the images that the file's network took (0: unknown)."""

    network: nn.Module
    spec: NetworkSpec
    channels: int

    def __call__(self, name: str, value: Tensor, target: Tensor) -> tuple[str, Tensor | None]:
        """How it was done and the fitting tensor, or why it cannot be done and None."""
        how, made = "matched", value
        if value.ndim == 4 and target.ndim == 5:
            how, made = "inflated", self._inflated(name, value, target)
        if made.shape == target.shape:
            return how, made
        if self._is_input(made, target):
            return "adapted", _to_channels(made, target.shape[1])
        if made.ndim and made.shape[0] != target.shape[0] == self.spec.out_channels:
            return "another number of classes", None
        return "another shape", None

    def _inflated(self, name: str, value: Tensor, target: Tensor) -> Tensor:
        """The 2D kernel repeated along the axis that it lacks: the last one where that is open."""
        sizes = list(target.shape[2:])
        axis = next((a for a in (2, 1, 0) if sizes[:a] + sizes[a + 1 :] == list(value.shape[2:])), None)
        if axis is None:
            return value
        length = sizes[axis]
        module = self.network.get_submodule(name.rpartition(".")[0])
        # Of a transposed convolution's kernel, only every stride-th element reaches a voxel.
        stride = int(module.stride[axis]) if isinstance(module, nn.ConvTranspose3d) else 1
        shape = [*value.shape]
        shape.insert(2 + axis, length)
        return value.unsqueeze(2 + axis).expand(shape) / max(1.0, length / stride)

    def _is_input(self, value: Tensor, target: Tensor) -> bool:
        """Whether the two differ in the channels of the images only."""
        return (
            value.ndim == target.ndim >= 4
            and value.shape[1] == self.channels
            and target.shape[1] == self.spec.in_channels
            and value.shape[:1] + value.shape[2:] == target.shape[:1] + target.shape[2:]
        )


def _to_channels(value: Tensor, count: int) -> Tensor:
    """Kernels [O, C, …] for `count` channels; see the module's head."""
    if count == 1:
        return value.sum(dim=1, keepdim=True)
    given = value.shape[1]
    return value[:, [channel % given for channel in range(count)]] * (given / count)


def _channels_of(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> int:
    """Channels of the images that the file's network took: those of its tensor for the network's first layer."""
    first = next((given[name] for name, value in own.items() if name in given and value.ndim >= 4), None)
    return 0 if first is None or first.ndim < 4 else int(first.shape[1])


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _BUNDLE_WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise UsageError(f"{path}: holds no weights; give a file, a medseg bundle or a run that has finished")


def _safetensors(file: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _torch(file: Path) -> Mapping[str, object]:
    raw = torch.load(file, map_location="cpu", weights_only=True)
    for name in _WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(name), Mapping):
            raw = raw[name]
    if not isinstance(raw, Mapping):
        raise ValueError("no mapping")
    return raw


def _told(names: Iterable[str]) -> str:
    """Names, those of a part with many in one word: 'fc.weight, fc.bias, layer4.* (30)'."""
    names = [name for name in names if not name.endswith(_COUNTER)]
    parts = Counter(name.partition(".")[0] for name in names)
    words = dict.fromkeys(
        name if parts[part] <= _FEW else f"{part}.* ({parts[part]})"
        for name, part in ((name, name.partition(".")[0]) for name in names)
    )
    return ", ".join(words)
