"""Weights from elsewhere: what fits is taken, what does not is told, and no file can do harm."""

from __future__ import annotations

import io
import json
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.core.plan import NetworkSpec
from medseg.nets import build
from medseg.nets.weights import load_weights, read_state, transfer

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RESNET = NetworkSpec("fcn_resnet50", 2, 3, 5, norm="batch", width=0.125)


def unet(ndim: Literal[2, 3], channels: int = 1, classes: int = 2, features: tuple[int, ...] = (4, 6)) -> NetworkSpec:
    stages = len(features)
    strides = ((1,) * ndim, *((2,) * ndim,) * (stages - 1))
    return NetworkSpec("unet", ndim, channels, classes, features, strides, ((3,) * ndim,) * stages, "none")


def saved(spec: NetworkSpec, path: Path, seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = {name: value.contiguous() for name, value in build(spec).state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return state


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_of_the_same_network_are_taken_whole(tmp_path: Path, name: str) -> None:
    spec = unet(3)
    state = saved(spec, tmp_path / name)
    network = build(spec)
    loaded = load_weights(network, spec, tmp_path / name)
    assert set(loaded.matched) == set(state) and not loaded.missing and not loaded.skipped
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_run_folder_gives_its_bundles_weights(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    state = saved(unet(2), tmp_path / "bundle" / "weights.safetensors")
    assert set(read_state(tmp_path)) == set(read_state(tmp_path / "bundle")) == set(state)


def test_of_an_ensemble_the_first_model_is_taken(tmp_path: Path) -> None:
    one, other = saved(unet(2), tmp_path / "w.pth", 1), saved(unet(2), tmp_path / "w.pth", 2)
    both = {f"members.{n}.{name}": value for n, state in enumerate((one, other)) for name, value in state.items()}
    save_file(both, tmp_path / "weights.safetensors")
    network = build(unet(2))
    assert not load_weights(network, unet(2), tmp_path).missing
    assert torch.equal(network.state_dict()["encoder.0.0.weight"], one["encoder.0.0.weight"])


def test_state_dicts_inside_checkpoints_and_of_parallel_networks_are_found(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in saved(unet(2), tmp_path / "w.pth").items()}
    torch.save({"epoch": 3, "state_dict": OrderedDict(state)}, tmp_path / "checkpoint.pth")
    assert load_weights(build(unet(2)), unet(2), tmp_path / "checkpoint.pth").missing == ()


def test_a_backbone_in_torchvisions_layout_finds_its_place(tmp_path: Path) -> None:
    network = build(RESNET)
    body = {n.removeprefix("backbone."): v for n, v in network.state_dict().items() if n.startswith("backbone.")}
    torch.save({**body, "fc.weight": torch.zeros(1000, 256), "fc.bias": torch.zeros(1000)}, tmp_path / "resnet50.pth")
    loaded = load_weights(build(RESNET), RESNET, tmp_path / "resnet50.pth")
    assert len(loaded.matched) == sum("num_batches" not in name for name in body)
    assert set(loaded.skipped) == {"fc.weight", "fc.bias"}
    assert loaded.missing and all(name.startswith("classifier.") for name in loaded.missing)
    sentence = loaded.sentence("resnet50.pth")
    assert "fc.weight, fc.bias (has no place in this network)" in sentence and "classifier.*" in sentence


@pytest.mark.parametrize(
    ("file", "name", "norm"),
    [
        ("resnet50", "fcn_resnet50", "batch"),
        ("vgg16", "fcn8s", "none"),
        ("mobilenet_v3_large", "deeplabv3_mobilenetv3", "batch"),
        ("fcn_resnet50", "fcn_resnet50", "batch"),
        ("deeplabv3_resnet50", "deeplabv3_resnet50", "batch"),
    ],
)
def test_torchvisions_files_fit_whole(file: str, name: str, norm: Literal["batch", "none"]) -> None:
    """Names and shapes of the golden list, at full width and without memory; only classifiers of images are left."""
    shapes = json.loads((GOLDEN / "torchvision_keys.json").read_text("utf-8"))[file]
    spec = NetworkSpec(name, 2, 3, 21, norm=norm, auxiliary=file.startswith(("fcn", "deeplab")))
    with torch.device("meta"):
        network = build(spec)
        loaded = transfer(network, spec, {key: torch.empty(shape) for key, shape in shapes.items()}, file)
    assert not loaded.inflated and not loaded.adapted
    assert all(key.startswith(("fc.", "classifier.")) for key in loaded.skipped)
    assert not any(key.startswith("backbone.") for key in loaded.missing)
    if file == name:
        assert not loaded.skipped and not loaded.missing


def test_a_backbone_goes_into_a_volume_network_with_one_channel(tmp_path: Path) -> None:
    saved(RESNET, tmp_path / "w.safetensors")
    spec = replace(RESNET, ndim=3, in_channels=1)
    loaded = load_weights(build(spec), spec, tmp_path / "w.safetensors")
    assert loaded.adapted == ("backbone.conv1.weight",)
    assert "backbone.layer1.0.conv2.weight" in loaded.inflated
    assert not loaded.missing and not loaded.skipped


def test_heads_of_another_number_of_classes_stay_fresh(tmp_path: Path) -> None:
    saved(unet(2, classes=4), tmp_path / "w.pth")
    spec = unet(2, classes=2)
    loaded = load_weights(build(spec), spec, tmp_path / "w.pth")
    assert loaded.missing == ("heads.0.weight", "heads.0.bias")
    assert set(loaded.skipped.values()) == {"another number of classes"}


def test_an_inflated_network_answers_an_unchanging_volume_as_the_slices(tmp_path: Path) -> None:
    """Away from the ends of the new axis, where the padding is seen."""
    flat, deep = unet(2), unet(3)
    saved(flat, tmp_path / "w.pth")
    two, three = build(flat).eval(), build(deep).eval()
    assert load_weights(two, flat, tmp_path / "w.pth").matched
    assert load_weights(three, deep, tmp_path / "w.pth").inflated
    x = torch.randn(1, 1, 8, 8)
    with torch.inference_mode():
        volume = three(x[..., None].expand(1, 1, 8, 8, 32))
        torch.testing.assert_close(volume[..., 16], two(x), rtol=1e-4, atol=1e-4)


def test_axes_that_a_3d_kernel_does_not_have_are_no_new_ones() -> None:
    """A coarse axis has kernels one voxel thick: the 2D kernel lies across it, undivided."""
    spec = replace(unet(3), kernels=((1, 3, 3), (3, 3, 3)))
    network, state = build(spec), build(unet(2)).state_dict()
    transfer(network, spec, state, "here")
    taken = network.state_dict()["encoder.0.0.weight"]
    assert torch.equal(taken[:, :, 0], state["encoder.0.0.weight"])


@given(given=st.integers(1, 4), wanted=st.integers(1, 5))
@settings(max_examples=12, deadline=None)
def test_other_channels_see_a_grey_picture_as_its_copies(given: int, wanted: int) -> None:
    """Whatever their numbers, channels that are all alike get the same answer before and after."""
    if given == wanted:
        return
    before, after = build(unet(2, given)), build(unet(2, wanted))
    loaded = transfer(after, unet(2, wanted), before.state_dict(), "here")
    assert loaded.adapted == ("encoder.0.0.weight",)
    x = torch.randn(1, 1, 8, 8)
    one, other = (net.eval().encoder[0][0](x.expand(1, n, 8, 8)) for net, n in ((before, given), (after, wanted)))
    if wanted == 1:
        # One channel stands for the sum of all.
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    elif wanted % given == 0:
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_nothing_that_fits_is_an_error_that_names_both_sides(tmp_path: Path) -> None:
    torch.save({"stem.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"other.pth: nothing in it fits network 'unet'.*stem.weight.*encoder\.\*"):
        load_weights(build(unet(2)), unet(2), tmp_path / "other.pth")


class _Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def _evil() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": _Evil()}, file)
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", bytes(200), b"\x10" + bytes(7) + b'{"a": 1}', _zip(), _evil()],
    ids=["empty", "text", "zeros", "broken safetensors", "another archive", "code"],
)
def test_damaged_and_foreign_files_are_refused_in_a_sentence(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UsageError, match=r"weights.pth: is damaged or holds no weights"):
        read_state(tmp_path / "weights.pth")
    assert "executed" not in capsys.readouterr().out


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    for name in ("w.pth", "w.safetensors"):
        saved(unet(2), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(UsageError, match="is damaged"):
            read_state(tmp_path / name)


def test_missing_files_empty_folders_and_odd_contents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        read_state(tmp_path / "none.pth")
    with pytest.raises(UsageError, match="holds no weights"):
        read_state(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UsageError, match="holds no tensors"):
        read_state(tmp_path / "empty.pth")
    torch.save({"a": torch.tensor([float("nan")])}, tmp_path / "nan.pth")
    with pytest.raises(UsageError, match="no numbers"):
        read_state(tmp_path / "nan.pth")


def test_every_tensor_of_the_file_is_accounted_for(tmp_path: Path) -> None:
    state = {
        **saved(unet(2, 3, 4), tmp_path / "w.pth"),
        "extra.weight": torch.zeros(2),
        "encoder.0.0.bias": torch.zeros(9),
    }
    network = build(unet(2))
    loaded = transfer(network, unet(2), state, "here")
    taken = {*loaded.matched, *loaded.inflated, *loaded.adapted}
    assert taken | set(loaded.skipped) == set(state) and not taken & set(loaded.skipped)
    assert taken | set(loaded.missing) == set(network.state_dict()) and not taken & set(loaded.missing)
    assert isinstance(network, nn.Module)
