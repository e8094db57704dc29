"""What is special to the tracker that runs MediaPipe's networks itself."""

import cv2
import numpy as np
import pytest
from support.stages import clip_frames, opened, track

from avatar_stream import compiled
from avatar_stream.errors import TrackerError
from avatar_stream.trackers import _eight_bits, _face, _hands, _networks
from avatar_stream.trackers._arms import ArmEnd, HandLandmarks
from avatar_stream.trackers._detectors import _anchors
from avatar_stream.trackers._filters import OneEuro
from avatar_stream.trackers._hands import _carried, _SideMemory
from avatar_stream.trackers._one_person import OnePerson
from avatar_stream.trackers._regions import Region, angle_from_up, round_points
from avatar_stream.trackers.holistic import HolisticTracker
from avatar_stream.trackers.holistic_fast import HolisticFastTracker
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND


def read_clip(name, first, last):
    return clip_frames(f"video/{name}", first, last - first)


def test_a_region_puts_points_back_where_they_were_cut_out():
    image = np.zeros((200, 300, 3), np.uint8)
    image[118:123, 78:83] = 255  # a dot at (80, 120)
    region = Region(100.0, 110.0, 90.0, 0.7)
    crop = region.cut(image, 128)
    rows, columns = np.nonzero(crop[..., 0] > 128)
    dot = np.array([[columns.mean(), rows.mean()]])
    assert region.put_back(dot, 128)[0] == pytest.approx([80, 120], abs=0.5)


@pytest.mark.parametrize("angle", [0.0, 0.08, -0.4, 3.0])
def test_a_region_that_reaches_below_the_picture_shows_its_edge_there(angle):
    image = np.random.default_rng(2).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    region = Region(70.0, 110.0, 190.0, angle)
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    expected = cv2.warpAffine(image, region.matrix(64), (64, 64), **how)
    assert np.array_equal(region.cut(image, 64), expected)


def test_a_region_round_points_turns_them_up():
    wrist, knuckle = 50 + 80j, 90 + 80j  # a hand that points to the right
    region = round_points(np.array([[50.0, 80.0], [90.0, 80.0]]), angle_from_up(knuckle - wrist))
    marked = np.zeros((160, 160, 3), np.uint8)
    marked[78:83, 88:93] = 255
    rows, _ = np.nonzero(region.scaled(2.0).cut(marked, 64)[..., 0] > 128)
    assert rows.mean() < 20  # the knuckle is above the middle
    assert region.side_px == pytest.approx(40)


@pytest.mark.parametrize(
    ("size_px", "strides", "count"),
    [(224, (8, 16, 32, 32, 32), 2254), (192, (8, 16, 16, 16), 2016), (128, (8, 16, 16, 16), 896)],
)
def test_detectors_have_an_anchor_for_each_answer(size_px, strides, count):
    anchors = _anchors(size_px, strides)
    assert anchors.shape == (count, 2)
    assert anchors.min() > 0 and anchors.max() < size_px


def test_lists_of_the_face_are_those_in_the_network():
    from flatbuffers import flexbuffers
    from mediapipe.tasks.metadata import schema_py_generated as schema

    content = (_networks._package() / _networks._FACE).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    kinds = [code.customCode for code in model.operatorCodes]
    looks = [
        flexbuffers.Loads(bytes(operator.customOptions))
        for operator in model.subgraphs[0].operators
        if kinds[operator.opcodeIndex] == b"Landmarks2TransformMatrix"
    ]
    assert len(looks) == len(_face._LOOKS) == 3
    for look, (rows, level) in zip(looks, _face._LOOKS, strict=True):
        assert tuple(look["subset_idxs"]) == rows
        assert (look["left_rotation_idx"], look["right_rotation_idx"]) == level
        assert look["scale_x"] == look["scale_y"] == _face._LOOK_ROOM


def test_a_filter_calms_what_is_still_and_follows_what_moves():
    noise = np.random.default_rng(5).normal(0, 1.0, (90, 4))
    still, moving = OneEuro(0.05, 80.0), OneEuro(0.05, 80.0)
    calm = np.array([still.filter(row, n / 30, 400.0) for n, row in enumerate(noise)])
    assert calm[30:].std() < 0.7 * noise[30:].std()
    for n in range(30):
        value = moving.filter(np.array([20.0 * n]), n / 30, 400.0)
    assert value[0] == pytest.approx(20.0 * 29, abs=6.0)
    assert moving.filter(np.array([-50.0]), 9.0, 400.0)[0] == -50.0  # a long pause: it begins anew


def test_remembered_fingers_follow_a_detected_palm():
    rng = np.random.default_rng(3)
    flat = rng.uniform(40, 80, (21, 2))
    hand = HandLandmarks(np.hstack([flat, np.zeros((21, 1))]), 0.9, 1.0)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]]) * 1.2
    marked = flat[[0, 5, 9, 13, 17, 1, 2]] @ turn + [200, 30]

    class Palm:
        points, score = marked, 0.8

    carried = _carried(_SideMemory(read=hand, seen_s=1.0), Palm, 1.1)
    assert carried.points[:, :2] == pytest.approx(flat @ turn + [200, 30], abs=1e-6)
    assert 0 < carried.confidence < 0.5  # nobody saw the fingers
    assert carried.confidence > _carried(_SideMemory(read=hand, seen_s=1.0), Palm, 1.3).confidence
    assert _carried(_SideMemory(read=hand, seen_s=1.0), Palm, 2.0) is None


def an_arm(wrist: complex, way: complex) -> ArmEnd:
    """An arm from the picture's corner, and the way from its wrist to the knuckles, px."""
    return ArmEnd(wrist, 0j, wrist + way, wrist + way, 0.9)


def a_hand(wrist: tuple, way: tuple) -> HandLandmarks:
    flat = np.array(wrist) + np.linspace(0, 1, 21)[:, None] * np.array(way)
    flat[[5, 9, 13, 17]] = np.add(wrist, way)
    return HandLandmarks(np.hstack([flat, np.zeros((21, 1))]), 0.9, 1.0)


def test_a_hand_behind_the_other_is_carried_on_its_wrist_and_says_that_nobody_sees_it():
    class Unread(_hands.HandsReader):
        def __init__(self):
            self.reset()
            self._shoulders_px = 200.0

    reader, up = Unread(), (0, -40)
    then = an_arm(140 + 200j, -40j)
    reader._memories[1].read, reader._memories[1].seen_s = a_hand((140, 200), up), 1.0
    reader._memories[1].read_arm = then
    other, now = a_hand((165, 210), up), an_arm(160 + 215j, -40j)
    hidden = reader._hidden(1, other, now, 1.2)
    assert hidden.points[0, :2] == pytest.approx([160, 215])
    assert 0 < hidden.confidence < 0.3, "the retargeter takes no hand below that"
    assert hidden.confidence > reader._hidden(1, other, now, 1.6).confidence
    assert reader._hidden(1, other, now, 4.0) is None, "forgotten"
    assert reader._hidden(1, None, now, 1.2) is None, "nothing hides it"
    assert reader._hidden(1, a_hand((400, 100), up), now, 1.2) is None, "the other hand is elsewhere"
    assert reader._hidden(1, other, an_arm(160 + 215j, 40j), 1.2) is None, "it turned"


def test_eight_bits_are_for_the_hand_network_that_they_were_measured_on():
    ranges = _eight_bits.load_ranges()
    networks = _networks.Networks()
    layers = _eight_bits.pointwise_layers(networks.core, networks.exact_hand())
    assert {name for name, _, _ in layers} == set(ranges), "measure again: scripts/measure_tracker.py"
    assert all(low <= 0 < high for low, high in ranges.values())
    model = networks.exact_hand()
    assert _eight_bits.round_layers(networks.core, model, {"another": (0.0, 1.0)}) == 0


def test_two_hands_read_at_once_are_those_read_one_by_one():
    networks = _networks.Networks()
    frame = read_clip("webcam-bystander.mp4", 0, 1)[0]
    crops = [Region(x, 300.0, 200.0).cut(frame.image, 224) for x in (200.0, 400.0)]
    both = [output.copy() for output in networks.both_hands(*crops)]
    for place, crop in enumerate(crops):
        for one, two in zip(networks.hand(crop), both, strict=True):
            assert two[place] == pytest.approx(one[0], abs=1e-3)


def test_eight_bits_find_the_same_hand():
    frames = read_clip("webcam-bystander.mp4", 0, 12)
    with opened(HolisticFastTracker()) as exact:
        exact._hands._networks = _networks.Networks(reduced=(), eight_bits=False)
        expected = [exact.track(frame) for frame in frames]
    away = []
    for one, other in zip(track(HolisticFastTracker(), frames), expected, strict=True):
        for rows in (LEFT_HAND, RIGHT_HAND):
            hand = other.points[rows, :2]
            palm = np.linalg.norm(hand[[5, 9, 17]] - hand[0], axis=1).max()
            away.append(np.linalg.norm(one.points[rows, :2] - hand, axis=1).mean() / palm)
    assert np.nanmedian(away) < 0.05


def test_the_largest_and_most_central_person_is_chosen_then_the_nearest():
    person = OnePerson()
    middles, sizes = np.array([[40.0, 50], [310, 60], [600, 50]]), np.array([100.0, 110, 105])
    assert person.order(middles, sizes, (480, 640, 3))[0] == 1
    assert person.order(middles, np.array([300.0, 110, 105]), (480, 640, 3))[0] == 0


def test_a_network_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(_networks, "_package", lambda: tmp_path)
    with pytest.raises(TrackerError, match="pose_detection.tflite is missing"):
        HolisticFastTracker().open()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    compiled._write_checked(tmp_path / "file" / "a.graph", b"network")
    assert "cannot be kept" in caplog.text
    compiled._write_checked(tmp_path / "b.graph", b"network")
    assert compiled._read_checked(tmp_path / "b.graph") == b"network"
    (tmp_path / "b.graph").write_bytes((tmp_path / "b.graph").read_bytes()[:-1])
    assert compiled._read_checked(tmp_path / "b.graph") is None


def test_it_agrees_with_mediapipe_where_both_see():
    frames = read_clip("webcam-bystander.mp4", 0, 20)
    fast, slow = track(HolisticFastTracker(), frames), track(HolisticTracker(), frames)
    body, face, hands = [], [], []
    for one, other in zip(fast, slow, strict=True):
        away = np.linalg.norm(one.points[:, :2] - other.points[:, :2], axis=1)
        shoulders = np.linalg.norm(other.points[11, :2] - other.points[12, :2])
        body.append(away[:25].mean() / shoulders)
        face.append(away[FACE].mean() / np.ptp(other.points[FACE, 0]))
        for rows in (LEFT_HAND, RIGHT_HAND):
            hand = other.points[rows]
            palm = np.linalg.norm(hand[[5, 9, 17], :2] - hand[0, :2], axis=1).max()
            hands.append(away[rows].mean() / palm)
        depth = np.abs(one.points[FACE, 2] - other.points[FACE, 2]).mean()
        assert depth < 0.05 * np.ptp(other.points[FACE, 0])
    assert np.median(body) < 0.02 and np.median(face) < 0.01
    assert np.nanmedian(hands) < 0.06


def test_a_hand_on_the_other_stays_itself():
    frames = read_clip("webcam-signer.mp4", 143, 186)
    poses = track(HolisticFastTracker(), frames)[25:]  # a fist stands on the flat left hand
    found = [pose for pose in poses if np.isfinite(pose.points[[511, 532]]).all()]
    assert len(found) >= 0.9 * len(poses)
    for pose in found:
        left, right = pose.points[LEFT_HAND, :2], pose.points[RIGHT_HAND, :2]
        palm = np.linalg.norm(left[9] - left[0])
        assert np.linalg.norm(left - right, axis=1).mean() > 0.4 * palm


def test_fast_hands_are_found_and_hands_outside_are_not():
    frames = read_clip("webcam-signer.mp4", 77, 143)
    inside = []
    for frame, pose in zip(frames, track(HolisticFastTracker(), frames), strict=True):
        knuckles = pose.points[[16, 18, 20], 1].max()
        if knuckles < 0.97 * frame.image.shape[0]:
            inside.append(np.isfinite(pose.points[532, 0]))
        elif pose.points[16, 1] > 0.97 * frame.image.shape[0]:
            assert np.isnan(pose.points[532, 0])
    assert len(inside) > 40 and np.mean(inside) >= 0.9  # MediaPipe Holistic: about 0.6
