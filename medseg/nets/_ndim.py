"""The only place that names an operation by its number of dimensions."""

from collections.abc import Callable

import torch
from torch import nn

Make = dict[int, Callable[..., nn.Module]]

CONV: Make = {2: nn.Conv2d, 3: nn.Conv3d}
UP_CONV: Make = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: Make = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOL: Make = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH_NORM: Make = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DROPOUT: Make = {2: nn.Dropout2d, 3: nn.Dropout3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
