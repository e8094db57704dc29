"""The model: one way from pose to picture, a source read once, a training recipe that learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import (
    SMALL_HEADS,
    SMALL_WIDTHS,
    as_pose,
    picture,
    save_small_model,
    small_config,
    small_networks,
    standing_points,
    write_data_set,
)

from avatar_stream.modeling import flow
from avatar_stream.modeling.autoencoder import PatchAutoencoder
from avatar_stream.modeling.drawing import conditioning, finishing
from avatar_stream.modeling.pipeline import SignerPipeline
from avatar_stream.running.avatars import load_avatar
from avatar_stream.types import LEFT_HAND, RIGHT_HAND


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "tiny")


def test_geometry_shows_the_palm_from_its_back() -> None:
    """A hand seen from the palm and one seen from the back must not look the same to the network."""
    front = standing_points()
    back = front.copy()
    back[RIGHT_HAND, 0] = 2 * front[16, 0] - front[RIGHT_HAND, 0]  # the same outline, thumb on the other side
    source = conditioning.prepare_source(picture(), front)
    sides = []
    for points in (front, back):
        maps = conditioning.draw_views(source, points).windows.maps[conditioning.RIGHT_WINDOW]
        hand = maps[6] > 0.5
        assert hand.sum() > 300
        sides.append(maps[3][hand].mean())
    assert sides[0] * sides[1] < 0
    assert abs(sides[0] - sides[1]) > 0.8


def test_geometry_knows_which_hand_is_in_front() -> None:
    points = standing_points()
    points[RIGHT_HAND, :2] += points[15, :2] - points[16, :2]
    points[16, :2] = points[15, :2]
    source = conditioning.prepare_source(picture(), standing_points())
    for depth, sign in ((-40.0, 1.0), (40.0, -1.0)):
        points[16, 2] = depth
        views = conditioning.draw_views(source, points)
        codes = views.body.maps[0][6][np.abs(views.body.maps[0][6]) > 0.5]
        assert (np.sign(codes) == sign).mean() > 0.6


def test_left_window_is_the_mirrored_right_one() -> None:
    """A mirrored pose gives the left window what the right one had: the networks know one kind of hand."""
    points = standing_points(lift_right_px=60)
    mirrored = points.copy()
    mirrored[LEFT_HAND], mirrored[RIGHT_HAND] = points[RIGHT_HAND], points[LEFT_HAND]
    for left, right in ((7, 8), (11, 12), (13, 14), (15, 16), (23, 24)):
        mirrored[[left, right]] = points[[right, left]]
    mirrored[:, 0] = 512 - mirrored[:, 0]
    source = conditioning.prepare_source(picture(), points)
    right = conditioning.draw_views(source, points).windows.maps[conditioning.RIGHT_WINDOW]
    left = conditioning.draw_views(source, mirrored).windows.maps[conditioning.LEFT_WINDOW]
    assert np.mean(np.abs(right[6] - left[6]) > 0.1) < 0.03


def test_source_drawn_in_its_own_pose_is_itself() -> None:
    points = standing_points()
    source = conditioning.prepare_source(picture(), points)
    views = conditioning.draw_views(source, points)
    hand = views.windows.maps[conditioning.RIGHT_WINDOW][6] > 0.5
    error = np.abs(views.windows.look[1][hand].astype(int) - source.views.windows.look[1][hand])
    assert np.percentile(error, 90) <= 12


def test_views_of_a_picture_paste_back_to_it() -> None:
    ramp = np.linspace(60, 200, 512).astype(np.uint8)
    across, blue = np.tile(ramp, (512, 1)), np.full((512, 512), 90, np.uint8)
    image = np.dstack([across, across.T, blue, np.full((512, 512), 255, np.uint8)])
    source = conditioning.prepare_source(image, standing_points())
    body, windows = conditioning.cut_views(image, source.views.corners)
    made = (finishing.ViewImages(each.astype(np.float32) / 255) for each in (body[None], windows))
    pasted = finishing.paste_views(*made, source.views, source)
    assert np.abs(pasted.astype(int) - image).max() <= 3


def test_the_body_is_made_smaller_only_where_nothing_is_lost() -> None:
    """Empty margins are left out, and come back empty; a spread arm keeps the whole view, for the batch too."""
    avatar = load_avatar("mei")
    source = conditioning.prepare_source(avatar.image, avatar.pose.points)
    spread = avatar.pose.points.copy()
    spread[[13, 15], 0] += 90
    spread[LEFT_HAND, 0] += 90
    near, far = (conditioning.draw_views(source, points) for points in (avatar.pose.points, spread))
    trimmed, together = conditioning.trim_bodies([near])[0], conditioning.trim_bodies([near, far])
    assert trimmed.body.look.shape[1:3] == (224, 192)
    assert conditioning.trim_bodies([far])[0] is far
    assert together == [near, far]
    warped = (
        finishing.paste_views(
            *(
                finishing.ViewImages(each.look.astype(np.float32) / 255)
                for each in (views.body, views.windows)
            ),
            views,
            source,
        )
        for views in (near, trimmed)
    )
    assert np.array_equal(*warped)


def test_unseen_hand_in_the_source_is_no_error() -> None:
    points = standing_points()
    points[RIGHT_HAND] = np.nan
    source = conditioning.prepare_source(picture(), points)
    views = conditioning.draw_views(source, standing_points())
    assert np.isfinite(views.windows.maps).all()
    assert (views.windows.maps[conditioning.RIGHT_WINDOW][6] > 0.5).sum() > 300


def test_autoencoder_keeps_what_it_was_fitted_to() -> None:
    """Principal components of data with 8 degrees of freedom bring that data back."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2000, 8, generator=generator) @ torch.randn(8, 256, generator=generator)
    patches = patches * 0.05 + 0.5
    model = PatchAutoencoder(latent_channels=8)
    assert model.fit(patches, torch.ones(len(patches))) > 0.999
    image = torch.nn.functional.pixel_shuffle(patches[:1].T.reshape(1, 256, 1, 1), 8)
    assert torch.allclose(model.decode(model.encode(image)), image, atol=1e-3)
    assert model.encode(image).abs().max() < 6  # about unit variance


def test_flow_path_and_its_velocity_agree() -> None:
    """From any point of the straight path the true velocity leads to the endpoint."""
    x_0, x_1 = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    t = torch.tensor([0.0, 0.3, 0.7, 1.0])
    assert torch.allclose(flow.endpoint(flow.straight_path(x_0, x_1, t), x_1 - x_0, t), x_1, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_euler_steps_equal_the_scheduler(steps: int) -> None:
    """Our written-out loop is diffusers' FlowMatchEulerDiscreteScheduler."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=list(np.linspace(1.0, 1 / steps, steps)))
    start = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))

    def network(x, t, *_):
        return torch.sin(3 * x) + t.view(-1, 1, 1, 1), t

    batch = flow.ViewBatch(start, start, start, torch.zeros(1))
    ours, last = flow.integrate(network, start, start, batch, None, [float(s) for s in scheduler.sigmas])
    theirs = start
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        velocity = -network(theirs, (1 - sigma).reshape(1))[0]
        theirs = scheduler.step(velocity, timestep, theirs).prev_sample
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert float(last) == pytest.approx(1 - 1 / steps), "the texture is laid as the last step says"


def test_source_is_read_once_and_frames_cost_what_they_must(model_folder: Path) -> None:
    """SourceNet once per avatar; TargetNet per step and size of view; decoder per frame and size of view."""
    pipe = SignerPipeline.from_pretrained(model_folder, torch_dtype=torch.float32)
    calls = {"source": 0, "target": 0, "decoder": 0}
    decode = pipe.autoencoder.decode
    pipe.autoencoder.decode = lambda x: (calls.__setitem__("decoder", calls["decoder"] + 1), decode(x))[1]
    pipe.source_net.register_forward_hook(lambda *_: calls.__setitem__("source", calls["source"] + 1))
    pipe.target_net.register_forward_hook(lambda *_: calls.__setitem__("target", calls["target"] + 1))
    source = pipe.prepare(picture(), as_pose(standing_points()))
    assert calls == {"source": 2, "target": 0, "decoder": 0}  # the body's view and the windows
    for frame in range(3):
        pipe(source=source, pose=as_pose(standing_points(10.0 * frame)), num_inference_steps=2)
    assert calls == {"source": 2, "target": 3 * 2 * 2, "decoder": 3 * 2}


def test_face_attends_to_face() -> None:
    """Guided attention: with equal features, a face's place reads the source's face rather than its clothes."""
    attention = small_networks()[1].attentions[0]
    width, heads = SMALL_WIDTHS[2], SMALL_HEADS
    torch.nn.init.zeros_(attention.to_query.weight)
    torch.nn.init.zeros_(attention.to_query.bias)
    torch.nn.init.eye_(attention.to_out.weight[:, :, 0, 0].data)
    face, clothes = torch.eye(6)[3], torch.eye(6)[1]
    values = torch.tensor([1.0, -1.0]).view(1, 1, 2, 1).expand(1, heads, 2, width // heads)
    places = torch.stack([face, clothes]).expand(1, heads, 2, 6)  # behind the keys, as SourceNet puts them
    keys = torch.cat([torch.zeros_like(values), places], dim=-1)
    read = attention(torch.zeros(1, width, 1, 1), face.view(1, 1, 6), keys, values)
    assert read.mean() > 0.5


def test_tiny_training_learns_and_reloads(tmp_path: Path) -> None:
    """The recipe in small, from noise: the loss falls, a run goes on where it stopped, weights reload the same."""
    from avatar_stream.lab.training.train import train

    data = write_data_set(tmp_path / "data")
    config = small_config(tmp_path / "run", data).model_copy(
        update={"max_steps": 20, "learning_rate": 1.2e-2}
    )
    weights = tmp_path / "run" / "weights"
    assert train(config).step == 20
    assert fixed_loss(weights, config, data) < 0.7 * fixed_loss(None, config, data)
    assert train(config.model_copy(update={"max_steps": 21})).step == 21
    assert json.loads((weights / "training.json").read_text())["steps"] == 21
    pipes = [SignerPipeline.from_pretrained(weights, torch_dtype=torch.float32) for _ in range(2)]
    given = {
        "source": picture(),
        "source_pose": as_pose(standing_points()),
        "pose": as_pose(standing_points(50)),
    }
    assert np.array_equal(*(pipe(**given).images[0] for pipe in pipes))


def fixed_loss(weights: Path | None, config, data: Path) -> float:
    """Loss of trained (or new) weights on the same samples, the same times."""
    from avatar_stream.lab.training import dataset, steps, train

    samples = dataset.PairDataset([dataset.PictureFolder(data)], config.data.targets, seed=7)
    rng = np.random.default_rng(7)
    autoencoder = PatchAutoencoder.from_pretrained(str(config.output / "weights" / "autoencoder"))
    networks = train.build_networks(config, str(weights) if weights else None, autoencoder)
    batches = [step for _ in range(4) for step in steps.make_steps([samples.sample(rng)], config).values()]
    torch.manual_seed(0)
    with torch.no_grad():
        losses = [sum(steps.losses_of(networks, autoencoder, step, config).values()) for step in batches]
        return float(sum(losses))
