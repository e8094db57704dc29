"""Measure the ranges of a trained network's activations, for eight-bit engines (`modeling/quantization.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from avatar_stream.lab.training.dataset import PairDataset, open_data
from avatar_stream.modeling import flow
from avatar_stream.modeling.graphs import BODY_GRAPH, WINDOWS_GRAPH
from avatar_stream.modeling.pipeline import SignerPipeline
from avatar_stream.modeling.quantization import RangeMeter

_ONE_STEP = (1.0, 0.0)


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
    meters = {BODY_GRAPH: RangeMeter(), WINDOWS_GRAPH: RangeMeter()}
    for _ in range(sources):
        source, targets = data.sample(random)
        for graph, batch_of in ((BODY_GRAPH, flow.body_batch), (WINDOWS_GRAPH, flow.window_batch)):
            read = batch_of([source.views])
            memory = flow.read_source(pipe.source_net, read, pipe.autoencoder.encode(read.look))
            with meters[graph].watching(pipe.target_net):
                for target in targets:
                    batch = batch_of([target.views])
                    flow.make_pictures(pipe.target_net, pipe.autoencoder, batch, memory, _ONE_STEP)
    return {graph: meter.ranges() for graph, meter in meters.items()}
