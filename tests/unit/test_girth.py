"""Girth read from the matte: broad people come out broad, ordinary ones as they were, arms are not the trunk."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.networks import standing_points

from avatar_stream.modeling.drawing import conditioning, figure, geometry
from avatar_stream.modeling.drawing.girth import TRUNK_WIDTHS, Girth
from avatar_stream.types import LEFT_HAND, RIGHT_HAND

BROAD = tuple(1.3 * width for width in TRUNK_WIDTHS)
SHIRT, SKIN = (40, 60, 120), (210, 160, 130)


def spread_points(by_px: float = 60.0) -> np.ndarray:
    """(553, 3) a standing person whose arms leave the trunk's sides free, or hang at them by less px."""
    points = standing_points()
    for sign, elbow, wrist, hand in ((1, 13, 15, LEFT_HAND), (-1, 14, 16, RIGHT_HAND)):
        points[elbow, 0] += sign * by_px / 2
        points[[wrist, *range(hand.start, hand.stop)], 0] += sign * by_px
    return points


def matte_of(points: np.ndarray, girth: Girth) -> np.ndarray:
    """(512, 512) uint8 matte of a person who is as thick as the girth says."""
    solids = geometry.build_solids(*[figure.measure_figure(points, girth)] * 2)
    groups = geometry.draw(solids, [geometry.view((0, 0), 1, 512)], 512)
    return np.where(np.abs(groups.maps[0]).sum(axis=0) > 0, np.uint8(255), np.uint8(0))


def trunk_of(points: np.ndarray, girth: Girth) -> np.ndarray:
    return geometry.draw_groups(figure.measure_figure(points, girth), 256) == geometry.TORSO


def test_a_broad_trunk_is_drawn_as_wide_as_the_matte_shows_it() -> None:
    """What is drawn of the trunk in another pose covers what the person's matte showed, and no more."""
    true = Girth(trunk=(TRUNK_WIDTHS[0], *BROAD[1:]))
    read = figure.girth_of(matte_of(spread_points(), true), spread_points())
    lifted = standing_points(200.0)
    drawn, truth = trunk_of(lifted, read), trunk_of(lifted, true)
    assert (drawn & truth).sum() > 0.97 * (drawn | truth).sum()
    assert drawn.sum() > 1.08 * trunk_of(lifted, Girth()).sum()


def test_a_neutral_trunk_stays_neutral() -> None:
    read = figure.girth_of(matte_of(spread_points(), Girth()), spread_points())
    assert read.trunk == pytest.approx(TRUNK_WIDTHS, rel=0.04)


def test_one_free_side_is_enough() -> None:
    """A hand that rests at one hip does not make the trunk wider than the other side shows."""
    points, broad = spread_points(), Girth(trunk=(TRUNK_WIDTHS[0], *BROAD[1:]))
    points[14], points[16, :2] = (150, 330, 0), (170, 400)
    points[RIGHT_HAND, :2] += points[16, :2] - points[RIGHT_HAND.start, :2]
    assert figure.girth_of(matte_of(points, broad), points).trunk == pytest.approx(broad.trunk, rel=0.06)


def test_arms_that_touch_the_trunk_are_no_part_of_it() -> None:
    """Where hanging arms close every gap beside it, a trunk is not taken for as wide as the arms' outer rims."""
    points = spread_points(-30.0)
    matte = cv2.morphologyEx(matte_of(points, Girth()), cv2.MORPH_CLOSE, np.ones((41, 41), np.uint8))
    read = np.array(figure.girth_of(matte, points).trunk)
    assert (read < 1.12 * np.array(TRUNK_WIDTHS)).all()
    assert (read > 0.88 * np.array(TRUNK_WIDTHS)).all()


@pytest.mark.parametrize("lost", [slice(11, 13), slice(13, 17), slice(23, 25), LEFT_HAND])
def test_what_is_unseen_leaves_the_trunk_neutral(lost: slice) -> None:
    """No landmark is needed, and a matte that says nothing changes nothing."""
    points = spread_points()
    points[lost] = np.nan
    assert figure.girth_of(np.full((512, 512), 255, np.uint8), points).trunk == TRUNK_WIDTHS


@pytest.mark.parametrize(("arm", "is_shared"), [(SHIRT, True), (SKIN, False)])
def test_a_lifted_arm_leaves_no_hole_in_its_own_cloth(arm: tuple[int, int, int], is_shared: bool) -> None:
    """A sleeve before the trunk shows the trunk's cloth; a bare arm's skin never gets onto the trunk."""
    points = spread_points(-60.0)
    person = figure.measure_figure(points, Girth())
    groups = geometry.draw_groups(person, 512)
    image = np.zeros((512, 512, 4), np.uint8)
    image[groups > 0] = (*SHIRT, 255)
    is_arm = np.isin(groups, (geometry.LEFT_ARM, geometry.RIGHT_ARM))
    is_arm[:300] = False  # the shoulders are clad
    image[is_arm] = (*arm, 255)
    lifted = points.copy()
    for elbow, wrist, hand, sign in ((13, 15, LEFT_HAND, 1), (14, 16, RIGHT_HAND, -1)):
        lifted[elbow, 0] += sign * 70
        lifted[[wrist, *range(hand.start, hand.stop)], 0] += sign * 140
    body = conditioning.draw_views(conditioning.prepare_source(image, points), lifted).body
    bared = (body.owner[0] == geometry.TORSO) & is_arm[::2, ::2]
    look = body.look[0][bared]
    assert bared.sum() > 200
    assert (look[:, 3] > 128).mean() > 0.9 if is_shared else (look[:, 0] > 150).mean() < 0.02


def test_shoulders_stay_within_the_matte() -> None:
    """Joints tracked at the rim of the cloth make no shoulder stick out; joints within the flesh stay in place."""
    points = spread_points()
    matte = matte_of(points, Girth())
    beyond = points.copy()
    beyond[[11, 12], 0] += (12, -12)
    beyond[[11, 12], 1] -= 12
    for each, is_moved in ((points, False), (beyond, True)):
        read = figure.girth_of(matte, each)
        drawn = matte_of(each, replace(read, inset=0.0)), matte_of(each, read)
        outside = [((solid > 0) & (matte == 0))[150:260].sum() for solid in drawn]
        assert outside[1] < 0.6 * outside[0] if is_moved else read.inset < 0.1
