"""What rendered people wear: glasses, jewellery, watches, beards."""

import numpy as np
import pytest
from support.places import ROOT

from avatar_stream.errors import RenderError
from avatar_stream.lab.renders.accessories import adorned, is_man, wearing
from avatar_stream.lab.renders.beards import bearded
from avatar_stream.people import parts
from avatar_stream.people.camera import Camera
from avatar_stream.people.face_points import face_points
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.look import Appearance, random_look
from avatar_stream.people.renderer import RenderedPerson, Renderer
from avatar_stream.people.rig import GLASS, UNKNOWN, WORN, Rig
from avatar_stream.people.skeleton import INDEX, RigPose, rest_rotations
from avatar_stream.turns import from_vector
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND

AVATARS = ROOT / "assets" / "avatars"
SIDE_PX = 512


@pytest.fixture(scope="module")
def renderer():
    try:
        drawer = Renderer(SIDE_PX)
    except RenderError as error:
        pytest.skip(str(error))
    with drawer:
        yield drawer


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig.load(AVATARS / "ben" / "person.glb")


@pytest.fixture(scope="module")
def face(rig, renderer):
    return face_points(rig, renderer)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def turned() -> RigPose:
    """Head to the side, arms bent before the belly, mouth open."""
    rotations = rest_rotations()
    rotations[INDEX["Head"]] = from_vector(np.array([0, 0.5, 0]))
    for side, sign in (("Left", -1), ("Right", 1)):
        rotations[INDEX[f"{side}Arm"]] = from_vector(np.array([0, 0, sign * 1.1]))
        rotations[INDEX[f"{side}ForeArm"]] = from_vector(np.array([0, sign * 1.3, 0]))
    return RigPose(rotations, morphs={"MouthOpen_h": 0.6})


def changed(first: RenderedPerson, second: RenderedPerson, least: int = 12) -> np.ndarray:
    """(256, 256) bool: pixels of the maps at which two pictures differ."""
    away = np.abs(first.image.astype(int) - second.image).max(-1) >= least
    return away[::2, ::2]


def far_from(points: np.ndarray, reach_px: float) -> np.ndarray:
    """(256, 256) bool: pixels of the maps further than `reach_px` of the picture from all of these points."""
    y, x = np.mgrid[:SIDE_PX:2, :SIDE_PX:2]
    return np.all([np.hypot(x - px, y - py) > reach_px for px, py, *_ in points], 0)


@pytest.mark.parametrize("pose", [RigPose(), turned()])
def test_glasses_change_the_eyes_region_and_nothing_else(rig, face, renderer, pose):
    worn = wearing(rig, face, ["glasses"], chance())
    plain, drawn = renderer.draw(rig, pose), renderer.draw(worn, pose)
    points = landmarks(rig, face, pose).points[FACE]
    moved = changed(plain, drawn)
    assert moved[~far_from(points[[33, 133, 362, 263]], 8)].mean() > 0.1
    ears_to_nose = points[[234, 127, 33, 133, 168, 362, 263, 356, 454, 50, 280]]
    assert not moved[far_from(ears_to_nose, 22)].any()
    # The matte grows by the frame only; the glass has none of its own.
    assert (drawn.image[..., 3] >= plain.image[..., 3]).all()
    assert ((drawn.image[..., 3] > 0) & (plain.image[..., 3] == 0)).sum() < 60


def test_frames_are_face_without_a_place_and_glass_shows_the_place_behind(rig, face, renderer):
    worn = wearing(rig, face, ["glasses"], chance())
    near = Camera(1.2).aimed(rig.bind_m, rig.bind_m[INDEX["LeftEye"]] * [0, 1, 1], 0.25)
    plain, drawn = (renderer.draw(person, RigPose(), near) for person in (rig, worn))
    frame = (drawn.surface == UNKNOWN).all(-1) & (plain.surface != UNKNOWN).all(-1)
    assert frame.sum() > 300 and (drawn.parts[frame] == parts.FACE).all()
    np.testing.assert_array_equal(drawn.surface[~frame], plain.surface[~frame])
    irises = landmarks(rig, face, RigPose(), near).points[FACE][[468, 473], :2].astype(int) // 2
    assert not frame[irises[:, 1], irises[:, 0]].any()
    behind = ~frame & changed(plain, drawn, 2) & (plain.parts == parts.FACE)
    assert behind.sum() > 1000  # the glass mirrors a little


def test_a_watch_rides_on_the_arm_and_counts_as_arm(rig, face, renderer):
    worn = wearing(rig, face, ["watch"], chance())
    lowered = turned()
    for side in ("Left", "Right"):
        lowered.rotations[INDEX[f"{side}ForeArm"]] = np.eye(3)
    for pose in (lowered, turned()):
        plain, drawn = renderer.draw(rig, pose), renderer.draw(worn, pose)
        wrists = landmarks(rig, face, pose).points[[LEFT_HAND.start, RIGHT_HAND.start]]
        moved = changed(plain, drawn, 40)
        assert moved.sum() > 8
        assert far_from(wrists, 35)[moved].mean() < 0.1  # its shadow may fall further
        there = (drawn.surface == UNKNOWN).all(-1) & (plain.surface != UNKNOWN).all(-1)
        assert there.any() and (drawn.parts[there] == parts.NECK_AND_ARMS).all()


def test_nothing_is_worn_over_sleeves(renderer):
    sleeves = Rig.load(AVATARS / "mei" / "person.glb")
    face = face_points(sleeves, renderer)
    covered = wearing(sleeves, face, ["watch", "bracelets"], chance())
    assert not (covered.kinds >= WORN).any()


def test_a_beard_grows_on_the_lower_face_in_the_hair_colour(rig, face, renderer):
    points = face.place(rig, RigPose())
    seen = landmarks(rig, face, RigPose()).points[FACE]
    plain = renderer.draw(rig, RigPose())
    most = 0
    for seed in range(4):
        drawn = renderer.draw(bearded(rig, points, Appearance(), chance(seed)), RigPose())
        np.testing.assert_array_equal(drawn.parts, plain.parts)
        np.testing.assert_array_equal(drawn.surface, plain.surface)
        moved = changed(plain, drawn)
        rows = 2 * np.flatnonzero(moved.any(1))
        assert len(rows) == 0 or (rows.min() > seen[1, 1] - 25 and rows.max() < seen[152, 1] + 20)
        if moved.sum() > most:
            most = int(moved.sum())
            hair = np.sqrt(rig.part_colours[0]) @ [0.3, 0.59, 0.11]
            before, after = (one.image[::2, ::2][moved][:, :3].mean() for one in (plain, drawn))
            assert (after < before) == (hair * 255 < before)
    assert most > 60


def test_a_person_wears_the_same_for_the_same_seed_and_nothing_as_filed(rig, face):
    assert Appearance().worn == 0 and adorned(rig, face, Appearance(), man=True) is rig
    looks = [random_look(rig.part_colours, chance(seed)) for seed in range(30)]
    worn = [adorned(rig, face, look, man=True) for look in looks]
    again = adorned(rig, face, looks[3], man=True)
    np.testing.assert_array_equal(again.positions_m, worn[3].positions_m)
    np.testing.assert_array_equal(again.textures[0], worn[3].textures[0])
    assert 4 <= sum((one.kinds == GLASS).any() for one in worn) <= 15
    assert len({one.textures[0].tobytes() for one in worn}) > 8  # beards
    for one in worn:
        np.testing.assert_array_equal(one.positions_m[: len(rig.positions_m)], rig.positions_m)
        pose = turned()
        np.testing.assert_array_equal(landmarks(one, face, pose).points, landmarks(rig, face, pose).points)


def test_beards_are_for_men():
    assert is_man(Rig.load(AVATARS / "ben" / "person.glb"))
    assert is_man(Rig.load(AVATARS / "daniel" / "person.glb"))
    assert not is_man(Rig.load(AVATARS / "amara" / "person.glb"))
    assert not is_man(Rig.load(AVATARS / "elena" / "person.glb"))
