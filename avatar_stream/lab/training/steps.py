"""One training step: what goes in, what comes out, what is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from avatar_stream.lab.training.config import LossConfig, TrainConfig
from avatar_stream.lab.training.dataset import HAND_PARTS, HEAD_PARTS, TargetViews
from avatar_stream.modeling import flow
from avatar_stream.modeling.denoiser import Memory, SourceNet, TargetNet
from avatar_stream.modeling.detail import Prediction, Transfer
from avatar_stream.modeling.drawing.conditioning import WINDOWS, SourceImages, Views
from avatar_stream.modeling.drawing.geometry import LIMB_OF_GROUP, Drawing, unframed
from avatar_stream.modeling.drawing.texture import stretch
from avatar_stream.types import CANVAS_PX

if TYPE_CHECKING:
    from avatar_stream.lab.training.critic import Adversary

_FAVOUR = 0.03  # by how much the texture may be farther from truth than what is made
_SHIFT_PX, _BLOCK_PX = 2, 4
_DETAIL_PX = 8
_NEAR_PX = 12.0  # px of a view beyond which a true place is no correction but another one


class TwinNetworks(nn.Module):
    """Both networks as one, so that one optimizer, one EMA and one wrapper hold them."""

    def __init__(self, source_net: SourceNet, target_net: TargetNet):
        super().__init__()
        self.source_net, self.target_net = source_net, target_net

    def read(self, autoencoder: nn.Module, source: flow.ViewBatch) -> Memory:
        """The sources' keys and values."""
        return flow.read_source(self.source_net, source, autoencoder.encode(source.look))

    def forward(
        self,
        autoencoder: nn.Module,
        step: TrainingBatch,
        t: torch.Tensor,
        x_t: torch.Tensor,
        look: torch.Tensor,
    ) -> Prediction:
        """What TargetNet says of the step's targets; the source is read once for all targets of one person."""
        memory = flow.repeat_memory(self.read(autoencoder, step.source), step.targets, step.group)
        batch = step.target
        return self.target_net(x_t, t, look, batch.geometry, batch.parts, batch.kinds, memory)


@dataclass(frozen=True)
class TrainingBatch:
    """One size of view of one training step.

    Attributes:
        source: views of the sources. target: views of the targets, `targets` of each source after another.
        texture: where the targets' pixels lie in their sources. truth_flow: (B, 2, H, W) where they truly lie, canvas
            px of the source, NaN where it is not known. step_px: canvas px per px of the views.
        truth: (B, 4, H, W) premultiplied RGBA. weight: (B, 1, H, W) what each pixel counts.
        group: rows that belong to one pose (3 for windows).
    """

    source: flow.ViewBatch
    target: flow.ViewBatch
    truth: torch.Tensor
    weight: torch.Tensor
    texture: flow.Texture
    truth_flow: torch.Tensor
    step_px: float
    targets: int
    group: int

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same on another device."""
        names = ("source", "target", "truth", "weight", "texture", "truth_flow")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def make_steps(samples: list, config: TrainConfig) -> dict[str, TrainingBatch]:
    """Make a training step of samples: the windows of all targets, the body's view of some of them.

    Args:
        samples: [(SourceImages, [Target, ...]), ...] of `PairDataset`.
        config: the run.
    """
    sources = [source for source, _ in samples]
    targets = [target for _, several in samples for target in several]
    some = [target for target in targets if target.views.body is not None]
    body_step_px = CANVAS_PX / config.model.body_px

    def batch(size: str, name: str, chosen: list[TargetViews], step_px: float, group: int) -> TrainingBatch:
        views = [target.views for target in chosen]
        truth, parts, true_flow = (
            [getattr(target, key) for target in chosen] for key in (size, f"{name}_parts", f"{name}_flow")
        )
        return TrainingBatch(
            flow.batch_of([source.views for source in sources], size),
            flow.batch_of(views, size),
            truth_of(truth),
            weights_of(parts, config.loss),
            texture_of(views, size, sources, step_px),
            flow_of(true_flow),
            step_px,
            targets=len(chosen) // len(sources),
            group=group,
        )

    windows = batch("windows", "window", targets, 1.0, WINDOWS)
    return {"windows": windows, "body": batch("body", "body", some, body_step_px, 1)}


def truth_of(pictures: list[np.ndarray]) -> torch.Tensor:
    """[(V, S, S, 4) uint8, ...] -> (B, 4, S, S) float32, 0..1."""
    return torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2).float() / 255.0


def flow_of(flows: list[np.ndarray]) -> torch.Tensor:
    """[(V, S, S, 2) float32, ...] -> (B, 2, S, S)."""
    return torch.from_numpy(np.concatenate(flows)).permute(0, 3, 1, 2)


def texture_of(views: list[Views], size: str, sources: list[SourceImages], step_px: float) -> flow.Texture:
    """Where the pixels of views lie in their sources, whose pictures are as fine as the views.

    Args:
        views: of the targets, as many of each source.
        size: "windows" or "body".
        sources: theirs.
        step_px: canvas px per px of the views.
    """
    drawn: list[Drawing] = [getattr(each, size) for each in views]
    changes = [
        stretch(each.flow[view], each.owner[view], step_px)
        for each in drawn
        for view in range(len(each.owner))
    ]
    believed = [each.trust_of_group[pixels.owner] for each, pixels in zip(views, drawn, strict=True)]
    changes = torch.from_numpy(np.stack(changes)).permute(0, 3, 1, 2).contiguous()
    changes[:, 4] *= torch.from_numpy(np.concatenate(believed))
    owner = [each.owner for each in drawn]
    limb = LIMB_OF_GROUP[np.concatenate(owner)]
    look = np.concatenate([each.look_of_group[groups] for each, groups in zip(views, owner, strict=True)])
    images = _stacked([_pictures(source, step_px) for source in sources])
    return flow.Texture(
        flow_of([each.flow for each in drawn]),
        changes,
        torch.from_numpy(limb)[:, None],
        torch.from_numpy(look)[:, None],
        torch.from_numpy(images).permute(0, 1, 4, 2, 3).contiguous(),
        torch.from_numpy(_stacked([source.picture.limbs for source in sources])),
    )


def _pictures(source: SourceImages, step_px: float) -> np.ndarray:
    """(L, S, S, 4) uint8 premultiplied RGBA of a source's looks, as fine as a view's pixels."""
    pictures = unframed(source.picture)
    side = round(CANVAS_PX / step_px)
    if side == CANVAS_PX:
        return pictures
    return np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_AREA) for each in pictures])


def _stacked(looks: list[np.ndarray]) -> np.ndarray:
    """[(L, ...), ...] -> (N, most L, ...): who has fewer looks has empty ones, which nothing reads."""
    most = max(len(each) for each in looks)
    return np.stack([np.pad(each, [(0, most - len(each))] + [(0, 0)] * (each.ndim - 1)) for each in looks])


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
    step: TrainingBatch,
    config: TrainConfig,
    adversary: Adversary | None = None,
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
    velocity, transfer = networks(autoencoder, step, t, x_t, look)
    terms: dict[str, torch.Tensor] = {}
    if config.loss.velocity:
        terms["velocity"] = config.loss.velocity * functional.mse_loss(velocity.float(), (x_1 - x_0).float())
    if config.loss.pixels or config.loss.edges:
        made = autoencoder.decode(flow.endpoint(x_t, velocity, t)).float()
        terms |= pixel_losses(made, step.truth, step.weight, config.loss)
        laid = flow.lay_texture(made, transfer, step.texture)
        if config.loss.texture:
            terms |= texture_losses(made.detach(), laid, transfer, step, config.loss)
        if config.loss.near or config.loss.detail:
            terms |= seen_losses(laid.pictures, step.truth, step.weight, config.loss)
        if adversary is not None:
            terms |= adversary.losses(laid.pictures, step)  # what a viewer sees
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


def seen_losses(
    seen: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor, loss: LossConfig
) -> dict[str, torch.Tensor]:
    """What a viewer loses: a shift of two pixels is forgiven and blur is not; all (B, ., H, W).

    Blur is the least of all absolute errors where the exact place cannot be known, so it needs a term of its own.
    """
    seen, truth = seen[:, :3], truth[:, :3]
    missing = (_detail(seen) - _detail(truth)).abs()
    counts = functional.avg_pool2d(weight, _DETAIL_PX, _DETAIL_PX // 2)
    return {
        "near": loss.near * (weight * _apart(seen, truth)).mean(),
        "detail": loss.detail * (counts * missing).mean(),
    }


def _detail(colour: torch.Tensor) -> torch.Tensor:
    """(B, 1, h, w) mean absolute Laplacian of the grey picture in overlapping blocks."""
    grey = colour.mean(dim=1, keepdim=True)
    laplacian = 4 * grey[..., 1:-1, 1:-1] - grey[..., :-2, 1:-1] - grey[..., 2:, 1:-1]
    laplacian = laplacian - grey[..., 1:-1, :-2] - grey[..., 1:-1, 2:]
    return functional.avg_pool2d(functional.pad(laplacian.abs(), [1] * 4), _DETAIL_PX, _DETAIL_PX // 2)


def texture_losses(
    made: torch.Tensor, laid: flow.Laid, transfer: Transfer, step: TrainingBatch, loss: LossConfig
) -> dict[str, torch.Tensor]:
    """What the texture's displacement, gain and share lose; nothing of it reaches the pictures without texture.

    The share is not asked for few wrong pixels: these prefer blur to a sharp print that lies 3 px off. It learns which
    of both is nearer to truth where small shifts are forgiven.

    Args:
        made: (B, 4, H, W) without texture, no gradient.
        laid: the texture moved by the network.
        transfer: what moved it.
        step: truth.
        loss: weights.
    """
    truth, alpha = step.truth[:, :3], step.truth[:, 3:]
    shown = laid.colour * alpha
    right = _nearer(shown.detach(), made[:, :3], truth)
    counts = step.weight * laid.seen.detach() * alpha
    total = counts.sum().clamp_min(1.0)
    colour = (counts * right * (shown - truth).abs().mean(dim=1, keepdim=True)).sum() / total
    share = transfer.share.float().clamp(1e-4, 1 - 1e-4)
    entropy = -(right * share.log() + (1 - right) * (1 - share).log())
    terms = {
        "colour": colour,
        "share": 0.1 * (counts * entropy).sum() / total,
        "place": 0.02 * place_error(laid.moved, step),
    }
    return {f"texture_{name}": loss.texture * term for name, term in terms.items()}


def place_error(moved: torch.Tensor, step: TrainingBatch) -> torch.Tensor:
    """Mean distance of moved places from the true ones, in px of the view, where those are known and near."""
    wanted = (step.truth_flow - step.texture.flow) / step.step_px
    near = torch.nan_to_num(wanted.abs().amax(dim=1, keepdim=True), nan=math.inf) < _NEAR_PX
    apart = (
        (moved / step.step_px - torch.nan_to_num(wanted)).abs().clamp_max(_NEAR_PX).mean(dim=1, keepdim=True)
    )
    counts = near * step.weight
    return (counts * apart).sum() / counts.sum().clamp_min(1.0)


def _nearer(texture: torch.Tensor, made: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) 0..1: how surely the texture is as near to truth as what is made, small shifts forgiven."""
    return torch.sigmoid((_apart(made, truth) + _FAVOUR - _apart(texture, truth)) / (_FAVOUR / 4))


def _apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) least mean difference of blocks over shifts of two pixels."""
    height, width = a.shape[-2:]
    around = functional.pad(b, [_SHIFT_PX] * 4, mode="replicate")
    best = None
    for y, x in ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        top, left = _SHIFT_PX * (y + 1), _SHIFT_PX * (x + 1)
        apart = (a - around[..., top : top + height, left : left + width]).abs().mean(dim=1, keepdim=True)
        apart = functional.avg_pool2d(apart, _BLOCK_PX, 2, _BLOCK_PX // 2 - 1)
        best = apart if best is None else torch.minimum(best, apart)
    return functional.interpolate(best, size=(height, width), mode="bilinear")


@torch.no_grad()
def picture_grid(
    networks: TwinNetworks, autoencoder: nn.Module, step: TrainingBatch, config: TrainConfig
) -> np.ndarray:
    """Windows of a few targets side by side, (H, W, 3) uint8: warped source, made in one step, with texture, truth."""
    memory = flow.repeat_memory(networks.read(autoencoder, step.source), step.targets, step.group)
    look = autoencoder.encode(step.target.look)
    x = flow.start_of_path(look, config.model.start, config.seed)
    x_1, transfer = flow.integrate(networks.target_net, x, look, step.target, memory, [1.0, 0.0])
    made = autoencoder.decode(x_1).float()
    laid = flow.lay_texture(made, transfer, step.texture).pictures
    columns = [torch.cat(list(x[:12]), dim=1) for x in (step.target.look, made, laid, step.truth)]
    grid = torch.cat(columns, dim=2)
    grid = grid[:3] + (1 - grid[3:]) * 0.8
    height = grid.shape[1] // 2
    grid = torch.cat([grid[:, :height], grid[:, height:]], dim=2)
    return (grid.clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()
