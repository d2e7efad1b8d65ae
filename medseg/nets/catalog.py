"""What each network is: year, paper, and the reference configuration whose parameters are told of it.

FCN and DeepLab: 21 classes and RGB, as published for VOC. U-Nets: their paper's, or one channel and
two classes. MONAI's networks: as MONAI makes them by default, SwinUNETR as wide as its paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg.core.errors import PlanError
from medseg.core.plan import NetworkSpec

Norm = Literal["instance", "batch", "group", "none"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One network: the paper that describes it, its year, and the spec of its reference configuration."""

    paper: str
    year: int
    reference: NetworkSpec


def catalog() -> dict[str, Entry]:
    """All networks by name, in the order of `NETWORKS`."""
    from medseg.nets import NETWORKS

    return {name: _entry(name) for name in NETWORKS}


def entry(name: str) -> Entry:
    """What is known of one network. Raises PlanError for a name that is none, listing those there are."""
    from medseg.nets import NETWORKS, full_name

    name = full_name(name)
    if name not in NETWORKS:
        raise PlanError(f"there is no network {name!r}; there are {', '.join(NETWORKS)}")
    return _entry(name)


def _entry(name: str) -> Entry:
    paper, year = _PAPERS[name]
    return Entry(paper, year, _STAGED[name] if name in _STAGED else _voc(name))


def _staged(
    name: str, ndim: Literal[2, 3], channels: tuple[int, int], features: tuple[int, ...], norm: Norm, kernel: int = 3
) -> NetworkSpec:
    stages = len(features)
    strides = ((1,) * ndim, *((2,) * ndim,) * (stages - 1))
    return NetworkSpec(name, ndim, *channels, features, strides, ((kernel,) * ndim,) * stages, norm)


def _voc(name: str) -> NetworkSpec:
    """VGG networks without normalisation, as published; all others with batch normalisation."""
    plain = name in ("fcn32s", "fcn16s", "fcn8s", "deeplabv1")
    return NetworkSpec(name, 2, 3, 21, norm="none" if plain else "batch")


_PLANNED = (32, 64, 128, 256, 320, 320)  # of nnU-Net's 3D U-Nets

_STAGED: dict[str, NetworkSpec] = {
    "unet": _staged("unet", 3, (1, 2), _PLANNED, "instance"),
    "unet2015": _staged("unet2015", 2, (1, 2), (64, 128, 256, 512, 1024), "none"),
    "unet3d_2016": _staged("unet3d_2016", 3, (3, 3), (64, 128, 256, 512), "batch"),
    "attention_unet": _staged("attention_unet", 3, (1, 2), _PLANNED, "instance"),
    "vnet": _staged("vnet", 3, (1, 2), (16, 32, 64, 128, 256), "none", kernel=5),
    "monai_segresnet": _staged("monai_segresnet", 3, (1, 2), (8, 16, 32, 64), "group"),
    "monai_unetr": _staged("monai_unetr", 3, (1, 2), (16, 32, 64, 128, 768), "instance"),
    "monai_swinunetr": _staged("monai_swinunetr", 3, (1, 2), (48, 48, 96, 192, 384, 768), "instance"),
    "monai_unetplusplus": _staged("monai_unetplusplus", 3, (1, 2), (32, 32, 64, 128, 256), "instance"),
}

_FCN = ("Long, Shelhamer & Darrell, arXiv:1411.4038", 2015)
_V3 = ("Chen et al., DeepLab v3, arXiv:1706.05587", 2017)
_V3PLUS = ("Chen et al., DeepLab v3+, arXiv:1802.02611", 2018)
_PAPERS: dict[str, tuple[str, int]] = {
    "unet": ("Isensee et al., nnU-Net, Nature Methods 18:203", 2021),
    "unet2015": ("Ronneberger, Fischer & Brox, arXiv:1505.04597", 2015),
    "unet3d_2016": ("Çiçek et al., arXiv:1606.06650", 2016),
    "attention_unet": ("Oktay et al., arXiv:1804.03999", 2018),
    "vnet": ("Milletari, Navab & Ahmadi, arXiv:1606.04797", 2016),
    "monai_segresnet": ("Myronenko, arXiv:1810.11654", 2018),
    "monai_unetr": ("Hatamizadeh et al., arXiv:2103.10504", 2022),
    "monai_swinunetr": ("Hatamizadeh et al., arXiv:2201.01266", 2022),
    "monai_unetplusplus": ("Zhou et al., arXiv:1807.10165", 2018),
    "fcn32s": _FCN,
    "fcn16s": _FCN,
    "fcn8s": _FCN,
    "fcn_resnet50": _FCN,
    "fcn_resnet101": _FCN,
    "deeplabv1": ("Chen et al., DeepLab, arXiv:1412.7062", 2015),
    "deeplabv2": ("Chen et al., DeepLab v2, arXiv:1606.00915", 2016),
    "deeplabv3_resnet50": _V3,
    "deeplabv3_resnet101": _V3,
    "deeplabv3_mobilenetv3": _V3,
    "deeplabv3plus_resnet50": _V3PLUS,
    "deeplabv3plus_resnet101": _V3PLUS,
    "deeplabv3plus_mobilenetv3": _V3PLUS,
    "lraspp_mobilenetv3": ("Howard et al., MobileNetV3, arXiv:1905.02244", 2019),
}
