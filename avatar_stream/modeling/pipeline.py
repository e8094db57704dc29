"""`SignerPipeline`: one source picture, any number of target poses, a picture for each.

pipe = SignerPipeline.from_pretrained("models/signer-small")
source = pipe.prepare(avatar.image, avatar.pose)         # SourceNet runs once, here
picture = pipe(source=source, pose=pose, num_inference_steps=1).images[0]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from torch import nn

from avatar_stream.modeling import conditioning, flow
from avatar_stream.modeling.autoencoder import load_autoencoder
from avatar_stream.modeling.denoiser import Memory, SourceNet, TargetNet
from avatar_stream.types import Pose


@dataclass(frozen=True)
class PreparedSource:
    """An avatar, encoded: all that the frames need of its picture.

    Attributes:
        picture: the picture and its pose, for warping.
        body, windows: TargetNet's memory for the two sizes of view.
    """

    picture: conditioning.Source
    body: Memory
    windows: Memory


@dataclass
class SignerPipelineOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        images: list of (512, 512, 4) uint8 RGBA, straight alpha, canonical signing frame.
    """

    images: list[np.ndarray]


def default_device() -> torch.device:
    """CUDA when there, CPU else. The one place where this is chosen."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device computes in it, float32 else."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if has_bf16() else torch.float32


class SignerPipeline(DiffusionPipeline):
    """Pose-guided person synthesis by flow matching in a latent (RPFM), with a cached source (TruePose).

    Args:
        autoencoder: `PatchAutoencoder` or `StockAutoencoder`; stays in float32, for it is one matrix product.
        source_net, target_net: the twin networks.
        scheduler: FlowMatchEulerDiscreteScheduler; only its sigmas are used, passed by hand.
        start: "source" or "noise", where the path begins.
        noise_seed: of the fixed noise.
        body_px: side of the body's view.
    """

    model_cpu_offload_seq = "source_net->target_net->autoencoder"

    def __init__(
        self,
        autoencoder: nn.Module,
        source_net: SourceNet,
        target_net: TargetNet,
        scheduler: FlowMatchEulerDiscreteScheduler,
        start: str = flow.START_SOURCE,
        noise_seed: int = 0,
        body_px: int = conditioning.BODY_PX,
    ):
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder, source_net=source_net, target_net=target_net, scheduler=scheduler
        )
        self.register_to_config(start=start, noise_seed=noise_seed, body_px=body_px)

    @classmethod
    def from_pretrained(
        cls, place: str | Path, torch_dtype: torch.dtype | None = None, **kwargs: object
    ) -> SignerPipeline:
        """Load a folder or hub id written by `save_pretrained`.

        Args:
            place: folder or hub id.
            torch_dtype: of the twin networks; None: bf16 where the default device computes in it.
            kwargs: passed on, for instance `revision` or `cache_dir`.
        """
        place = str(place)
        config = cls.load_config(place, **kwargs)
        dtype = torch_dtype or default_dtype(default_device())
        nets = {
            name: kind.from_pretrained(
                place, subfolder=name, torch_dtype=dtype, low_cpu_mem_usage=False, **kwargs
            )
            for name, kind in (("source_net", SourceNet), ("target_net", TargetNet))
        }
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(place, subfolder="scheduler", **kwargs)
        autoencoder = load_autoencoder(place, subfolder="autoencoder", **kwargs)
        settings = {key: config[key] for key in ("start", "noise_seed", "body_px") if key in config}
        pipe = cls(autoencoder=autoencoder, scheduler=scheduler, **nets, **settings)
        for network in nets.values():
            network.eval().to(memory_format=torch.channels_last)
        return pipe

    @torch.inference_mode()
    def prepare(self, image: np.ndarray, pose: Pose) -> PreparedSource:
        """Encode an avatar's picture, once.

        Args:
            image: (512, 512, 4) uint8 RGBA, straight alpha, in the canonical signing frame.
            pose: the pose in it, in its pixels.
        """
        picture = conditioning.prepare_source(image, pose.points, body_px=self.config.body_px)
        body = self._read(flow.body_batch([picture.views], self.device))
        return PreparedSource(picture, body, self._read(flow.window_batch([picture.views], self.device)))

    @torch.inference_mode()
    def __call__(
        self,
        source: PreparedSource | np.ndarray,
        pose: Pose | list[Pose],
        source_pose: Pose | None = None,
        num_inference_steps: int = 1,
        sigmas: list[float] | None = None,
        seed: int | None = None,
    ) -> SignerPipelineOutput:
        """Make the source person in the target pose.

        Args:
            source: from `prepare`, or a picture (512, 512, 4) uint8 RGBA together with `source_pose`.
            pose: target pose(s) in canvas pixels, every point finite.
            source_pose: the pose in `source`, where that is a picture.
            num_inference_steps: Euler steps, one to eight are sensible.
            sigmas: where the steps begin, falling from 1; None: evenly spaced.
            seed: of the fixed noise (a model that starts at the source image needs none).

        Raises:
            ValueError: the inputs do not fit together.
        """
        # 1. Check inputs.
        if isinstance(source, np.ndarray):
            if source_pose is None:
                raise ValueError("a source picture needs its source_pose")
            source = self.prepare(source, source_pose)
        poses = pose if isinstance(pose, list) else [pose]
        # 2. Draw the target poses.
        views = [conditioning.draw_views(source.picture, each.points) for each in poses]
        # 3. The steps' places on the path.
        sigmas = sigmas or list(np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps))
        self.scheduler.set_timesteps(sigmas=sigmas)
        steps = [float(sigma) for sigma in self.scheduler.sigmas]
        seed = self.config.noise_seed if seed is None else seed
        # 4. Follow the flow, the body's views and the windows.
        bodies = self._make(flow.body_batch(views, self.device), source.body, len(poses), 1, steps, seed)
        windows = self._make(
            flow.window_batch(views, self.device), source.windows, len(poses), 3, steps, seed
        )
        # 5. Put the views together.
        windows = windows.reshape(len(poses), conditioning.WINDOWS, *windows.shape[1:])
        images = [conditioning.paste_views(*each) for each in zip(bodies, windows, views, strict=True)]
        return SignerPipelineOutput(images=images)

    def _read(self, batch: flow.ViewBatch) -> Memory:
        latents = self.autoencoder.encode(batch.look)
        return flow.read_source(self.source_net, _cast(batch, self.source_net.dtype), latents)

    def _make(self, batch, memory, poses, group, steps, seed) -> np.ndarray:  # noqa: ANN001
        """(B, H, W, 4) float32 premultiplied RGBA."""
        look = self.autoencoder.encode(batch.look)
        start = flow.start_of_path(look, self.config.start, seed)
        memory = flow.repeat_memory(memory, poses, group) if poses > 1 else memory
        latents = flow.integrate(
            self.target_net, start, look, _cast(batch, self.target_net.dtype), memory, steps
        )
        return self.autoencoder.decode(latents).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _cast(batch: flow.ViewBatch, dtype: torch.dtype) -> flow.ViewBatch:
    return flow.ViewBatch(batch.look, batch.geometry.to(dtype), batch.parts.to(dtype), batch.kinds)


def save_pipeline(
    folder: Path,
    autoencoder: nn.Module,
    source_net: SourceNet,
    target_net: TargetNet,
    start: str,
    noise_seed: int,
    body_px: int = conditioning.BODY_PX,
) -> None:
    """Write a model folder that `SignerPipeline.from_pretrained` reads."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipe = SignerPipeline(autoencoder, source_net, target_net, scheduler, start, noise_seed, body_px)
    pipe.save_pretrained(str(folder))
