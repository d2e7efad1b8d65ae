"""How much memory predicting a scan takes, from its grid and the model alone.

`medseg predict --memory 4G` refuses what would need more, before anything is computed.
"""

from __future__ import annotations

from math import prod

import torch

from medseg.bundle import Bundle
from medseg.core.geometry import Geometry
from medseg.core.plan import NetworkSpec
from medseg.inference.crf import peak_bytes
from medseg.inference.device import precision
from medseg.inference.slabs import HELD_BYTES, open_bytes, swept_axis
from medseg.inference.window import axes_of
from medseg.nets import fit_patch, stages
from medseg.preprocess import trace_of

# A Python process with medseg, torch and the readers imported, without the model's weights.
LOADED_BYTES = 300 * 10**6
# What the libraries set up when a network first runs.
_WARM = 70 * 10**6
# Slabs on their way from one grid to the other (planes in, intermediate, out, best), and looking at their certainty.
_RESAMPLING = 120 * 10**6
# Cleaning and counting pieces, beside the label map and its copy.
_PIECES = 100 * 10**6
# Telling objects apart, a voxel: interiors, smoothed, foreground, pieces, seeds, objects (float32, int32) and masks.
_APART = 28
# Stored pixels (16 bits, mostly) beside the float32 volume made of them.
_STORED = 2
# Feature maps of full resolution that live at a time in a U-Net: those of the way down that are
# concatenated, their concatenation (twice as wide), and what is computed of it.
_MAPS = 5


def predicted_peak(geometry: Geometry, bundle: Bundle) -> int:
    """Bytes that predicting one scan on this grid takes at most, beyond the loaded process, on a CPU.

    From reading its file (16-bit pixels) to the label map. Right to about a quarter; measured in
    benchmarks/README.md. Raises UsageError where the scan is absurdly large at the plan's spacing.
    """
    plan, channels = bundle.plan, len(bundle.task.channels)
    trace = trace_of(geometry, plan)
    source, prepared = prod(geometry.shape), prod(trace.prepared.shape)
    axes = axes_of(plan, trace.prepared.shape)
    scan = 4 * channels * source
    held = min(HELD_BYTES, open_bytes(axes, swept_axis(axes, trace), plan.network.out_channels))
    computing = 4 * channels * prepared + source + held + _WARM + max(_activations(bundle), _RESAMPLING)
    if plan.instances is not None:  # probabilities of interiors and foreground
        computing += 8 * source
    if plan.crf.iterations:  # which needs the probabilities of the whole volume
        computing += peak_bytes(trace.prepared.shape, plan.network.out_channels, plan)
    cleaning = 2 * source + _WARM + (_PIECES if plan.instances is None else _APART * source)
    return scan + max(_STORED * source, computing, cleaning)


def refusal(geometry: Geometry, bundle: Bundle, memory: int) -> str:
    """Why a scan on this grid cannot be predicted within `memory` bytes for the whole process; "" where it can."""
    weights = sum(value.numel() * value.element_size() for value in bundle.state.values())
    needed = LOADED_BYTES + weights + predicted_peak(geometry, bundle)
    if needed <= memory:
        return ""
    return f"it would need {needed / 1e9:.1f} GB of memory, and {memory / 1e9:.1f} GB are allowed (--memory)"


def _activations(bundle: Bundle) -> int:
    """Bytes of the feature maps that live at a time while the network answers one batch of windows."""
    plan = bundle.plan
    size = torch.empty(0, dtype=precision(plan, torch.device("cpu"))).element_size()
    voxels = prod(fit_patch(plan.network, plan.patch[: plan.ndim]))
    return int(max(1, plan.window.batch) * voxels * _widest(plan.network) * _MAPS * size)


def _widest(spec: NetworkSpec) -> float:
    """Features of the widest stage, in terms of voxels at full resolution."""
    return max(channels / prod(step) for channels, step in stages(spec))
