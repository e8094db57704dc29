"""What every tracker keeps, whatever is inside: the same tests for each type there is."""

import dataclasses

import cv2
import numpy as np
import psutil
import pytest
from support.stages import clip_frames, track

from avatar_stream.errors import TrackerError
from avatar_stream.landmarks import HANDS, IRISES, SHOULDERS, WRISTS, mirror_pose
from avatar_stream.running.config import find_stage, stage_names
from avatar_stream.types import (
    FACE,
    LEFT_EAR,
    LEFT_HAND,
    LEFT_HIP,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_EAR,
    RIGHT_HAND,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Frame,
)

TYPES = stage_names("trackers")
BACKGROUND = 150
pytestmark = pytest.mark.parametrize("kind", TYPES)


def make_tracker(kind, **options):
    stage = find_stage("trackers", kind)
    return stage(stage.Options(**options))


def track_all(kind, frames, **options):
    return track(make_tracker(kind, **options), frames)


def signer(first=0, count=6):
    return clip_frames("video/webcam-signer.mp4", first, count)


def with_images(frames, change):
    return [dataclasses.replace(frame, image=np.ascontiguousarray(change(frame.image))) for frame in frames]


def plain_frames(count, size=(640, 480), value=BACKGROUND, start_s=0.0):
    image = np.full((size[1], size[0], 3), value, np.uint8)
    return [Frame(image, start_s + k / 30, k) for k in range(count)]


def shoulders_px(pose):
    return float(np.linalg.norm(np.diff(pose.points[SHOULDERS, :2], axis=0)))


def test_points_are_where_the_layout_says(kind):
    frames = signer(count=8)
    pose = track_all(kind, frames)[-1]
    assert pose.points.shape == (553, 3) and pose.points.dtype == np.float32
    assert pose.confidence.shape == (553,) and pose.confidence.dtype == np.float32
    assert pose.world.shape == (33, 3) and pose.world.dtype == np.float32
    assert pose.size == (640, 480) and pose.time_s == frames[-1].time_s
    points, unit = pose.points[:, :2], shoulders_px(pose)
    assert points[NOSE, 1] < points[LEFT_SHOULDER, 1] < points[LEFT_HIP, 1], "upright"
    for left, right in ((LEFT_EAR, RIGHT_EAR), (LEFT_SHOULDER, RIGHT_SHOULDER), (LEFT_WRIST, RIGHT_WRIST)):
        assert points[left, 0] > points[right, 0], "the signer's own left is at the right of the picture"
    face = points[FACE]
    assert np.linalg.norm(face[:468].mean(0) - points[NOSE]) < 0.3 * unit
    assert face[10, 1] < face[1, 1] < face[13, 1] <= face[14, 1] < face[152, 1], "forehead to chin"
    for iris, corners in zip(IRISES, ((362, 263), (133, 33)), strict=True):
        inner, outer = sorted(face[list(corners), 0])
        assert inner < face[iris, 0] < outer, "irises are between the corners of their own eyes"
    for rows, wrist in zip(HANDS, WRISTS, strict=True):
        hand = points[rows]
        if not np.isfinite(hand).all():
            continue
        palm = np.linalg.norm(hand[9] - hand[0])
        assert np.linalg.norm(hand[0] - points[wrist]) < palm, "a hand hangs on its own wrist"
        assert np.linalg.norm(hand[12] - hand[9]) < 2 * palm
    assert np.isfinite(points[LEFT_HAND]).all() or np.isfinite(points[RIGHT_HAND]).all()


def test_depth_counts_from_each_parts_own_origin(kind):
    pose = track_all(kind, signer(count=8))[-1]
    unit = shoulders_px(pose)
    assert abs(pose.points[[LEFT_HIP, RIGHT_HIP], 2].mean()) < 0.1 * unit, "the body's, from between the hips"
    face = pose.points[FACE]
    assert face[1, 2] < face[[234, 454], 2].min(), "the nose is nearer than the ears"
    assert np.ptp(face[:468, 2]) < 2 * np.ptp(face[:468, 0]), "in the same pixels"
    for rows in HANDS:
        if np.isfinite(pose.points[rows]).all():
            assert abs(pose.points[rows.start, 2]) < 0.01 * unit, "a hand's, from its wrist"
    assert np.abs(pose.world[[LEFT_HIP, RIGHT_HIP]].mean(0)).max() < 0.05, "metres from between the hips"
    assert 0.2 < np.linalg.norm(pose.world[LEFT_SHOULDER] - pose.world[RIGHT_SHOULDER]) < 0.6


def test_a_mirrored_picture_exchanges_left_and_right(kind):
    frames = signer(first=46, count=10)
    pose = track_all(kind, frames)[-1]
    turned = mirror_pose(track_all(kind, with_images(frames, lambda image: image[:, ::-1]))[-1])
    unit = shoulders_px(pose)
    apart = np.linalg.norm(turned.points[:, :2] - pose.points[:, :2], axis=1)
    assert apart[11:15].max() < 0.2 * unit and apart[FACE].max() < 0.15 * unit
    both = [np.isfinite([each.points[rows, 0] for each in (pose, turned)]).all() for rows in HANDS]
    assert any(both), "a hand is seen in both"
    for rows, seen in zip(HANDS, both, strict=True):
        assert not seen or np.median(apart[rows]) < 0.2 * unit


@pytest.mark.parametrize("value", [0, 40, BACKGROUND, 255])
def test_nobody_in_a_plain_picture(kind, value):
    assert track_all(kind, plain_frames(3, value=value)) == [None] * 3


def test_nobody_in_a_clip_without_a_person(kind):
    assert all(pose is None for pose in track_all(kind, clip_frames("odd/no-person.mp4", 0, 5)))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (640, 2), (3, 480), (17, 16), (400, 20)])
def test_tiny_and_thin_pictures_show_nobody(kind, size):
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    assert track_all(kind, [Frame(image, k / 30, k) for k in range(2)]) == [None, None]


@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (333, 251)])
def test_a_sudden_change_of_resolution(kind, size):
    frames = signer(count=12)
    changed = with_images(frames[6:], lambda image: cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    steady, poses = track_all(kind, frames)[-1], track_all(kind, frames[:6] + changed)
    assert all(pose is not None for pose in poses) and poses[5].size == (640, 480)
    assert poses[-1].size == size
    scaled = poses[-1].points[:, :2] * np.float32([640 / size[0], 480 / size[1]])
    apart = np.linalg.norm(scaled - steady.points[:, :2], axis=1)
    assert apart[[NOSE, *SHOULDERS]].max() < 0.1 * shoulders_px(steady)
    assert np.median(apart[FACE]) < 0.05 * shoulders_px(steady)


def test_the_one_chosen_stays_while_another_is_in_view(kind):
    frames = clip_frames("video/two-signers-composite.mp4", 0, 40)
    half = frames[0].image.shape[1] // 2
    first = track_all(kind, frames[:3])[-1].points[NOSE, 0]

    def hide(image):
        image = image.copy()
        own = image[:, :half] if first < half else image[:, half:]
        own[:] = cv2.blur(own, (121, 121))
        return image

    frames[14:26] = with_images(frames[14:26], hide)
    poses = track_all(kind, frames)
    places = [pose.points[NOSE, 0] for pose in poses if pose is not None]
    assert all((place < half) == (first < half) for place in places), "never the other one"
    assert all(pose is not None for pose in poses[:14])
    assert poses[-1] is not None, "and found again"
    if "one_person" in find_stage("trackers", kind).Options.model_fields:
        free = track_all(kind, frames, one_person=False)
        places = [pose.points[NOSE, 0] < half for pose in free if pose is not None]
        assert (not first < half) in places, "the other one is there"


def test_a_bystander_does_not_take_over(kind):
    poses = track_all(kind, clip_frames("video/webcam-bystander.mp4", 0, 40))
    middles = np.array([pose.points[SHOULDERS, :2].mean(0) for pose in poses])
    steps = np.linalg.norm(np.diff(middles, axis=0), axis=1)
    assert steps.max() < 0.3 * np.median([shoulders_px(pose) for pose in poses])


def test_a_cut_to_another_person_is_followed(kind):
    # Another person and another place at frame 89: nobody is left to wait for.
    poses = track_all(kind, clip_frames("video/signer-change.mp4", 81, 28))
    assert poses[7] is not None and all(pose is not None for pose in poses[-8:])
    assert poses[-1].confidence[FACE].all()


def test_who_leaves_is_gone_and_may_come_back(kind):
    frames = signer(count=6)
    empty = plain_frames(8, start_s=frames[-1].time_s + 1 / 30)
    later_s = empty[-1].time_s + 1 / 30 - frames[0].time_s
    back = [dataclasses.replace(frame, time_s=frame.time_s + later_s) for frame in frames]
    poses = track_all(kind, [*frames, *empty, *back])
    assert poses[5] is not None
    assert poses[7:14] == [None] * 7, "nobody is nobody, not the last pose again"
    assert poses[-1] is not None


def test_confidence_and_points_go_together(kind):
    for pose in track_all(kind, signer(first=78, count=30)):
        assert np.isfinite(pose.confidence).all()
        assert pose.confidence.min() >= 0 and pose.confidence.max() <= 1
        seen = pose.confidence > 0
        np.testing.assert_array_equal(np.isfinite(pose.points[:, :2]).all(1), seen)
        assert np.isnan(pose.points[~seen]).all(), "what is not seen is NaN, never 0"


def test_hands_outside_the_picture_are_gone(kind):
    frames = signer(count=10)
    top = with_images(frames[4:], lambda image: image[:230])  # head and chest; both hands hang below
    before, after = track_all(kind, frames[:4])[-1], track_all(kind, frames[:4] + top)[-1]
    assert any(before.confidence[rows].any() for rows in HANDS)
    assert after.confidence[FACE].all()
    for rows in HANDS:
        assert not after.confidence[rows].any() and np.isnan(after.points[rows]).all()


def test_never_two_hands_in_one_place(kind):
    for pose in track_all(kind, signer(first=78, count=30)):
        left, right = (pose.points[rows, :2] for rows in HANDS)
        apart = np.linalg.norm(np.diff(pose.points[WRISTS, :2], axis=0))
        if np.isfinite([left, right]).all() and apart > 0.5 * shoulders_px(pose):
            palm = np.linalg.norm(left[9] - left[0])
            assert np.linalg.norm(left - right, axis=1).mean() > 0.5 * palm


def test_the_same_clip_twice_gives_the_same_poses(kind):
    frames = signer(first=78, count=14)
    tracker = make_tracker(kind)
    rounds = [track(each, frames) for each in (tracker, tracker, make_tracker(kind))]
    for other in rounds[1:]:
        for a, b in zip(rounds[0], other, strict=True):
            np.testing.assert_array_equal(a.points, b.points)
            np.testing.assert_array_equal(a.confidence, b.confidence)
            np.testing.assert_array_equal(a.world, b.world)


def test_close_gives_everything_back(kind):
    tracker, frame = make_tracker(kind), plain_frames(1)[0]
    with pytest.raises(TrackerError, match="not open"):
        tracker.track(frame)
    process, threads, handles = psutil.Process(), [], []
    for _ in range(4):
        track(tracker, [frame])
        threads.append(process.num_threads())
        handles.append(process.num_fds() if hasattr(process, "num_fds") else 0)
    assert threads[-1] <= threads[0] and handles[-1] <= handles[0]
    with pytest.raises(TrackerError, match="not open"):
        tracker.track(frame)


def test_the_matte_shows_the_person_where_it_is_asked_for(kind):
    frames = signer(count=4)
    assert track_all(kind, frames)[-1].matte is None, "it costs time: nobody asked"
    pose = track_all(kind, frames, segmentation=True)[-1]
    height_px, width_px = frames[-1].image.shape[:2]
    assert pose.matte.shape == (height_px, width_px) and pose.matte.dtype == np.uint8
    for row in (NOSE, LEFT_SHOULDER, RIGHT_SHOULDER):
        x, y = np.round(pose.points[row, :2]).astype(int)
        assert pose.matte[y, x] > 200
    assert pose.matte[:40, :40].max() < 50 and 0.1 < (pose.matte > 128).mean() < 0.7
