"""A trained model as a folder: task, plan, fingerprint, calibration and provenance as JSON, weights as safetensors.

Nothing in it is executable and nothing is pickled. The bundle's hash covers every file, names the
model in all that it makes, and tells a damaged bundle from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import BundleError, MedsegError
from medseg.core.files import atomic_folder
from medseg.core.plan import (
    Fingerprint,
    Plan,
    calibration_from_plain,
    fingerprint_from_plain,
    plan_from_plain,
    to_plain,
)
from medseg.core.quality import Calibration
from medseg.core.task import DataSpec, Task, parse_task

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
_MANIFEST, _TASK, _PLAN, _FINGERPRINT, _PROVENANCE, _WEIGHTS = (
    "bundle.json",
    "task.json",
    "plan.json",
    "fingerprint.json",
    "provenance.json",
    "weights.safetensors",
)
_CONTENTS = (_TASK, _PLAN, _FINGERPRINT, _PROVENANCE, _WEIGHTS)
_CALIBRATION = "calibration.json"  # in bundles whose training had held-out cases; older ones lack it
# Without facts about the run that made the model rather than about the model: two equal models have one hash.
_HASHED = (_TASK, _PLAN, _FINGERPRINT, _WEIGHTS, _CALIBRATION)


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model and all that prediction needs.

    state: the network's tensors by name (float32), of a bundle on disk read when they are first asked for;
    provenance: data hash, medseg version, scores of
    the validation cases; calibration: what its predictions were worth on held-out cases, None where
    that was not looked at; hash: sha256 hex over all but the provenance, "" until saved.
    """

    task: Task
    plan: Plan
    fingerprint: Fingerprint
    state: Mapping[str, torch.Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    hash: str = ""
    calibration: Calibration | None = None

    def save(self, folder: Path | str) -> Bundle:
        """Write the bundle atomically (an older one there is replaced); returns it with its hash."""
        from safetensors.torch import save_file

        folder = Path(folder)
        with atomic_folder(folder) as temporary:
            # Where the training data lay is nobody's business and no part of the model.
            task = self.task.model_copy(update={"data": DataSpec()})
            _write(temporary / _TASK, task.model_dump(mode="json"))
            _write(temporary / _PLAN, to_plain(self.plan))
            _write(temporary / _FINGERPRINT, to_plain(self.fingerprint))
            _write(temporary / _PROVENANCE, to_plain(self.provenance))
            save_file({name: value.detach().cpu().contiguous() for name, value in self.state.items()},
                      temporary / _WEIGHTS)  # fmt: skip
            if self.calibration is not None:
                _write(temporary / _CALIBRATION, to_plain(self.calibration))
            written = (*_CONTENTS, _CALIBRATION) if self.calibration is not None else _CONTENTS
            digests = {name: _digest(temporary / name) for name in written}
            identity = _identity(digests)
            _write(temporary / _MANIFEST, {"format": "medseg-bundle", "version": FORMAT_VERSION,
                                           "hash": identity, "files": digests})  # fmt: skip
        return replace(self, hash=identity)

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """Read a bundle, or the one inside a run folder.

        Raises BundleError where there is none, where it is damaged (a file's checksum differs),
        foreign, or written by a newer format version.
        """
        folder = _locate(Path(folder))
        manifest = _manifest(folder)
        calibrated = _CALIBRATION in manifest["files"]
        for name in (*_CONTENTS, _CALIBRATION) if calibrated else _CONTENTS:
            if not (folder / name).is_file():
                raise BundleError(f"{folder / name}: is missing, so this bundle is incomplete; copy it again")
            if _digest(folder / name) != manifest["files"].get(name):
                raise BundleError(f"{folder / name}: is damaged (its checksum differs); copy the bundle again")
        try:
            return cls(
                task=parse_task(_read(folder / _TASK), str(folder / _TASK)),
                plan=plan_from_plain(_read(folder / _PLAN), str(folder / _PLAN)),
                fingerprint=fingerprint_from_plain(_read(folder / _FINGERPRINT), str(folder / _FINGERPRINT)),
                state=_Weights(folder / _WEIGHTS),
                provenance=_read(folder / _PROVENANCE),
                hash=_identity(manifest["files"]),
                calibration=_calibration(folder / _CALIBRATION) if calibrated else None,
            )
        except BundleError:
            raise
        except (MedsegError, ValueError, OSError) as error:
            raise BundleError(f"{folder}: is not a usable bundle ({error})") from error

    def network(self) -> torch.nn.Module:
        """The network with its weights, in evaluation mode, on the CPU.

        Raises BundleError where the weights do not fit the plan's network.
        """
        from medseg.nets import build

        network = build(self.plan.network)
        try:
            network.load_state_dict(dict(self.state))
        except RuntimeError as error:
            raise BundleError("the bundle's weights do not fit the network of its plan") from error
        return network.eval()


class _Weights(Mapping[str, "torch.Tensor"]):
    """The tensors of a file, read when they are first asked for: who only wants to know the model needs no torch."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _tensors(self) -> dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self._path)
        except (SafetensorError, ValueError, OSError) as error:
            raise BundleError(f"{self._path}: holds no weights that can be read ({error}); copy it again") from error

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _locate(folder: Path) -> Path:
    for candidate in (folder, folder / "bundle"):
        if (candidate / _MANIFEST).is_file():
            return candidate
    if not folder.exists():
        raise BundleError(f"{folder}: there is no such model; give a run folder or its bundle/")
    raise BundleError(f"{folder}: holds no {_MANIFEST}, so it is no medseg bundle; give a run folder or its bundle/")


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = _read(folder / _MANIFEST)
    if manifest.get("format") != "medseg-bundle" or not isinstance(manifest.get("files"), dict):
        raise BundleError(f"{folder / _MANIFEST}: is not the manifest of a medseg bundle")
    version = manifest.get("version")
    if not isinstance(version, int) or version < 1:
        raise BundleError(f"{folder / _MANIFEST}: names no format version")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{folder}: has format version {version}, this medseg reads up to {FORMAT_VERSION}; update it"
        )
    return manifest


def _calibration(path: Path) -> Calibration:
    return calibration_from_plain(_read(path), str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path}: is not readable JSON ({error})") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path}: does not hold what a bundle holds there")
    return raw


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(
        "\n".join(f"{name} {digests[name]}" for name in _HASHED if name in digests).encode()
    ).hexdigest()
