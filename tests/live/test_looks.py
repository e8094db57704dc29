"""Several pictures of one person: each part is read from the one that shows it best, and does not jump."""

import dataclasses

import numpy as np
import pytest

from avatar_stream.modeling.drawing import conditioning
from avatar_stream.modeling.drawing.looks import LookChooser, describe
from avatar_stream.running.avatars import load_avatar
from avatar_stream.types import (
    FACE,
    LEFT_ELBOW,
    LEFT_HAND,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Avatar,
)

PORTRAIT, RIGHT = (0,) * 5, (0, 0, 1, 0, 0)  # whose picture each part comes from


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    """An avatar with its portrait alone."""
    return dataclasses.replace(load_avatar("mei"), looks=())


def fist(points: np.ndarray, hand: slice, amount: float = 1.0) -> np.ndarray:
    """The pose with the fingers of one hand curled back to the knuckles."""
    curled = points.copy()
    for first in (5, 9, 13, 17):
        knuckle = points[hand][first]
        curled[hand.start + first + 1 : hand.start + first + 4] = knuckle
    return points + amount * (curled - points)


def test_each_part_takes_the_picture_that_shows_it(avatar: Avatar) -> None:
    """A fist of the right hand comes from the picture with the fists; face and left hand stay."""
    points = avatar.pose.points
    fists = fist(fist(points, RIGHT_HAND), LEFT_HAND)
    chooser = LookChooser([describe(points), describe(fists)])
    assert chooser.choose(fist(points, RIGHT_HAND)) == (0, 0, 1, 0, 0)
    assert chooser.choose(points) == (0, 0, 0, 0, 0)


def test_where_a_hand_is_and_how_it_is_rolled_does_not_count(avatar: Avatar) -> None:
    """A texture moves and turns within the picture: the same hand elsewhere is the same look."""
    points = avatar.pose.points
    turned = points.copy()
    hand = points[RIGHT_HAND] - points[RIGHT_HAND][0]
    turned[RIGHT_HAND, 0], turned[RIGHT_HAND, 1] = 100 - hand[:, 1], 80 + hand[:, 0]
    before, after = describe(points)[2], describe(turned)[2]
    assert np.abs(before - after).max() < 1e-3


def test_between_two_pictures_nothing_flickers(avatar: Avatar) -> None:
    """A hand that trembles half-way between two pictures stays with the one it has."""
    points = avatar.pose.points
    chooser = LookChooser([describe(points), describe(fist(points, RIGHT_HAND))])
    halves = [chooser.choose(fist(points, RIGHT_HAND, amount))[2] for amount in (0.45, 0.55, 0.45, 0.55)]
    assert halves == [0, 0, 0, 0]
    assert chooser.choose(fist(points, RIGHT_HAND, 0.9))[2] == 1
    assert [chooser.choose(fist(points, RIGHT_HAND, amount))[2] for amount in (0.55, 0.45)] == [1, 1]


def test_a_hand_that_trembles_does_not_take_its_window_along(avatar: Avatar) -> None:
    """What is made of a hand depends on its place in the window: a held hand must not flicker with it."""
    points = avatar.pose.points
    stream = conditioning.Stream(conditioning.prepare_source(avatar.image, points))
    corners = [stream.draw(points + np.float32([shift, 0, 0])).corners for shift in (0, 1.2, -1.2, 3, 0)]
    assert all(np.array_equal(each, corners[0]) for each in corners)
    far = points + np.float32([40, 0, 0])
    assert np.array_equal(stream.draw(far).corners, conditioning.window_corners(far))


def test_only_the_chosen_parts_look_comes_from_the_other_picture(avatar: Avatar) -> None:
    """With a green second picture the right hand is green, in its window and in the body; all else is as before."""
    green = avatar.image.copy()
    green[..., :3] = (0, 255, 0)
    points = avatar.pose.points
    source = conditioning.prepare_source(avatar.image, points, looks=[(green, points)])
    plain, chosen = (conditioning.draw_views(source, points, chosen=looks) for looks in (PORTRAIT, RIGHT))
    window = conditioning.RIGHT_WINDOW
    hand = chosen.windows.maps[window, 6] > 0.5
    assert (chosen.windows.look[window][hand][:, 0] < 30).mean() > 0.9
    assert (plain.windows.look[window][hand][:, 0] > 60).mean() > 0.8
    for other in (conditioning.FACE_WINDOW, conditioning.LEFT_WINDOW):
        assert np.array_equal(plain.windows.look[other], chosen.windows.look[other])
    assert np.array_equal(plain.windows.maps, chosen.windows.maps), "the pose is drawn alike"


def test_hand_and_wrist_come_from_one_picture(avatar: Avatar) -> None:
    """A wrist in another light than its hand shows as a disc at the sleeve's end; the arm above stays as it was."""
    green = avatar.image.copy()
    green[..., :3] = (0, 255, 0)
    points = avatar.pose.points
    source = conditioning.prepare_source(avatar.image, points, looks=[(green, points)])
    look = conditioning.draw_views(source, points, chosen=(0, 0, 1, 0, 0)).body.look[0]

    def shown(elbow: int, wrist: int, along: float) -> np.ndarray:
        x, y = (points[elbow, :2] + along * (points[wrist, :2] - points[elbow, :2])) / 2
        return look[int(y), int(x), :3] > 200

    assert shown(RIGHT_ELBOW, RIGHT_WRIST, 0.9).tolist() == [False, True, False]
    assert not shown(RIGHT_ELBOW, RIGHT_WRIST, 0.5)[1], "cloth never jumps"
    assert not shown(LEFT_ELBOW, LEFT_WRIST, 0.9)[1], "the other hand is the portrait's"


def test_a_look_whose_arm_is_not_seen_leaves_the_portraits(avatar: Avatar) -> None:
    """A picture of hands alone may have no elbow: the wrist is then the portrait's, not a hole."""
    points = avatar.pose.points
    without = points.copy()
    without[[RIGHT_ELBOW, LEFT_ELBOW]] = np.nan
    source = conditioning.prepare_source(avatar.image, points, looks=[(avatar.image, without)])
    plain, chosen = (conditioning.draw_views(source, points, chosen=looks) for looks in (PORTRAIT, RIGHT))
    assert np.array_equal(plain.body.flow, chosen.body.flow)
    assert np.array_equal(plain.body.owner, chosen.body.owner)


def test_a_look_whose_hand_is_not_seen_is_never_taken_for_it(avatar: Avatar) -> None:
    points = avatar.pose.points
    without = fist(points, RIGHT_HAND)
    without[RIGHT_HAND] = np.nan
    chooser = LookChooser([describe(points), describe(without)])
    assert chooser.choose(fist(points, RIGHT_HAND)) == (0, 0, 0, 0, 0)
    assert np.isfinite(points[FACE]).all()


def test_an_open_hands_texture_is_not_laid_over_a_fist(avatar: Avatar) -> None:
    """A torn texture is sharp and wrong: what a picture shows quite otherwise is left to the network."""
    clenched = fist(avatar.pose.points, RIGHT_HAND)
    # Also from the other side.
    clenched[RIGHT_HAND, 0] = 2 * clenched[RIGHT_HAND.start, 0] - clenched[RIGHT_HAND, 0]
    points = avatar.pose.points
    source = conditioning.prepare_source(avatar.image, points)
    palm, wrist = conditioning.geometry.RIGHT_PALM, conditioning.geometry.RIGHT_WRIST
    assert conditioning.draw_views(source, points).trust_of_group[palm] == 1.0
    views = conditioning.draw_views(source, clenched)
    assert views.trust_of_group[palm] < 0.5
    assert (np.delete(views.trust_of_group, [palm, wrist]) == 1.0).all()


def bent_elbow(points: np.ndarray, way: tuple[float, float, float]) -> np.ndarray:
    """The pose with the right forearm, its hand with it, pointing another way; px of the canvas."""
    bent, shift = points.copy(), points[RIGHT_ELBOW] + np.float32(way) - points[RIGHT_WRIST]
    bent[RIGHT_WRIST] += shift
    bent[RIGHT_HAND, :2] += shift[:2]
    return bent


def test_a_bent_arm_comes_from_the_picture_with_the_bent_arm(avatar: Avatar) -> None:
    """Its folds and its light are there; but one that points at the camera would be drawn out to a smear."""
    points = avatar.pose.points
    folded, ahead = bent_elbow(points, (-70, -40, 0)), bent_elbow(points, (-40, 20, -80))
    chooser = LookChooser([describe(each) for each in (points, folded, ahead)])
    assert chooser.choose(points)[3:] == (0, 0)
    assert chooser.choose(bent_elbow(points, (-72, -34, 0)))[3:] == (0, 1)
    assert chooser.choose(bent_elbow(points, (-60, -32, -50)))[3:] == (0, 1)
    assert chooser.choose(bent_elbow(points, (-38, 22, -80)))[3:] == (0, 2)


def test_an_arm_is_never_read_where_its_hand_lies_before_it(avatar: Avatar) -> None:
    """Else the fingers of that picture are painted on the sleeve."""
    points = avatar.pose.points
    middle = (points[RIGHT_SHOULDER] + points[RIGHT_ELBOW]) / 2 - points[RIGHT_ELBOW]
    before = bent_elbow(points, tuple(middle))
    assert LookChooser([describe(points), describe(before)]).choose(before)[4] == 0
    beside = bent_elbow(points, tuple(middle + np.float32([-70, 0, 0])))
    assert LookChooser([describe(points), describe(beside)]).choose(beside)[4] == 1
