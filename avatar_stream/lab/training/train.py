"""Train the autoencoder and the twin networks: `avatar-stream train configs/train/signer-small.yaml`.

Runs under accelerate: on CPU in bf16, on one GPU, on many by `accelerate launch -m avatar_stream.lab.training.train`.
A run is resumed from its last checkpoint by the same command; `--weights` starts anew from weights alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from avatar_stream.errors import ModelError
from avatar_stream.lab.training.config import TrainConfig, load_train_config
from avatar_stream.lab.training.critic import Adversary
from avatar_stream.lab.training.dataset import DataFolders, PairDataset, open_data
from avatar_stream.lab.training.steps import (
    TrainingBatch,
    TwinNetworks,
    losses_of,
    make_steps,
    picture_grid,
    truth_of,
    weights_of,
)
from avatar_stream.modeling.autoencoder import PatchAutoencoder
from avatar_stream.modeling.denoiser import SourceNet, TargetNet
from avatar_stream.modeling.torch_backend import default_dtype

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


@dataclass
class Progress:
    """What a checkpoint remembers beside weights."""

    step: int = 0
    samples: int = 0
    trained_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add = parser.add_argument
    add("config", type=Path, help="a YAML of configs/train/")
    add("--max-minutes", type=float, help="end cleanly after this time, with a checkpoint")
    add("--output", type=Path, help="folder of the run, instead of the configuration's")
    add("--weights", help="start from these weights (a folder in diffusers' layout), without a checkpoint")
    add("--data", type=Path, action="append", help="data set folder, instead of the configuration's")
    add("--threads", type=int, help="processor threads of the training step")


def run(arguments: argparse.Namespace) -> int:
    """Train as the command line says."""
    logging.getLogger("avatar_stream").setLevel(logging.INFO)
    overrides: dict[str, object] = {"output": arguments.output} if arguments.output else {}
    config = load_train_config(arguments.config, overrides)
    if arguments.data:
        config = config.model_copy(
            update={"data": config.data.model_copy(update={"folders": arguments.data})}
        )
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    # A run that is asked to end (not only by Ctrl-C) leaves its last checkpoint and no worker behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    train(config, max_minutes=arguments.max_minutes, weights=arguments.weights)
    return 0


def train(config: TrainConfig, max_minutes: float | None = None, weights: str | None = None) -> Progress:
    """Train until `max_steps` or `max_minutes`; returns what was done. Leaves checkpoint and weights in `output`."""
    torch.manual_seed(config.seed)
    accelerator = Accelerator(mixed_precision=_precision(config), cpu=not torch.cuda.is_available())
    config.output.mkdir(parents=True, exist_ok=True)
    data = config.data
    folders = open_data(data.folders, data.people, data.people_share, tuple(data.exclude))
    autoencoder = _autoencoder(config, folders, weights).to(accelerator.device).eval().requires_grad_(False)
    networks = build_networks(config, weights, autoencoder)
    if config.trained == "texture":
        networks.requires_grad_(False)
        for layer in networks.target_net.detail.texture_layers:
            layer.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [each for each in networks.parameters() if each.requires_grad],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
        fused=True,
    )
    ema = EMAModel(networks.parameters(), decay=config.ema, use_ema_warmup=True, power=0.75)
    progress = _resume(config, networks, optimizer, ema)
    networks, optimizer = accelerator.prepare(networks, optimizer)
    ema.to(accelerator.device)
    adversary = _adversary(config, accelerator)
    limit_s = max_minutes * 60 if max_minutes else None
    loop = _Loop(config, accelerator, autoencoder, networks, optimizer, ema, adversary, progress, limit_s)
    loop.run(_batches(config, folders, progress.step + accelerator.process_index))
    return progress


def _precision(config: TrainConfig) -> str:
    """What is asked for; float32 on a processor without bfloat16, where PyTorch would take ten times as long."""
    native = torch.cuda.is_available() or default_dtype(torch.device("cpu")) == torch.bfloat16
    if config.mixed_precision == "no" or native:
        return config.mixed_precision
    logger.warning("this processor has no bfloat16: training in float32")
    return "no"


@dataclass
class _Loop:
    """The training loop with its clock, checkpoints and log."""

    config: TrainConfig
    accelerator: Accelerator
    autoencoder: nn.Module
    networks: TwinNetworks
    optimizer: torch.optim.Optimizer
    ema: EMAModel
    adversary: Adversary | None
    progress: Progress
    limit_s: float | None

    def __post_init__(self) -> None:
        self.start_s = self.checkpoint_s = self.picture_s = time.monotonic()
        self.first_step, self.time_gone = self.progress.step, 0.0

    def run(self, batches: Iterator[dict[str, TrainingBatch]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.config.output / "tensorboard"))
        bar = tqdm(initial=self.progress.step, unit="step", dynamic_ncols=True, mininterval=5.0)
        try:
            while self.progress.step < self.config.max_steps and self._time_is_left():
                steps = {name: step.to(self.accelerator.device) for name, step in next(batches).items()}
                losses = self._step(steps)
                bar.update()
                self._record(writer, bar, losses)
                self._save_when_due(writer, steps)
        finally:
            self._save(steps=None, writer=writer, graphs=importlib.util.find_spec("openvino") is not None)
            bar.close()

    def _time_is_left(self) -> bool:
        """Note the share of the time that is gone; all processes agree on it, for they must end together."""
        if self.limit_s is not None:
            gone = torch.tensor(
                (time.monotonic() - self.start_s) / self.limit_s, device=self.accelerator.device
            )
            self.time_gone = float(self.accelerator.reduce(gone, reduction="mean"))
        return self.time_gone < 1.0

    def _rate(self) -> float:
        warm = min(1.0, (self.progress.step - self.first_step + 1) / max(self.config.warmup_steps, 1))
        if self.config.cooldown_share == 0 or self.limit_s is None:
            return warm
        left = (1.0 - self.time_gone) / self.config.cooldown_share
        return warm * float(np.clip(left, 0.02, 1.0))

    def _step(self, steps: dict[str, TrainingBatch]) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._rate()
        losses: dict[str, float] = {}
        for name, step in steps.items():
            with self.accelerator.autocast():
                terms = losses_of(self.networks, self.autoencoder, step, self.config, self.adversary)
            self.accelerator.backward(sum(terms.values()))
            if self.adversary is not None:
                losses[f"{name}_critic"] = self.adversary.learn()
            losses |= {f"{name}_{term}": float(value.detach()) for term, value in terms.items()}
        self.accelerator.clip_grad_norm_(self.networks.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.accelerator.unwrap_model(self.networks).parameters())
        self.progress.step += 1
        return losses

    def _record(self, writer: Any, bar: tqdm, losses: dict[str, float]) -> None:
        samples = self.config.sources * self.config.data.targets
        self.progress.samples += samples
        self.progress.history.append({"step": self.progress.step, "loss": sum(losses.values())})
        del self.progress.history[:-1000]
        if self.progress.step % 20:
            return
        seconds = time.monotonic() - self.start_s
        rate = (self.progress.step - self.first_step) * samples / seconds
        bar.set_postfix({key: f"{value:.4f}" for key, value in losses.items()} | {"samples/s": f"{rate:.1f}"})
        for key, value in (losses | {"samples_per_s": rate, "rate": self._rate()}).items():
            writer.add_scalar(key, value, self.progress.step)

    def _save_when_due(self, writer: Any, steps: dict[str, TrainingBatch]) -> None:
        now = time.monotonic()
        if now - self.checkpoint_s > self.config.checkpoint_minutes * 60:
            pictures = now - self.picture_s > self.config.picture_minutes * 60
            self._save(steps if pictures else None, writer)
            self.checkpoint_s = now
            self.picture_s = now if pictures else self.picture_s

    def _save(self, steps: dict[str, TrainingBatch] | None, writer: Any, graphs: bool = False) -> None:
        if not self.accelerator.is_main_process:
            return
        networks = self.accelerator.unwrap_model(self.networks)
        self.progress.trained_s += time.monotonic() - max(self.checkpoint_s, self.start_s)
        state = {"networks": networks.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"ema": self.ema.state_dict(), "progress": vars(self.progress)}
        if self.adversary is not None:
            state["adversary"] = self.adversary.state_dict()
        temporary = self.config.output / (CHECKPOINT + ".part")
        torch.save(state, temporary)
        os.replace(temporary, self.config.output / CHECKPOINT)
        self.ema.store(networks.parameters())
        self.ema.copy_to(networks.parameters())
        save_weights(self.config, networks, self.autoencoder, self.progress, graphs)
        if steps is not None:
            grid = picture_grid(networks, self.autoencoder, steps["windows"], self.config)
            writer.add_image("source_warped_made_truth", grid, self.progress.step, dataformats="HWC")
            Image.fromarray(grid).save(self.config.output / f"pictures-{self.progress.step:06d}.png")
        self.ema.restore(networks.parameters())


def save_weights(
    config: TrainConfig, networks: TwinNetworks, autoencoder: nn.Module, progress: Progress, graphs: bool
) -> None:
    """Write `output/weights` in diffusers' layout, loadable as a model folder, with graphs for OpenVINO or without."""
    from avatar_stream.modeling.pipeline import save_pipeline

    folder, model = config.output / "weights", config.model
    twins = networks.source_net, networks.target_net
    save_pipeline(folder, autoencoder, *twins, model.start, config.seed, model.body_px, graphs)
    figures = {
        "steps": progress.step,
        "samples": progress.samples,
        "trained_minutes": round(progress.trained_s / 60, 1),
    }
    (folder / "training.json").write_text(
        json.dumps(figures | {"config": config.model_dump(mode="json")}, indent=1)
    )


def _autoencoder(config: TrainConfig, folders: DataFolders, weights: str | None) -> nn.Module:
    folder = (Path(weights) if weights else config.output / "weights") / "autoencoder"
    if weights or folder.exists():
        return PatchAutoencoder.from_pretrained(str(folder))
    autoencoder = PatchAutoencoder(latent_channels=config.model.latent_channels)
    kept = fit_autoencoder(autoencoder, folders, config)
    logger.info("patch autoencoder keeps %.4f of the weighted variance", kept)
    return autoencoder


def fit_autoencoder(autoencoder: PatchAutoencoder, folders: DataFolders, config: TrainConfig) -> float:
    """Fit the linear autoencoder to truth's views, hands and face weighted as in the loss."""
    dataset = PairDataset(folders, targets=2, body_px=config.model.body_px, seed=config.seed)
    rng = np.random.default_rng(config.seed)
    patches, weights = [], []
    for _ in range(config.model.autoencoder_samples):
        for target in dataset.sample(rng)[1]:
            for pictures, parts in ((target.windows, target.window_parts), (target.body, target.body_parts)):
                unfolded = functional.pixel_unshuffle(truth_of([pictures]), autoencoder.config.patch_px)
                weight = functional.avg_pool2d(weights_of([parts], config.loss), autoencoder.config.patch_px)
                patches.append(unfolded.flatten(2).transpose(1, 2).reshape(-1, unfolded.shape[1]))
                weights.append(weight.reshape(-1))
    return autoencoder.fit(torch.cat(patches), torch.cat(weights))


def build_networks(config: TrainConfig, weights: str | None, autoencoder: nn.Module) -> TwinNetworks:
    """New networks of the configured size, or those of a weights folder."""
    networks = _new_networks(config, autoencoder)
    if weights:
        _take_weights(networks, Path(weights))
    elif isinstance(autoencoder, PatchAutoencoder):
        networks.target_net.detail.start_from(*autoencoder.linear_maps())
    return networks.to(memory_format=torch.channels_last)


def _take_weights(networks: TwinNetworks, folder: Path) -> None:
    """Copy what a weights folder has; what only the new networks have keeps its beginning, and is named."""
    for net, name in ((networks.source_net, "source_net"), (networks.target_net, "target_net")):
        # Not `from_pretrained` of the new configuration: it leaves what the folder lacks as memory held it.
        known = type(net).from_pretrained(folder / name, low_cpu_mem_usage=False).float().state_dict()
        lacking = net.load_state_dict(known, strict=False).missing_keys
        if lacking:
            logger.warning("%s has no weights for %s: they begin anew", folder / name, ", ".join(lacking))


def _new_networks(config: TrainConfig, autoencoder: nn.Module) -> TwinNetworks:
    probe = autoencoder.encode(torch.zeros(1, 4, 128, 128))
    if probe.shape[1] != config.model.latent_channels:
        raise ModelError(
            f"the autoencoder has {probe.shape[1]} channels, the configuration says {config.model.latent_channels}"
        )
    size = {"latent_channels": config.model.latent_channels, "patch_px": 128 // probe.shape[2]}
    size |= {"heads": config.model.heads}
    widths = config.model.widths
    source_net = SourceNet(widths=widths[1:], **size)
    return TwinNetworks(source_net, TargetNet(widths=widths, blocks=config.model.blocks, **size))


def _resume(
    config: TrainConfig, networks: TwinNetworks, optimizer: torch.optim.Optimizer, ema: EMAModel
) -> Progress:
    path = config.output / CHECKPOINT
    if not path.exists():
        return Progress()
    state = torch.load(path, map_location="cpu", weights_only=False)
    networks.load_state_dict(state["networks"])
    optimizer.load_state_dict(state["optimizer"])
    ema.load_state_dict(state["ema"])
    return Progress(**state["progress"])


def _adversary(config: TrainConfig, accelerator: Accelerator) -> Adversary | None:
    """The critic where it has a weight, with what the last checkpoint knows of it."""
    if not config.critic.used:
        return None
    adversary, path = Adversary(config.critic, accelerator), config.output / CHECKPOINT
    state = torch.load(path, map_location="cpu", weights_only=False) if path.exists() else {}
    if "adversary" in state:
        adversary.load_state_dict(state["adversary"])
    return adversary


def _batches(config: TrainConfig, folders: DataFolders, seed: int) -> Iterator[dict[str, TrainingBatch]]:
    dataset = PairDataset(
        folders,
        config.data.targets,
        config.bodies,
        config.data.portrait_share,
        picture_share=config.data.picture_share,
        lost_hands=config.data.lost_hands,
        looks=config.data.looks,
        looks_share=config.data.looks_share,
        body_px=config.model.body_px,
        seed=config.seed + seed,
    )
    loader = DataLoader(
        dataset,
        batch_size=config.sources,
        num_workers=config.data.workers,
        # In the worker, so that whole tensors travel through shared memory and not pictures one by one.
        collate_fn=partial(make_steps, config=config),
        persistent_workers=config.data.workers > 0,
        prefetch_factor=4 if config.data.workers else None,
        # Forked workers hang in OpenCV's and OpenMP's thread pools.
        multiprocessing_context="spawn" if config.data.workers else None,
    )
    return iter(loader)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    raise SystemExit(run(parser.parse_args()))
