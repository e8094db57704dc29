"""The last steps of a picture: what the views disagree about does not show, what signs stays."""

import numpy as np
import pytest

from avatar_stream.modeling.drawing import conditioning, finishing
from avatar_stream.modeling.drawing.finishing import ViewImages
from avatar_stream.running.avatars import load_avatar
from avatar_stream.types import LEFT_HAND, LEFT_WRIST, RIGHT_HAND, RIGHT_WRIST

CHEST = (256, 280)  # x, y of mei's trunk, canvas px


@pytest.fixture(scope="module")
def source() -> conditioning.SourceImages:
    avatar = load_avatar("mei")
    return conditioning.prepare_source(avatar.image, avatar.pose.points)


def before_trunk() -> np.ndarray:
    points = load_avatar("mei").pose.points.copy()
    shift = np.float32([205, 300]) - points[RIGHT_HAND, :2].mean(axis=0)
    points[RIGHT_HAND, :2] += shift
    points[RIGHT_WRIST, :2] += shift
    return points


def pasted(
    source: conditioning.SourceImages, holes: list[tuple[float, float, int]], size_px: int = 512
) -> np.ndarray:
    """The right hand beside `CHEST`, with square holes (x, y, side in canvas px) in the body and in every window."""
    points = before_trunk()
    views = conditioning.draw_views(source, points)
    body = views.body.look.astype(np.float32) / 255
    windows = views.windows.look.astype(np.float32) / 255
    windows[conditioning.LEFT_WINDOW] = windows[conditioning.LEFT_WINDOW, :, ::-1]
    for x, y, side in holes:
        around = [slice(int(v - side / 2), int(v + side / 2)) for v in (y, x)]
        body[0][tuple(slice(each.start // 2, each.stop // 2) for each in around)] = 0
        for window, (left, top) in zip(windows, views.corners, strict=True):
            first = np.maximum([around[0].start - top, around[1].start - left], 0)
            last = np.maximum([around[0].stop - top, around[1].stop - left], 0)
            window[first[0] : last[0], first[1] : last[1]] = 0
    windows[conditioning.LEFT_WINDOW] = windows[conditioning.LEFT_WINDOW, :, ::-1]
    made = ViewImages(body), ViewImages(np.ascontiguousarray(windows))
    return finishing.paste_views(*made, views, source, size_px)


@pytest.mark.parametrize("size_px", [512, 768, 1024])
def test_a_notch_is_closed_in_the_colour_round_it(source: conditioning.SourceImages, size_px: int) -> None:
    """Where views doubt whether air is seen between arm and trunk, viewers see no bright spot."""
    x, y = (v * size_px // 512 for v in CHEST)
    whole, mended = pasted(source, [], size_px), pasted(source, [(*CHEST, 8)], size_px)
    around = np.s_[y - 8 : y + 8, x - 8 : x + 8]
    assert (mended[around][..., 3] == 255).all()
    assert np.abs(mended[around].mean(axis=(0, 1)) - whole[around].mean(axis=(0, 1))).max() < 12


def test_a_true_gap_stays_open(source: conditioning.SourceImages) -> None:
    """An arm akimbo shows what is behind it."""
    assert pasted(source, [(*CHEST, 30)])[CHEST[1], CHEST[0], 3] == 0


def test_a_ring_of_fingers_stays_open(source: conditioning.SourceImages) -> None:
    """The hole in a letter's ring is small and is the letter."""
    x, y = before_trunk()[RIGHT_HAND][[0, 9], :2].mean(axis=0)
    assert pasted(source, [(x, y, 8)])[int(y), int(x), 3] < 128


def test_a_hand_out_of_the_picture_does_no_harm(source: conditioning.SourceImages) -> None:
    for away in ([-700, 0], [700, 0], [0, -700], [0, 700]):
        points = source.figures[0].points.copy()
        points[RIGHT_HAND, :2] += np.float32(away)
        views = conditioning.draw_views(source, points)
        made = (ViewImages(each.look.astype(np.float32) / 255) for each in (views.body, views.windows))
        assert finishing.paste_views(*made, views, source)[CHEST[1], CHEST[0], 3] == 255


def test_where_hands_meet_each_comes_from_its_own_window(source: conditioning.SourceImages) -> None:
    """The right hand's window shows the left one too, but not as well as the left one's own."""
    points = load_avatar("mei").pose.points.copy()
    for hand, wrist, place in ((RIGHT_HAND, RIGHT_WRIST, (225, 300)), (LEFT_HAND, LEFT_WRIST, (285, 300))):
        shift = np.float32(place) - points[hand, :2].mean(axis=0)
        points[hand, :2] += shift
        points[wrist, :2] += shift
    views = conditioning.draw_views(source, points)
    windows = np.zeros((3, 128, 128, 4), np.float32)
    windows[..., 3] = 1.0
    windows[conditioning.LEFT_WINDOW, ..., 0] = windows[conditioning.RIGHT_WINDOW, ..., 2] = 1.0
    body = views.body.look.astype(np.float32) / 255
    picture = finishing.paste_views(ViewImages(body), ViewImages(windows), views, source)
    for hand, own, other in ((LEFT_HAND, 0, 2), (RIGHT_HAND, 2, 0)):
        x, y = points[hand, :2].mean(axis=0).astype(int)
        assert picture[y, x, own] > 200 and picture[y, x, other] < 50
