"""The source's texture in the last step: what the source shows sharply stays sharp, at any size."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from avatar_stream.lab.training.config import LossConfig
from avatar_stream.lab.training.correspondence import Chart, cut_flow
from avatar_stream.lab.training.steps import seen_losses, texture_of
from avatar_stream.modeling import flow
from avatar_stream.modeling.detail import Transfer
from avatar_stream.modeling.drawing import conditioning, finishing, texture
from avatar_stream.modeling.drawing.finishing import ViewImages
from avatar_stream.modeling.drawing.geometry import LIMB_OF_GROUP
from avatar_stream.running.avatars import load_avatar

PRINT = slice(250, 330), slice(210, 300)  # of mei's trunk, canvas px, rows and columns


@pytest.fixture(scope="module")
def avatar():
    """Mei with a fine print on the chest, in a picture of 1024 px."""
    avatar = load_avatar("mei")
    large = cv2.resize(avatar.image, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    checks = (np.indices((160, 180)).sum(axis=0) // 6 % 2 * 200 + 20).astype(np.uint8)
    large[500:660, 420:600, :3] = checks[..., None]
    return dataclasses.replace(avatar, image=large)


def soft_views(
    source: conditioning.SourceImages, views: conditioning.Views, share: float
) -> list[ViewImages]:
    """What a network would make that blurs the source, and says how much of the texture counts."""
    made = []
    for each in (views.body, views.windows):
        count, side = each.look.shape[:2]
        pictures = [cv2.GaussianBlur(look.astype(np.float32) / 255, (0, 0), 3.0) for look in each.look]
        moves = np.zeros((count, side // 4, side // 4, 5), np.float32)
        moves[..., 2:] = 1.0
        made.append(ViewImages(np.stack(pictures), moves, np.full((count, side, side), share, np.float32)))
    return made


@pytest.mark.parametrize("size_px", [512, 768, 1024])
def test_a_print_comes_through_at_every_size(avatar, size_px):
    """Where the network says so, the picture has the source's print, and not its own blur."""
    source = conditioning.prepare_source(avatar.image, avatar.pose.points)
    views = conditioning.draw_views(source, avatar.pose.points)
    made = {share: soft_views(source, views, share) for share in (0.0, 1.0)}
    pictures = {share: finishing.paste_views(*each, views, source, size_px) for share, each in made.items()}
    box = tuple(slice(each.start * size_px // 512, each.stop * size_px // 512) for each in PRINT)
    true = cv2.resize(avatar.image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    true = true[box][..., 0].astype(float)
    soft, sharp = (pictures[share][box][..., 0].astype(float) for share in (0.0, 1.0))
    assert pictures[1.0].shape == (size_px, size_px, 4)
    assert np.abs(sharp - true).mean() < 0.4 * np.abs(soft - true).mean()
    assert np.array_equal(pictures[0.0][..., 3], pictures[1.0][..., 3]), "the matte is the network's"


@pytest.mark.parametrize("chosen", [(0,) * 5, (2, 1, 2, 1, 2)])
def test_tensors_and_the_compiled_step_lay_the_same_texture(avatar, chosen):
    """What training sees is what runs: the same looks, displacement, gain and share give the same view."""
    small = cv2.resize(avatar.image, (512, 512), interpolation=cv2.INTER_AREA)
    looks = [(each.image, each.pose.points) for each in avatar.looks[:2]]
    source = conditioning.prepare_source(small, avatar.pose.points, looks=looks)
    moved = avatar.pose.points + np.float32([5, -3, 0])
    views = conditioning.draw_views(source, moved, chosen=chosen)
    windows = views.windows
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0.2, 0.4, (3, 128, 128, 4)).astype(np.float32)
    pictures[..., 3] = 1.0
    moves = rng.normal(0, 2, (3, 32, 32, 5)).astype(np.float32)
    moves[..., 2:] = rng.uniform(0.7, 1.3, (3, 32, 32, 3))
    share = rng.uniform(0, 1, (3, 128, 128)).astype(np.float32)
    place = texture_of([views], "windows", [source], 1.0)
    tensors = [torch.from_numpy(each) for each in (pictures, moves, share)]
    channels = tensors[1].permute(0, 3, 1, 2)
    transfer = Transfer(channels[:, :2], channels[:, 2:], tensors[2][:, None])
    laid = flow.lay_texture(tensors[0].permute(0, 3, 1, 2), transfer, place).pictures
    laid = laid.permute(0, 2, 3, 1).numpy()
    for view in range(3):
        texture.lay_texture(
            pictures[view], moves[view], share[view], windows.flow[view], windows.owner[view], 1.0,
            source.texture.pixels, source.texture.limbs, views.look_of_group, views.trust_of_group,
            LIMB_OF_GROUP, 1.0, 0, 0,
        )  # fmt: skip
    apart = np.abs(pictures - laid).max(axis=-1)
    assert (pictures != 0).any() and np.abs(laid - 0.3).max() > 0.3
    assert np.quantile(apart, 0.995) < 0.01  # a place exactly between two limbs may fall to either


def test_the_true_flow_finds_a_shifted_surface():
    """Two pictures of one surface, the second 12 px to the right: each place points 12 px back."""
    rows, columns = np.indices((256, 256))
    chart = np.stack([columns, rows], axis=-1).astype(np.uint16) * 200
    target = np.roll(chart, 6, axis=1)
    target[:, :6] = 65535
    flow_px = Chart(chart).true_flow(target)
    body, windows = cut_flow(flow_px, np.array([(100, 100), (200, 200), (300, 300)]), 256)
    middles = (np.arange(256) + 0.5) * 2
    assert np.isnan(flow_px[:, :6]).all()
    assert np.abs(body[0, 60:200, 60:200, 0] - (middles[None, 60:200] - 12)).max() < 1.5
    assert np.abs(windows[1, 8:-8, 8:-8, 1] - (200.5 + np.arange(128))[8:-8, None]).max() < 1.5


def test_without_a_surface_nothing_is_known():
    """Data sets of videos have no surface map: no place of theirs is taught."""
    assert np.isnan(Chart(None).true_flow(None)).all()


def test_no_specks_along_a_crease():
    """Where two bones meet, places jump by some pixels: moved texture is read no farther away than it moves."""
    columns, rows = np.meshgrid(np.arange(32) + 100.5, np.arange(32) + 100.5)
    columns[:, 16:] += 4.0
    flow_px = np.stack([columns, rows], axis=-1).astype(np.float32)
    skin = np.full((512, 512, 4), (200, 160, 140, 255), np.uint8)
    skin[:, 132:] = (20, 0, 0, 255)  # a dark sleeve, ten pixels beyond all that this hand shows
    source = conditioning.geometry.make_picture(skin, np.zeros((256, 256), np.uint8))
    picture = np.ones((32, 32, 4), np.float32)
    moves = np.zeros((8, 8, 5), np.float32)
    moves[..., 0], moves[..., 2:] = 7.5, 1.0
    flow_px[..., 0] -= 16.0
    groups = conditioning.geometry.GROUPS
    texture.lay_texture(
        picture, moves, np.ones((32, 32), np.float32), flow_px,
        np.full((32, 32), conditioning.geometry.LEFT_PALM, np.uint8), 1.0, source.pixels, source.limbs,
        np.zeros(groups, np.uint8), np.ones(groups, np.float32), LIMB_OF_GROUP, 1.0, 0, 0,
    )  # fmt: skip
    assert picture[..., 0].min() > 0.7


def test_what_a_viewer_loses_is_detail_not_its_exact_place():
    """Two pixels beside its place a print costs less than where it is but soft."""
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.uniform(0, 1, (1, 4, 128, 128)).astype(np.float32))
    truth = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    shifted = torch.roll(truth, (2, 2), (2, 3))
    soft = torch.nn.functional.avg_pool2d(truth, 5, 1, 2)
    loss, weight = LossConfig(near=1.0, detail=1.0), torch.ones(1, 1, 128, 128)
    blurred = (("shift", shifted), ("soft", soft))
    lost = {name: seen_losses(each, truth, weight, loss) for name, each in blurred}
    assert lost["shift"]["near"] < 0.3 * lost["soft"]["near"]
    assert lost["shift"]["detail"] < 0.3 * lost["soft"]["detail"]
