"""Networks with few channels, a drawn person and a data set of it."""

import itertools
import json
from pathlib import Path

import numpy as np
import torch

from avatar_stream import types
from avatar_stream.modeling import flow
from avatar_stream.modeling.autoencoder import PatchAutoencoder
from avatar_stream.modeling.denoiser import SourceNet, TargetNet
from avatar_stream.modeling.drawing import geometry
from avatar_stream.modeling.drawing.figure import measure_figure
from avatar_stream.modeling.drawing.geometry import draw_groups
from avatar_stream.modeling.drawing.girth import Girth
from avatar_stream.modeling.pipeline import save_pipeline
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND, Pose
from support.places import ROOT

SMALL_WIDTHS, SMALL_HEADS = (8, 16, 24, 32), 2


def small_networks() -> tuple[SourceNet, TargetNet]:
    size = {"latent_channels": 16, "heads": SMALL_HEADS, "embedding_dim": 32}
    return SourceNet(widths=SMALL_WIDTHS[1:], **size), TargetNet(widths=SMALL_WIDTHS, **size)


def save_small_model(folder: Path) -> Path:
    """A small untrained model on disk, whose every layer has something to say, also attention."""
    torch.manual_seed(0)  # of the biases, which keep their own beginning
    generator = torch.Generator().manual_seed(0)
    autoencoder = PatchAutoencoder(latent_channels=16)
    autoencoder.basis.copy_(torch.linalg.qr(torch.randn(256, 16, generator=generator))[0].T)
    autoencoder.mean.copy_(torch.rand(256, generator=generator))
    nets = small_networks()
    for parameter in itertools.chain(*(net.parameters() for net in nets)):
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.08, generator=generator)
    save_pipeline(folder, autoencoder, *nets, flow.START_SOURCE, 0)
    return folder


def standing_points(lift_right_px: float = 0.0) -> np.ndarray:
    """(553, 3) a plain standing person in the canonical frame, the right hand lifted by some px."""
    rng = np.random.default_rng(0)
    points = np.zeros((types.POINT_COUNT, 3), np.float32)
    body = {0: (256, 150), 7: (290, 150), 8: (222, 150), 11: (330, 236), 12: (182, 236), 13: (350, 330)}
    body |= {14: (162, 330), 15: (360, 400), 16: (152, 400 - lift_right_px), 23: (300, 440), 24: (212, 440)}
    for row, place in body.items():
        points[row, :2] = place
    points[FACE, :2] = (256, 150) + rng.uniform(-1, 1, (478, 2)) * (38, 50)
    face = {10: (256, 95), 152: (256, 205), 454: (294, 150), 234: (218, 150), 1: (256, 155)}
    for row, place in face.items():
        points[FACE.start + row, :2] = place
    fingers = [((f - 2) * 6.0, 18 + 8.0 * k) for f in range(5) for k in range(4)]
    finger = np.array([(0, 0), *fingers], np.float32)
    points[LEFT_HAND, :2] = points[15, :2] + finger
    points[RIGHT_HAND, :2] = points[16, :2] + finger * (-1, 1)
    return points


def as_pose(points: np.ndarray) -> Pose:
    return Pose(points, np.ones(553, np.float32), np.full((33, 3), np.nan, np.float32), (512, 512), 0.0)


def picture() -> np.ndarray:
    image = np.random.default_rng(1).integers(0, 255, (16, 16, 4), np.uint8).repeat(32, 0).repeat(32, 1)
    image[..., 3] = 255
    return image


def small_config(output: Path, data: Path, **model: object):
    """The recipe of signer-small, so small that 60 steps take seconds."""
    from avatar_stream.lab.training.config import load_train_config

    recipe = ROOT / "configs" / "train" / "signer-small.yaml"
    config = load_train_config(recipe, {"output": output})
    sizes = {"widths": SMALL_WIDTHS, "heads": SMALL_HEADS, "autoencoder_samples": 5, "start": "noise"}
    small = config.model.model_copy(update=sizes | model)
    folder = {"folders": [data], "workers": 0, "targets": 2, "exclude": []}
    run = {"sources": 1, "max_steps": 60, "mixed_precision": "no", "warmup_steps": 2, "cooldown_share": 0.0}
    run |= {"learning_rate": 2e-3, "critic": type(config.critic)()}
    return config.model_copy(update={"model": small, "data": config.data.model_copy(update=folder), **run})


def write_data_set(folder: Path) -> Path:
    """Four pictures of one drawn person in the layout of docs/method.md."""
    folder.mkdir()
    points = np.stack([standing_points(lift) for lift in (0.0, 60.0, 120.0, 200.0)])
    colours = np.random.default_rng(0).integers(40, 255, (geometry.GROUPS, 3)).astype(np.uint8)
    images = []
    for each in points:
        owner = draw_groups(measure_figure(each, Girth()), 256).repeat(2, 0).repeat(2, 1)
        images.append(np.dstack([colours[owner], np.where(owner > 0, 255, 0).astype(np.uint8)]))
    np.save(folder / "images.npy", np.stack(images))
    np.save(folder / "parts.npy", np.full((4, 256, 256), 2, np.uint8))
    np.save(folder / "points.npy", points)
    np.save(folder / "person.npy", np.zeros(4, np.int16))
    (folder / "meta.json").write_text(json.dumps({"people": ["drawn"], "frames": 4, "seed": 0, "version": 1}))
    return folder
