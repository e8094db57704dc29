"""A critic that tells made views from true ones: crisp edges where the mean of all possibilities would be a blur.

A patch critic (pix2pix, arXiv 1611.07004) that also sees the geometry, with the hinge loss and the distance of its
own features between made and true (pix2pixHD, arXiv 1711.11585). Used in the last part of a training.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from avatar_stream.lab.training.config import CriticConfig
from avatar_stream.lab.training.steps import TrainingBatch


class Critic(nn.Module):
    """(B, 4 + geometry, H, W) premultiplied RGBA and geometry -> features of each layer, the last one the verdict."""

    def __init__(self, width: int, geometry_channels: int = 10):
        super().__init__()
        channels = [4 + geometry_channels, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1))
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        self.verdict = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, views: torch.Tensor) -> list[torch.Tensor]:
        """(B, 14, H, W) -> features, each half the size of the one before."""
        features = []
        for layer in self.layers:
            views = functional.leaky_relu(layer(views), 0.2)
            features.append(views)
        return [*features, self.verdict(views)]


class Adversary:
    """The critic with its optimizer: judges for the networks' loss, then learns itself."""

    def __init__(self, config: CriticConfig, accelerator: Accelerator):
        self.config, self.accelerator = config, accelerator
        critic = Critic(config.width).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(critic.parameters(), lr=config.learning_rate, betas=(0.5, 0.9))
        self.critic, self.optimizer = accelerator.prepare(critic, optimizer)

    def losses(self, made: torch.Tensor, step: TrainingBatch) -> dict[str, torch.Tensor]:
        """What the networks lose to the critic; `made` (B, 4, H, W) keeps its gradient."""
        rows = torch.randperm(len(made), device=made.device)[
            : max(1, round(self.config.rows_share * len(made)))
        ]
        geometry = step.target.geometry[rows].to(made.dtype)
        inside = step.weight[rows] > 0  # beyond the frame truth is empty, which must not give the made away
        shown, truth = made[rows] * inside, step.truth[rows] * inside
        with torch.no_grad():
            true = self.critic(torch.cat([truth, geometry], dim=1))
        self.critic.requires_grad_(False)
        false = self.critic(torch.cat([shown, geometry], dim=1))
        self.critic.requires_grad_(True)
        pairs = zip(false[:-1], true[:-1], strict=True)
        likeness = sum(functional.l1_loss(a.float(), b.float()) for a, b in pairs)
        self._seen = torch.cat([truth, shown.detach()]), torch.cat([geometry, geometry])
        return {
            "verdict": -self.config.verdict * false[-1].float().mean(),
            "likeness": self.config.likeness * likeness,
        }

    def learn(self) -> float:
        """One step of the critic on what `losses` saw last; returns its hinge loss."""
        with self.accelerator.autocast():
            verdict = self.critic(torch.cat(self._seen, dim=1))[-1].float()
        true, false = verdict.chunk(2)
        loss = functional.relu(1 - true).mean() + functional.relu(1 + false).mean()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        critic = self.accelerator.unwrap_model(self.critic)
        return {"critic": critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Go on from a checkpoint."""
        self.accelerator.unwrap_model(self.critic).load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
