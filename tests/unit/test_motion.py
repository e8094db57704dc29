"""The signing sampler: handshapes, poses, clips, and that no limb goes through a body."""

import numpy as np
import pytest
from support.places import shared
from support.signers import hand_rows

from avatar_stream.errors import ConfigError
from avatar_stream.lab.renders.motion import Sampler
from avatar_stream.people import handshapes
from avatar_stream.people.handshapes import NAMES, Hand, shape
from avatar_stream.people.postures import RigBody
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import INDEX, JOINTS, forward
from avatar_stream.types import SIDE_PER_SHOULDERS_AND_TORSO


@pytest.fixture(scope="module", params=["person-01-a", "person-22-a"])
def bind_m(request):
    return Rig.load(shared(f"people/{request.param}.glb")).bind_m


def test_there_are_forty_different_shapes_within_the_limits():
    shapes = np.stack([shape(name) for name in NAMES])
    assert len(NAMES) >= 40
    assert (shapes >= handshapes.LOWEST - 1e-9).all() and (shapes <= handshapes.HIGHEST + 1e-9).all()
    apart = np.abs(shapes[:, None] - shapes[None]).max((2, 3)) + 10 * np.eye(len(NAMES))
    assert apart.min() > np.deg2rad(5)
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789":
        shape(letter)
    with pytest.raises(ConfigError, match="Unknown handshape"):
        shape("é")


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_fingers_bend_towards_the_palm_and_touch_what_they_should(bind_m, side):
    hand = Hand(bind_m, side)
    assert hand.palm[1] < -0.9 and hand.across[2] > 0.9  # bind pose: palms down, thumbs forwards
    fist = hand.points(hand.rotations(shape("s")))
    assert (fist[1:, 1] @ hand.palm > fist[1:, 0] @ hand.palm + 0.02).all()
    assert (np.linalg.norm(fist[1:, 3], axis=-1) < np.linalg.norm(fist[1:, 1], axis=-1)).all()
    for name, finger in (("f", 1), ("o", 1), ("d", 2), ("eight", 2), ("seven", 3), ("six", 4)):
        points = hand.points(hand.rotations(shape(name)))
        assert np.linalg.norm(points[0, 3] - points[finger, 3]) < 0.02, name
    spread = hand.points(hand.rotations(shape("five")))[1:, 3] @ hand.across
    assert (np.diff(spread) < -0.015).all()


def test_the_same_seed_gives_the_same_poses(bind_m):
    first, again, other = Sampler(bind_m, 5), Sampler(bind_m, 5), Sampler(bind_m, 6)
    a, b, c = first.pose(), again.pose(), other.pose()
    assert np.array_equal(a.rotations, b.rotations) and a.morphs == b.morphs
    assert not np.array_equal(a.rotations, c.rotations)


def test_poses_are_rotations_with_valid_faces_and_reach_the_whole_signing_space(bind_m):
    sampler = Sampler(bind_m, 1)
    poses = [sampler.pose() for _ in range(150)]
    turns = np.stack([pose.rotations for pose in poses])
    assert turns.shape[1:] == (len(JOINTS), 3, 3) and turns.dtype == np.float32
    assert np.abs(turns @ np.swapaxes(turns, -1, -2) - np.eye(3)).max() < 1e-4
    assert (np.linalg.det(turns) > 0.99).all()
    assert all(0 <= weight <= 1 for pose in poses for weight in pose.morphs.values())
    wrists = np.stack([forward(bind_m, pose)[1][[INDEX["LeftHand"], INDEX["RightHand"]]] for pose in poses])
    heights = wrists[..., 1] - bind_m[INDEX["LeftArm"], 1]
    assert heights.max() > 0.15 and heights.min() < -0.35
    assert wrists[..., 2].max() > 0.35 and np.abs(wrists[..., 0]).max() > 0.35


def test_no_hand_is_inside_the_body(bind_m):
    """Guards the push: without it about a third of these poses has a finger in the body."""
    sampler, body = Sampler(bind_m, 2), RigBody(bind_m).body
    deepest = 0.0
    for _ in range(60):
        turns, places = forward(bind_m, sampler.pose())
        points = places[hand_rows("Left") + hand_rows("Right")].astype(np.float64)
        depth, _ = body.push(turns.astype(np.float64), places.astype(np.float64), points, np.zeros(42))
        deepest = max(deepest, depth.max())
    assert deepest < 0.002


def test_the_body_pushes_outwards(bind_m):
    figure = RigBody(bind_m)
    stand = figure.stand(np.zeros(8))
    chest = stand.places[INDEX["Spine2"]] + np.array([0.0, 0.08, 0.15])
    depth, way = figure.body.push(stand.turns, stand.places, chest[None], np.zeros(1))
    assert depth[0] > 0.01 and way[0, 2] > 0.7
    depth, _ = figure.body.push(stand.turns, stand.places, chest[None] + np.array([0, 0, 0.4]), np.zeros(1))
    assert depth[0] < -0.2


def test_the_portrait_shows_both_whole_hands(bind_m):
    pose = Sampler(bind_m, 9).portrait()
    _, places = forward(bind_m, pose)
    arms = bind_m[[INDEX["LeftArm"], INDEX["RightArm"]]]
    hips = bind_m[[INDEX["LeftUpLeg"], INDEX["RightUpLeg"]]].mean(0)
    wide, high = np.linalg.norm(arms[0] - arms[1]), np.linalg.norm(arms.mean(0) - hips)
    side_m = SIDE_PER_SHOULDERS_AND_TORSO * (wide + high)
    for side, mirror in (("Left", 1), ("Right", -1)):
        hand = places[hand_rows(side)] - arms.mean(0)
        assert hand[:, 1].min() > -0.54 * side_m + 0.01 and hand[:, 1].max() < -0.25
        assert (mirror * hand[:, 0] > 0.18).all() and (mirror * hand[:, 0] < 0.5 * side_m - 0.01).all()
    assert not pose.morphs and not pose.gaze.any()


def test_a_clip_is_smooth_and_moves(bind_m):
    poses = Sampler(bind_m, 3).clip(3.0, 30)
    assert len(poses) == 90
    places = np.stack([forward(bind_m, pose)[1][hand_rows("Left") + hand_rows("Right")] for pose in poses])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    assert steps.max() < 0.16  # 4.8 m/s at a fingertip: signing's fastest
    jumps = np.linalg.norm(np.diff(places, 2, axis=0), axis=-1)
    assert np.percentile(jumps, 99) < 0.05
    assert np.linalg.norm(np.ptp(places, axis=0), axis=-1).max() > 0.15


def test_the_demonstration_signs_spells_and_returns_to_rest(bind_m):
    sampler = Sampler(bind_m, 4)
    poses = sampler.fingerspelling_clip("AVATAR", 10.0, 15)
    assert len(poses) == 150
    rest = forward(bind_m, sampler.portrait())[1]
    for pose in (poses[0], poses[-1]):
        assert np.abs(forward(bind_m, pose)[1] - rest)[hand_rows("Left") + hand_rows("Right")].max() < 0.01
    hand = INDEX["RightHandThumb1"]
    spelled = [pose.rotations[hand : hand + 20] for pose in poses]
    right = Hand(bind_m, "Right")
    for letter in "AVTR":
        wanted = right.rotations(shape(letter)).reshape(20, 3, 3)
        assert min(np.abs(turns - wanted).max() for turns in spelled) < 0.05, letter
    with pytest.raises(ConfigError):
        sampler.fingerspelling_clip("Ñ", 10.0, 15)
