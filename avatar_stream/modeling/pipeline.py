"""`SignerPipeline`: one source picture, any number of target poses, a picture for each.

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

from avatar_stream.modeling import engine as engines
from avatar_stream.modeling import flow
from avatar_stream.modeling.autoencoder import PatchAutoencoder
from avatar_stream.modeling.denoiser import Memory, SourceNet, TargetNet
from avatar_stream.modeling.drawing import conditioning, finishing
from avatar_stream.types import CANVAS_PX, Look, Pose


@dataclass(frozen=True)
class PreparedSource:
    """An avatar, encoded: all that the frames need of its picture.

    Attributes:
        picture: the pictures and their poses, for warping.
        stream: which draws pose after pose: one prepared source for one stream.
        body, windows: TargetNet's memory for the two sizes of view.
    """

    picture: conditioning.Source
    stream: conditioning.Stream
    body: Memory
    windows: Memory


@dataclass
class SignerPipelineOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        images: list of (size_px, size_px, 4) uint8 RGBA, straight alpha, canonical signing frame.
    """

    images: list[np.ndarray]


def default_device() -> torch.device:
    """CUDA when there, CPU else. The one place where this is chosen."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device, engine: str = engines.EAGER) -> torch.dtype:
    """bf16 where the device computes in it, float32 else and where the engine reduces the precision itself."""
    if engine in engines.ON_PROCESSORS:
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, as far as PyTorch uses it."""
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


class SignerPipeline(DiffusionPipeline):
    """Pose-guided person synthesis by flow matching in a latent (RPFM), with a cached source (TruePose).

    Args:
        autoencoder: `PatchAutoencoder`; stays in float32, for it is one matrix product.
        source_net, target_net: the twin networks.
        scheduler: FlowMatchEulerDiscreteScheduler; only its sigmas are used, passed by hand.
        start: "source" or "noise", where the path begins.
        noise_seed: of the fixed noise.
        body_px: side of the body's view.
        ranges: of the activations, for eight-bit engines; see `quantization.py`.
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
        self.use_engine(engines.EAGER)

    @classmethod
    def from_pretrained(
        cls,
        place: str | Path,
        torch_dtype: torch.dtype | None = None,
        engine: str = engines.AUTO,
        threads: int | None = None,
        device: torch.device | None = None,
        **kwargs: object,
    ) -> SignerPipeline:
        """Load a folder or hub id written by `save_pretrained`.

        Args:
            place: folder or hub id.
            torch_dtype: of the twin networks; None: what the engine wants. Where it is given, `engine` "auto" is
                "eager", which is the one that computes in it.
            engine: what runs the frames, one of `engine.ENGINES`; it starts at the first frame, on the device where
                the pipeline then is.
            threads: of the engine; see `engine.create`.
            device: where the pipeline goes; None: it stays on the processor, as diffusers' do, until `to`.
            kwargs: passed on, for instance `revision` or `cache_dir`.

        Raises:
            ModelError: the engine is unknown, or missing.
        """
        place = str(place)
        config = cls.load_config(place, **kwargs)
        if engine == engines.AUTO and torch_dtype is not None:
            engine = engines.EAGER
        device = device or torch.device("cpu")
        dtype = torch_dtype or default_dtype(
            device, engines.choose(engine, device, bool(config.get("ranges")))[0]
        )
        nets = {
            name: kind.from_pretrained(
                place, subfolder=name, torch_dtype=dtype, low_cpu_mem_usage=False, **kwargs
            )
            for name, kind in (("source_net", SourceNet), ("target_net", TargetNet))
        }
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(place, subfolder="scheduler", **kwargs)
        autoencoder = PatchAutoencoder.from_pretrained(place, subfolder="autoencoder", **kwargs)
        settings = {key: config[key] for key in ("start", "noise_seed", "body_px", "ranges") if key in config}
        pipe = cls(autoencoder=autoencoder, scheduler=scheduler, **nets, **settings)
        for network in nets.values():
            network.eval().to(memory_format=torch.channels_last)
        pipe.use_engine(engine, threads)
        return pipe.to(device)

    def use_engine(
        self, name: str = engines.AUTO, threads: int | None = None, cache: Path | None = None
    ) -> None:
        """Say what shall run the frames from now on; see `engine.create`."""
        self._wish, self._engine = (name, threads, cache), None

    @property
    def engine(self) -> engines.Engine:
        """What runs the frames, made at the first use after a choice or a change of device.

        Raises:
            ModelError: it cannot run here.
        """
        if self._engine is None or self._engine_device != self.device:
            name, threads, cache = self._wish
            nets = self.target_net, self.autoencoder
            self._engine = engines.create(name, *nets, threads, cache, self.config.ranges)
            self._engine_device = self.device
        return self._engine

    @torch.inference_mode()
    def prepare(
        self, image: np.ndarray, pose: Pose, looks: Sequence[Look] = (), size_px: int = CANVAS_PX
    ) -> PreparedSource:
        """Encode an avatar's picture, once.

        Args:
            image: (S, S, 4) uint8 RGBA, S of 512 or more, straight alpha, in the canonical signing frame.
            pose: the pose in it, in canvas pixels.
            looks: further pictures of the same person.
            size_px: side of the pictures that are to be made.
        """
        others = [(each.image, each.pose.points) for each in looks]
        picture = conditioning.prepare_source(
            image, pose.points, body_px=self.config.body_px, looks=others, size_px=size_px
        )
        body = self._read(flow.body_batch([picture.views], self.device))
        return PreparedSource(
            picture,
            conditioning.Stream(picture),
            body,
            self._read(flow.window_batch([picture.views], self.device)),
        )

    @torch.inference_mode()
    def warm_up(self, source: PreparedSource, num_inference_steps: int = 1, size_px: int = CANVAS_PX) -> None:
        """Run the engine once for one pose at a time, so that the first frame does not wait for it to be made."""
        steps = self._steps(num_inference_steps, None)
        seed = self.config.noise_seed
        for views in conditioning.both_sizes(source.picture.views):
            body = self._make(flow.body_batch([views], self.device), [source.body], steps, seed)
        windows = self._make(flow.window_batch([views], self.device), [source.windows], steps, seed)
        finishing.paste_views(body[0], windows[0], views, source.picture, size_px)

    @torch.inference_mode()
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
            ModelError: the engine cannot run here.
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
        # 2. Draw the target poses.
        views = [each.stream.draw(target.points) for each, target in zip(sources, poses, strict=True)]
        views = conditioning.trim_bodies(views)
        # 3. The steps' places on the path.
        steps = self._steps(num_inference_steps, sigmas)
        seed = self.config.noise_seed if seed is None else seed
        # 4. Follow the flow, the body's views and the windows.
        bodies = self._make(flow.body_batch(views, self.device), [each.body for each in sources], steps, seed)
        details = [None] * len(poses)
        if windows:
            batch = flow.window_batch(views, self.device)
            details = self._make(batch, [each.windows for each in sources], steps, seed)
        # 5. Put the views together and lay the source's texture over them.
        images = [
            finishing.paste_views(*each, one.picture, size_px)
            for *each, one in zip(bodies, details, views, sources, strict=True)
        ]
        return SignerPipelineOutput(images=images)

    def _steps(self, count: int, sigmas: list[float] | None) -> list[float]:
        self.scheduler.set_timesteps(sigmas=sigmas or list(np.linspace(1.0, 1.0 / count, count)))
        return [float(sigma) for sigma in self.scheduler.sigmas]

    def _read(self, batch: flow.ViewBatch) -> Memory:
        latents = self.autoencoder.encode(batch.look)
        dtype = self.source_net.dtype
        batch = flow.ViewBatch(batch.look, batch.geometry.to(dtype), batch.parts.to(dtype), batch.kinds)
        return flow.read_source(self.source_net, batch, latents)

    def _make(
        self, batch: flow.ViewBatch, memories: list[Memory], steps: list[float], seed: int
    ) -> list[finishing.MadeViews]:
        """What the networks made, pose by pose."""
        made = self.engine.make(batch, flow.join_memories(memories), steps, self.config.start, seed)
        return flow.views_of(made, len(memories))


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
    nets = (autoencoder, source_net, target_net, scheduler)
    pipe = SignerPipeline(*nets, start, noise_seed, body_px)
    pipe.save_pretrained(str(folder))
