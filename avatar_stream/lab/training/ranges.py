"""Measure the ranges of a trained network's activations, for eight-bit engines (`modeling/quantization.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from avatar_stream.lab.training.dataset import PairDataset, open_data
from avatar_stream.modeling import flow
from avatar_stream.modeling.backend import KINDS, ONE_STEP
from avatar_stream.modeling.pipeline import SignerPipeline

_PIXEL_LAYERS = ("detail.unfold", "detail.fold")
_FEWEST_CHANNELS = 32  # geometry's ten would hardly be faster, and carry edges


class RangeMeter:
    """Collects what goes into a network's convolutions.

    with meter.watching(target_net): ...run it on frames...
    """

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, float]]] = defaultdict(list)

    @contextmanager
    def watching(self, target_net: nn.Module) -> Iterator[None]:
        """Note every layer's lowest and highest input of each call inside the block."""
        hooks = [
            layer.register_forward_pre_hook(self._hook(name))
            for name, layer in target_net.named_modules()
            if isinstance(layer, nn.Conv2d)
            and name not in _PIXEL_LAYERS
            and layer.in_channels >= _FEWEST_CHANNELS
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Each layer's range: the mean of its extremes, so that one odd frame does not coarsen all others."""
        return {name: tuple(np.mean(seen, axis=0).tolist()) for name, seen in self._seen.items()}

    def _hook(self, name: str) -> Callable:
        def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self._seen[name].append((min(float(inputs[0].min()), 0.0), float(inputs[0].max())))

        return note


@torch.inference_mode()
def measure_ranges(
    pipe: SignerPipeline, folders: Sequence[Path], sources: int = 24, seed: int = 0
) -> dict[str, dict[str, tuple[float, float]]]:
    """Run one step on samples as training draws them.

    Args:
        pipe: loaded in float32.
        folders: data sets, none of them used for evaluation.
        sources: how many; four poses of each.
        seed: of the samples.

    Raises:
        ConfigError: a folder is no data set.
    """
    data = PairDataset(
        open_data(folders, None, 0.0), 4, 4, portrait_share=1.0, looks=12, body_px=pipe.config.body_px
    )
    random = np.random.default_rng(seed)
    meters = {size: RangeMeter() for size in KINDS}
    for _ in range(sources):
        source, targets = data.sample(random)
        for size, meter in meters.items():
            read = flow.batch_of([source.views], size)
            memory = flow.read_source(pipe.source_net, read, pipe.autoencoder.encode(read.look))
            with meter.watching(pipe.target_net):
                for target in targets:
                    batch = flow.batch_of([target.views], size)
                    flow.make_pictures(pipe.target_net, pipe.autoencoder, batch, memory, ONE_STEP)
    return {size: meter.ranges() for size, meter in meters.items()}
