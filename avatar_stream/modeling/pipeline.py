"""`SignerPipeline`: the maker of frames, as diffusers' users expect it. One source picture, any number of poses.

pipe = SignerPipeline.from_pretrained("models/signer-small")
source = pipe.prepare(avatar.image, avatar.pose)         # SourceNet runs once, here
picture = pipe(source=source, pose=pose, num_inference_steps=1).images[0]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from torch import nn

from avatar_stream.modeling.backend import START_SOURCE, remove_graphs
from avatar_stream.modeling.denoiser import SourceNet, TargetNet
from avatar_stream.modeling.drawing import conditioning
from avatar_stream.modeling.signer import PreparedSource, Signer
from avatar_stream.modeling.torch_backend import TorchBackend, default_dtype, load_networks
from avatar_stream.types import CANVAS_PX, Look, Pose


@dataclass
class SignerPipelineOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        images: list of (size_px, size_px, 4) uint8 RGBA, straight alpha, canonical signing frame.
    """

    images: list[np.ndarray]


class SignerPipeline(DiffusionPipeline):
    """Pose-guided person synthesis by flow matching in a latent (RPFM), with a cached source (TruePose).

    Args:
        autoencoder: `PatchAutoencoder`; stays in float32, for it is one matrix product.
        source_net, target_net: the twin networks.
        scheduler: FlowMatchEulerDiscreteScheduler; only its sigmas are used, passed by hand.
        start: "source" or "noise", where the path begins.
        noise_seed: of the fixed noise.
        body_px: side of the body's view.
        ranges: of the activations, for eight bits; see `quantization.py`.
    """

    model_cpu_offload_seq = "source_net->target_net->autoencoder"

    def __init__(
        self,
        autoencoder: nn.Module,
        source_net: SourceNet,
        target_net: TargetNet,
        scheduler: FlowMatchEulerDiscreteScheduler,
        start: str = START_SOURCE,
        noise_seed: int = 0,
        body_px: int = conditioning.BODY_PX,
        ranges: dict[str, dict[str, tuple[float, float]]] | None = None,
    ):
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder,
            source_net=source_net,
            target_net=target_net,
            scheduler=scheduler,
        )
        self.register_to_config(start=start, noise_seed=noise_seed, body_px=body_px, ranges=ranges)

    @classmethod
    def from_pretrained(
        cls,
        place: str | Path,
        torch_dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        **kwargs: object,
    ) -> SignerPipeline:
        """Load a folder or hub id written by `save_pretrained`.

        Args:
            place: folder or hub id.
            torch_dtype: of the twin networks; None: bfloat16 where the device computes in it, else float32.
            device: where the pipeline goes; None: it stays on the processor, as diffusers' do, until `to`.
            kwargs: passed on, for instance `revision` or `cache_dir`.
        """
        place, device = str(place), device or torch.device("cpu")
        config = cls.load_config(place, **kwargs)
        nets = load_networks(place, torch_dtype or default_dtype(device), **kwargs)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(place, subfolder="scheduler", **kwargs)
        settings = {key: config[key] for key in ("start", "noise_seed", "body_px", "ranges") if key in config}
        return cls(*nets, scheduler, **settings).to(device)

    @property
    def signer(self) -> Signer:
        """What makes the frames, with the networks as they are now."""
        config = self.config
        nets = self.autoencoder, self.source_net, self.target_net
        return Signer(TorchBackend(*nets, config.start, config.noise_seed, config.body_px))

    def prepare(
        self, image: np.ndarray, pose: Pose, looks: Sequence[Look] = (), size_px: int = CANVAS_PX
    ) -> PreparedSource:
        """Encode an avatar's pictures, once; see `Signer.prepare`."""
        return self.signer.prepare(image, pose, looks, size_px)

    def __call__(
        self,
        source: PreparedSource | np.ndarray | list[PreparedSource],
        pose: Pose | list[Pose],
        source_pose: Pose | None = None,
        num_inference_steps: int = 1,
        sigmas: list[float] | None = None,
        seed: int | None = None,
        windows: bool = True,
        size_px: int = CANVAS_PX,
    ) -> SignerPipelineOutput:
        """Make the source person in the target pose.

        Args:
            source: from `prepare`, or a picture (512, 512, 4) uint8 RGBA together with `source_pose`; a list of
                prepared ones goes with a list of as many poses: several avatars or streams in one batch.
            pose: target pose(s) in canvas pixels, every point finite.
            source_pose: the pose in `source`, where that is a picture.
            num_inference_steps: Euler steps, one to eight are sensible.
            sigmas: where the steps begin, falling from 1; None: evenly spaced.
            seed: of the fixed noise (a model that starts at the source image needs none).
            windows: False leaves hands and face at the body's resolution, for less than two thirds of the time.
            size_px: side of the pictures; the networks' work stays the same.

        Raises:
            ValueError: the inputs do not fit together.
        """
        # 1. Check inputs.
        if isinstance(source, np.ndarray):
            if source_pose is None:
                raise ValueError("a source picture needs its source_pose")
            source = self.prepare(source, source_pose, size_px=size_px)
        poses = pose if isinstance(pose, list) else [pose]
        sources = source if isinstance(source, list) else [source] * len(poses)
        if len(sources) != len(poses):
            raise ValueError(f"{len(sources)} sources do not go with {len(poses)} poses: give one each")
        # 2. The steps' places on the path.
        begins = sigmas or np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps).tolist()
        self.scheduler.set_timesteps(sigmas=begins)
        steps = [float(sigma) for sigma in self.scheduler.sigmas]
        # 3. Draw the poses, follow the flow, put the views together.
        images = self.signer.pictures(sources, poses, windows, size_px, steps, seed)
        return SignerPipelineOutput(images=images)

    def save_pretrained(self, save_directory: str | Path, graphs: bool = True, **kwargs: object) -> None:
        """Write the folder.

        Args:
            save_directory: where.
            graphs: write graphs for OpenVINO, too, which takes seconds; see `export.py`. Without them, and for a
                model that starts at noise, PyTorch runs the model.
            kwargs: passed on.
        """
        folder = Path(save_directory)
        super().save_pretrained(str(folder), **kwargs)
        remove_graphs(folder)  # never those of other weights
        if graphs and self.config.start == START_SOURCE:
            from avatar_stream.modeling.export import (
                export_graphs,  # needs OpenVINO, which a training machine may lack
            )

            export_graphs(self.autoencoder, self.source_net, self.target_net, folder)


def save_pipeline(
    folder: Path,
    autoencoder: nn.Module,
    source_net: SourceNet,
    target_net: TargetNet,
    start: str,
    noise_seed: int,
    body_px: int = conditioning.BODY_PX,
    graphs: bool = True,
) -> None:
    """Write a model folder that `SignerPipeline.from_pretrained` reads; `graphs` as for `save_pretrained`."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    nets = (autoencoder, source_net, target_net, scheduler)
    pipe = SignerPipeline(*nets, start, noise_seed, body_px)
    pipe.save_pretrained(folder, graphs)
