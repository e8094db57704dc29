"""What a recipe may switch on: the critic, the whole frame at full scale."""

from pathlib import Path

import numpy as np
import torch
from support.networks import as_pose, picture, small_config, standing_points, write_data_set

from avatar_stream.lab.training.config import CriticConfig
from avatar_stream.lab.training.train import train
from avatar_stream.modeling.pipeline import SignerPipeline


def make(model: Path) -> np.ndarray:
    pipe = SignerPipeline.from_pretrained(model, torch_dtype=torch.float32)
    source = pipe.prepare(picture(), as_pose(standing_points()))
    return pipe(source=source, pose=as_pose(standing_points(50))).images[0]


def test_critic_trains_and_is_remembered(tmp_path: Path) -> None:
    """A critic learns beside the networks, is in the checkpoint, and goes on from there."""
    critic = CriticConfig(verdict=0.01, likeness=0.1, width=8, learning_rate=2e-3)
    config = small_config(tmp_path / "run", write_data_set(tmp_path / "data"))
    config = config.model_copy(update={"critic": critic, "max_steps": 3})
    train(config)
    first = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=False)["adversary"]["critic"]
    train(config.model_copy(update={"max_steps": 4}))
    second = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=False)["adversary"]["critic"]
    moved = max((first[name] - second[name]).abs().max() for name in first if "original" in name)
    assert 0 < moved < 0.05  # one step further, not begun anew


def test_body_view_at_full_scale(tmp_path: Path) -> None:
    """`body_px: 512` trains, saves and makes frames of the same size."""
    config = small_config(tmp_path / "run", write_data_set(tmp_path / "data"), body_px=512, start="source")
    train(config.model_copy(update={"max_steps": 2}))
    assert make(tmp_path / "run" / "weights").shape == (512, 512, 4)
