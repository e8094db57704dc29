"""One training step: what goes in, what comes out, what is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from avatar_stream.modeling import flow
from avatar_stream.modeling.conditioning import WINDOWS
from avatar_stream.modeling.denoiser import SourceNet, TargetNet
from avatar_stream.training.config import LossConfig, TrainConfig
from avatar_stream.training.dataset import HAND_PARTS, HEAD_PARTS


class Judge(Protocol):
    """What a step needs of `critic.Adversary`."""

    def losses(self, made: torch.Tensor, step: Step) -> dict[str, torch.Tensor]:
        """Further loss terms for made views (B, 4, H, W)."""


class Networks(nn.Module):
    """Both networks as one, so that one optimizer, one EMA and one wrapper hold them."""

    def __init__(self, source_net: SourceNet, target_net: TargetNet, image_encoder: nn.Module | None = None):
        super().__init__()
        self.source_net, self.target_net = source_net, target_net
        self._frozen = [image_encoder]  # in a list, so that it is no part of what is trained and saved

    @property
    def image_encoder(self) -> nn.Module | None:
        """The frozen CLIP vision model whose tokens are read (CAA), or None."""
        return self._frozen[0]

    def read(self, autoencoder: nn.Module, source: flow.ViewBatch) -> flow.Memory:
        """The sources' keys and values."""
        if self.image_encoder is not None:
            self.image_encoder.to(source.look.device)
        return flow.read_source(self.source_net, source, autoencoder.encode(source.look), self.image_encoder)

    def forward(
        self, autoencoder: nn.Module, step: Step, t: torch.Tensor, x_t: torch.Tensor, look: torch.Tensor
    ) -> torch.Tensor:
        """Velocity for the step's targets; the source is read once for all targets of one person."""
        memory = flow.repeat_memory(self.read(autoencoder, step.source), step.targets, step.group)
        batch = step.target
        return self.target_net(x_t, t, look, batch.geometry, batch.parts, batch.kinds, memory)


@dataclass(frozen=True)
class Step:
    """One size of view of one training step.

    Attributes:
        source: views of the sources. target: views of the targets, `targets` of each source after another.
        truth: (B, 4, H, W) premultiplied RGBA. weight: (B, 1, H, W) what each pixel counts.
        group: rows that belong to one pose (3 for windows).
    """

    source: flow.ViewBatch
    target: flow.ViewBatch
    truth: torch.Tensor
    weight: torch.Tensor
    targets: int
    group: int

    def to(self, device: torch.device | str) -> Step:
        """The same on another device."""
        source, target = self.source.to(device), self.target.to(device)
        return replace(
            self, source=source, target=target, truth=self.truth.to(device), weight=self.weight.to(device)
        )


def make_steps(samples: list, config: TrainConfig) -> dict[str, Step]:
    """Make a training step of samples: the windows of all targets, the body's view of some of them.

    Args:
        samples: [(source Views, [Target, ...]), ...] of `PairDataset`.
        config: the run.
    """
    sources = [source for source, _ in samples]
    targets = [target for _, several in samples for target in several]
    some = [target for target in targets if target.views.body is not None]
    windows = Step(
        flow.window_batch(sources),
        flow.window_batch([target.views for target in targets]),
        truth_of([target.windows for target in targets]),
        weights_of([target.window_parts for target in targets], config.loss),
        targets=len(targets) // len(sources),
        group=WINDOWS,
    )
    bodies = Step(
        flow.body_batch(sources),
        flow.body_batch([target.views for target in some]),
        truth_of([target.body for target in some]),
        weights_of([target.body_parts for target in some], config.loss),
        targets=len(some) // len(sources),
        group=1,
    )
    return {"windows": windows, "body": bodies}


def truth_of(pictures: list[np.ndarray]) -> torch.Tensor:
    """[(V, S, S, 4) uint8, ...] -> (B, 4, S, S) float32, 0..1."""
    return torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2).float() / 255.0


def weights_of(parts: list[np.ndarray], loss: LossConfig) -> torch.Tensor:
    """[(V, S, S) uint8 part maps, ...] -> (B, 1, S, S) float32, what each pixel counts."""
    table = torch.zeros(256)  # OUTSIDE counts nothing
    table[:8] = 1.0
    table[list(HEAD_PARTS)], table[list(HAND_PARTS)] = loss.face, loss.hand
    table[0] = loss.background
    return table[torch.from_numpy(np.concatenate(parts)).long()].unsqueeze(1)


def losses_of(
    networks: nn.Module,
    autoencoder: nn.Module,
    step: Step,
    config: TrainConfig,
    adversary: Judge | None = None,
) -> dict[str, torch.Tensor]:
    """The loss terms of one step, as the configuration weighs them; the adversary judges the decoded endpoint."""
    look = autoencoder.encode(step.target.look)
    dropped = torch.rand(len(look), device=look.device) < config.conditioning_dropout
    look = torch.where(dropped.view(-1, 1, 1, 1), torch.zeros_like(look), look)
    x_1 = autoencoder.encode(step.truth)
    x_0 = flow.start_of_path(look, config.model.start, config.seed)
    t = torch.rand(len(look), device=look.device)
    t = torch.where(torch.rand_like(t) < config.loss.first_step_share, torch.zeros_like(t), t)
    x_t = flow.straight_path(x_0, x_1, t)
    velocity = networks(autoencoder, step, t, x_t, look)
    terms: dict[str, torch.Tensor] = {}
    if config.loss.velocity:
        terms["velocity"] = config.loss.velocity * functional.mse_loss(velocity.float(), (x_1 - x_0).float())
    if config.loss.pixels or config.loss.edges:
        made = autoencoder.decode(flow.endpoint(x_t, velocity, t)).float()
        terms |= pixel_losses(made, step.truth, step.weight, config.loss)
        if adversary is not None:
            terms |= adversary.losses(made, step)
    return terms


def pixel_losses(
    made: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor, loss: LossConfig
) -> dict[str, torch.Tensor]:
    """Weighted absolute error of pixels and of neighbours' differences; all (B, ., H, W)."""
    error = made - truth
    pixels = (weight * error.abs()).mean()
    across = (weight[..., 1:] * (error[..., 1:] - error[..., :-1]).abs()).mean()
    down = (weight[..., 1:, :] * (error[..., 1:, :] - error[..., :-1, :]).abs()).mean()
    return {"pixels": loss.pixels * pixels, "edges": loss.edges * (across + down)}


@torch.no_grad()
def picture_grid(networks: Networks, autoencoder: nn.Module, step: Step, config: TrainConfig) -> np.ndarray:
    """Windows of a few targets side by side, (H, W, 3) uint8: warped source, made in one step, truth."""
    memory = flow.repeat_memory(networks.read(autoencoder, step.source), step.targets, step.group)
    look = autoencoder.encode(step.target.look)
    x = flow.start_of_path(look, config.model.start, config.seed)
    made = autoencoder.decode(flow.integrate(networks.target_net, x, look, step.target, memory, [1.0, 0.0]))
    columns = [torch.cat(list(x[:12]), dim=1) for x in (step.target.look, made.float(), step.truth)]
    grid = torch.cat(columns, dim=2)
    grid = grid[:3] + (1 - grid[3:]) * 0.8
    height = grid.shape[1] // 2
    grid = torch.cat([grid[:, :height], grid[:, height:]], dim=2)
    return (grid.clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()
