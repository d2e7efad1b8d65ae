"""MONAI's SegResNet, UNETR, SwinUNETR and UNet++ under this room's contract, none of them rewritten.

`features` are the widths of MONAI's stages, from which all else follows; strides are 2 and kernels 3
throughout, as these networks have them. UNETR and SwinUNETR need the small package einops:
`pip install 'medseg[einops]'`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

from medseg.core.errors import MissingDependencyError, PlanError
from medseg.core.plan import NetworkSpec
from medseg.nets._blocks import check_input
from medseg.nets._ndim import LINEAR
from medseg.nets._valid import check_published

Size = tuple[int, ...]
_NORMS: dict[str, Any] = {
    "instance": ("instance", {"affine": True}),
    "batch": "batch",
    "none": "",
}
_PATCH = 16  # voxels of an edge that UNETR makes one token of
_GRID = 6  # tokens an axis of the grid that UNETR learns its position embeddings on: the paper's 96 voxels
_HEAD = 64  # channels of one attention head of the vision transformer


def build(spec: NetworkSpec) -> nn.Module:
    """MONAI's network of that name, with MONAI's initialisation.

    Raises PlanError for widths or strides that it cannot have, MissingDependencyError without einops.
    """
    check_published(spec)
    return _Adapted(_MAKERS[spec.name](spec), spec)


def divisor(spec: NetworkSpec) -> Size:
    """Two for every time the network halves its maps; UNETR's tokens are of 16 voxels."""
    return (2 ** (len(spec.features) - 1),) * spec.ndim


def smallest(spec: NetworkSpec) -> Size:
    """One voxel at the lowest resolution, two where a normalisation of single channels needs more than one."""
    return tuple(2 * n if spec.norm in ("instance", "batch") else n for n in divisor(spec))


def margin(spec: NetworkSpec) -> Size:
    """None: convolutions are padded."""
    return (0,) * spec.ndim


def planned(
    spec: NetworkSpec, patch: Sequence[int], spacing: Sequence[float], batch: int, output_stride: int | None = None
) -> NetworkSpec:
    """The stages that MONAI's network has, as wide as a planned U-Net's first one (in the papers' proportions)."""
    first = spec.features[0]
    features = _WIDTHS[spec.name](first)
    stages = len(features)
    strides = ((1,) * spec.ndim, *((2,) * spec.ndim,) * (stages - 1))
    return replace(spec, features=features, strides=strides, kernels=((3,) * spec.ndim,) * stages)


class _Adapted(nn.Module):
    """[B, C, *spatial] -> logits [B, L, *spatial]."""

    def __init__(self, network: nn.Module, spec: NetworkSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec
        self.size = smallest(spec), divisor(spec)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.spec, *self.size)
        out = self.network(x)
        logits: Tensor = out[0] if isinstance(out, list) else out
        return logits


def _segresnet(spec: NetworkSpec) -> nn.Module:
    """Myronenko, BrainLes 2018 (arXiv:1810.11654), without its auto-encoder: 1, 2, 2, 4, 4 … residual blocks."""
    from monai.networks.nets.segresnet import SegResNet

    first, stages = spec.features[0], len(spec.features)
    _expect(spec, tuple(first * 2**stage for stage in range(stages)), "doubles its width at each stage")
    made: nn.Module = SegResNet(
        spatial_dims=spec.ndim,
        init_filters=first,
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        dropout_prob=spec.dropout or None,
        norm=_norm(spec),
        blocks_down=((1, 2, 2) + (4,) * stages)[:stages],
        blocks_up=(1,) * (stages - 1),
    )
    return made


def _unetr(spec: NetworkSpec) -> nn.Module:
    """Hatamizadeh et al., WACV 2022 (arXiv:2103.10504); the last of `features` is the transformer's width."""
    from monai.networks.nets.unetr import UNETR

    _need_einops(spec)
    first, hidden = spec.features[0], spec.features[-1]
    _expect(spec, (first, 2 * first, 4 * first, 8 * first, hidden), "has four stages that double, and the transformer")
    heads = max(1, hidden // _HEAD)
    if hidden % heads:
        raise PlanError(f"network.features: the transformer's {hidden} channels are no multiple of its {heads} heads")
    return _AnySizeUNETR(
        UNETR(
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
            img_size=(_PATCH * _GRID,) * spec.ndim,
            feature_size=first,
            hidden_size=hidden,
            mlp_dim=4 * hidden,
            num_heads=heads,
            norm_name=_norm(spec),
            dropout_rate=spec.dropout,
            spatial_dims=spec.ndim,
        )
    )


class _AnySizeUNETR(nn.Module):
    """MONAI's UNETR, whose forward knows one image size only, for all of them.

    The position embeddings are interpolated to the tokens' grid, as is customary for vision transformers.
    """

    def __init__(self, unetr: Any) -> None:
        super().__init__()
        self.unetr = unetr
        self.mode = LINEAR[len(unetr.feat_size)]
        for block in unetr.vit.blocks:
            block.norm_cross_attn = nn.Identity()  # there is nothing to attend across to

    def forward(self, x: Tensor) -> Tensor:
        net = self.unetr
        maps = net.vit.patch_embedding.patch_embeddings(x)  # [B, hidden, *grid]
        places = net.vit.patch_embedding.position_embeddings.transpose(1, 2).unflatten(2, net.feat_size)
        maps = maps + interpolate(places, size=maps.shape[2:], mode=self.mode, align_corners=False)
        tokens = net.vit.patch_embedding.dropout(maps.flatten(2).transpose(1, 2))
        seen: list[Tensor] = []
        for block in net.vit.blocks:
            tokens = block(tokens)
            seen.append(_as_map(tokens, maps))
        out = net.decoder5(_as_map(net.vit.norm(tokens), maps), net.encoder4(seen[9]))
        out = net.decoder4(out, net.encoder3(seen[6]))
        out = net.decoder3(out, net.encoder2(seen[3]))
        logits: Tensor = net.out(net.decoder2(out, net.encoder1(x)))
        return logits


def _as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """Tokens [B, N, hidden] where they stand: [B, hidden, *grid]."""
    return tokens.transpose(1, 2).reshape(like.shape)


def _swinunetr(spec: NetworkSpec) -> nn.Module:
    """Hatamizadeh et al., BrainLes 2021 (arXiv:2201.01266); full resolution and half of it share a width."""
    from monai.networks.nets.swin_unetr import SwinUNETR

    _need_einops(spec)
    first = spec.features[0]
    _expect(spec, _swin_widths(first), "has six stages, doubling from the second on")
    if first % 12:
        raise PlanError(f"network.features: {spec.name!r} starts with a multiple of 12, not {first}")
    with _NumbersOnCpu():
        made: nn.Module = SwinUNETR(
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
            feature_size=first,
            norm_name=_norm(spec),
            drop_rate=spec.dropout,
            spatial_dims=spec.ndim,
        )
    return made


class _NumbersOnCpu(TorchFunctionMode):
    """Lets MONAI read numbers out of the `linspace` it makes them with, where networks are built without memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        where = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **where})


def _unetplusplus(spec: NetworkSpec) -> nn.Module:
    """Zhou et al., DLMIA 2018 (arXiv:1807.10165), without the heads of its deep supervision, which nothing asks for."""
    from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus

    if len(spec.features) != 5:
        raise PlanError(f"network.features: {spec.name!r} has five stages, not {len(spec.features)}")
    made = BasicUNetPlusPlus(
        spatial_dims=spec.ndim,
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        features=(*spec.features, spec.features[0]),
        norm=_norm(spec),
        bias=spec.norm == "none",
        dropout=spec.dropout,
    )
    made.final_conv_0_1 = made.final_conv_0_2 = made.final_conv_0_3 = nn.Identity()
    result: nn.Module = made
    return result


_MAKERS: dict[str, Callable[[NetworkSpec], nn.Module]] = {
    "monai_segresnet": _segresnet,
    "monai_unetr": _unetr,
    "monai_swinunetr": _swinunetr,
    "monai_unetplusplus": _unetplusplus,
}


# Widths of the stages from that of the first one, as the papers have them.
_WIDTHS: dict[str, Callable[[int], Size]] = {
    "monai_segresnet": lambda first: (first, 2 * first, 4 * first, 8 * first),
    "monai_unetr": lambda first: (first, 2 * first, 4 * first, 8 * first, 48 * first),
    "monai_swinunetr": lambda first: _swin_widths(12 * max(1, round(first / 12))),
    "monai_unetplusplus": lambda first: (first, first, 2 * first, 4 * first, 8 * first),
}


def _swin_widths(first: int) -> Size:
    return (first, *(first * 2**stage for stage in range(5)))


def _expect(spec: NetworkSpec, features: Size, why: str) -> None:
    if tuple(spec.features) != features:
        raise PlanError(f"network.features: {spec.name!r} {why}: {list(features)}, not {list(spec.features)}")


def _norm(spec: NetworkSpec) -> Any:
    """MONAI's name for the normalisation; groups divide the narrowest stage."""
    return ("group", {"num_groups": _groups(spec.features[0])}) if spec.norm == "group" else _NORMS[spec.norm]


def _groups(channels: int) -> int:
    return next(n for n in range(8, 0, -1) if channels % n == 0)


def _need_einops(spec: NetworkSpec) -> None:
    if find_spec("einops") is None:
        raise MissingDependencyError(f"network {spec.name!r} needs einops: pip install 'medseg[einops]'")
