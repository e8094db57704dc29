"""`bench tracker`: each figure finds what was put there, and the command writes what it promises."""

import json

import numpy as np
import pytest
from support.people import make_upright_pose, read_video
from support.places import shared

from avatar_stream.cli import main
from avatar_stream.lab.bench import tracker_measures as measures
from avatar_stream.lab.bench.tracker_measures import Clip, Track
from avatar_stream.types import FACE, LEFT_HAND, LEFT_WRIST, RIGHT_HAND, RIGHT_WRIST

FRAMES = 40
SIZE = (640, 480)


def make_points(step_px=0.0, count=FRAMES):
    """(N, 553, 3) a person whose right wrist and hand move to the side by `step_px` a frame."""
    points = np.stack([make_upright_pose(SIZE).points] * count)
    shift = step_px * np.arange(count)[:, None]
    points[:, RIGHT_HAND, 0] += shift
    points[:, [16, 18, 20, 22], 0] += shift
    return points


def make_track(points):
    confidence = np.isfinite(points[..., 0]).astype(np.float32)
    return Track(points.astype(np.float32), confidence, np.full(len(points), 9.0), np.full(len(points), 8.0))


def make_clip(*all_points, exact=None, **more):
    tracks = {name: make_track(points) for name, points in zip("abc", all_points, strict=False)}
    return Clip("clip", SIZE, np.zeros(len(all_points[0]), int), tracks, exact, **more)


def lose(points, hand, rows):
    points = points.copy()
    points[rows, hand] = np.nan
    return points


def test_hand_rates_tell_fast_from_slow_and_outside():
    points = make_points(step_px=0.0)
    for row in range(20, FRAMES):  # fast from frame 20 on
        points[row:, RIGHT_WRIST, 0] += 13
        points[row:, RIGHT_HAND, 0] += 13
    points[:4, LEFT_WRIST, 0] = -5.0  # outside: nobody can find that hand
    points = lose(lose(points, RIGHT_HAND, np.arange(20, 25)), LEFT_HAND, np.arange(4))
    values = measures.frame_values(make_clip(points), "a")
    means = {key: each.mean() for key, each in values.items() if len(each)}
    assert means["right_hand_rate"] == pytest.approx(1 - 5 / FRAMES)
    fast = values["right_hand_rate_fast"]
    assert fast.mean() == pytest.approx(1 - 5 / 20) and len(fast) == 20
    assert means["left_hand_rate"] == 1.0 and len(values["left_hand_rate"]) == FRAMES - 4
    assert len(values["left_hand_rate_fast"]) <= 1, "the step back into the picture at most"
    assert means["pose_rate"] == means["face_rate"] == 1.0


def test_speed_scales_with_the_picture_and_stops_at_cuts():
    clip = make_clip(make_points(step_px=10.0, count=10))
    assert not measures.hands_in_picture(clip)[2].any()
    half = Clip("half", (320, 240), np.repeat([0, 1], 5), {"a": make_track(make_points(10.0, 10) * 0.7)})
    fast = measures.hands_in_picture(half)[2][:, 1]
    assert fast.sum() == 8 and not fast[[0, 5]].any(), "7 px at a width of 320 is fast; a cut is no movement"


def test_jitter_is_what_was_added_and_movement_is_none():
    random, points = np.random.default_rng(0), make_points()
    noisy = points.copy()
    noisy[:, FACE, :2] += random.normal(0, 0.5, (FRAMES, 478, 2))
    clip = make_clip(points, noisy)
    width = measures.units_px(clip)["face"][0]
    # Mean length of the noise of a second difference.
    expected = 0.5 * np.sqrt(1.5) * np.sqrt(np.pi / 2) / width
    assert np.median(measures.frame_values(clip, "b")["jitter_face"]) == pytest.approx(expected, rel=0.1)
    assert np.median(measures.frame_values(clip, "a")["jitter_face"]) < 1e-4
    moving = measures.frame_values(make_clip(make_points(step_px=9.0)), "a")
    assert len(moving["jitter_right_hand"]) == 0 and len(moving["jitter_left_hand"]) == FRAMES - 4


def test_agreement_is_in_each_parts_units():
    points = make_points()
    other = points.copy()
    other[:, LEFT_HAND, 0] += 3.0
    other[:, :33, 1] += 2.0
    clip = make_clip(points, lose(other, RIGHT_HAND, np.arange(FRAMES)))
    units, made = measures.units_px(clip), measures.agreement(clip, "b")
    assert np.median(made["agreement_left_hand"]) == pytest.approx(3.0 / units["left_hand"][0], rel=1e-3)
    assert np.median(made["agreement_body"]) == pytest.approx(2.0 / units["body"][0], rel=1e-3)
    assert np.median(made["agreement_face"]) == 0 and len(made["agreement_right_hand"]) == 0
    assert units["body"][0] == pytest.approx(0.7 * 0.35 * 480, rel=1e-3)


def test_two_people_do_not_agree():
    points, elsewhere = make_points(), make_points()
    elsewhere[30:, :, 0] += 200
    clip = make_clip(points, elsewhere)
    made = measures.agreement(clip, "b")
    assert made["other_person_rate"].sum() == 10 and len(made["agreement_face"]) == 30
    assert made["agreement_body"].max() == 0 and len(measures.mouth_openings(clip, "b")) == 30


def test_a_hand_on_the_other_arm_is_a_swap():
    points, swapped = make_points(), make_points()
    swapped[10:15, LEFT_HAND] = points[10:15, RIGHT_HAND]
    clip = make_clip(points, swapped)
    assert measures.frame_values(clip, "a")["handedness_swaps"].sum() == 0
    assert measures.frame_values(clip, "b")["handedness_swaps"].sum() == 5
    assert measures.lost_runs(clip, "b")["left_hand_swapped"] == [[10, 14]]
    astray = make_points()
    astray[3, RIGHT_HAND, 1] -= 200
    values = measures.frame_values(make_clip(points, astray), "b")
    assert values["hands_astray_rate"].sum() == 1 and values["handedness_swaps"].sum() == 0


def test_lost_runs_name_the_frames():
    clip = make_clip(make_points(), lose(make_points(), RIGHT_HAND, [3, 4, 5, 39]))
    assert measures.lost_runs(clip, "b")["right_hand_lost"] == [[3, 5], [39, 39]]
    assert measures.lost_runs(clip, "a")["right_hand_lost"] == []


def test_the_mouth_is_followed_or_not():
    opening = 4 * np.abs(np.sin(np.arange(FRAMES) / 3))
    points = make_points()
    points[:, FACE.start + 14, 1] = points[:, FACE.start + 13, 1] + opening
    shut = make_points()
    shut[:, FACE.start + 14, 1] = shut[:, FACE.start + 13, 1] + np.random.default_rng(0).random(FRAMES)
    clip = make_clip(points, points, shut)
    followed, noise = (measures.correlation(measures.mouth_openings(clip, name)) for name in "bc")
    assert followed == pytest.approx(1.0) and abs(noise) < 0.5
    assert measures.correlation(np.zeros((40, 2))) is None


def test_distance_from_truth_and_what_only_one_finds():
    exact = make_points()
    near, all_off = exact.copy(), exact.copy()
    near[20:, LEFT_HAND, 0] += 20.0  # difficult frames: found, but badly
    near[:20, LEFT_HAND, 0] += 2.0
    all_off[:, LEFT_HAND, 0] += 3.0
    shy = lose(all_off, LEFT_HAND, np.arange(20, FRAMES))
    near, shy = (lose(points, RIGHT_HAND, np.arange(FRAMES)) for points in (near, shy))
    pixels = np.full((FRAMES, 2), 2.0) * 40**2
    clip = make_clip(near, shy, exact=exact, hand_pixels=pixels)
    palm = measures.units_px(clip)["left_hand"][0]
    bold, cautious = (measures.truth_values(clip, name) for name in "ab")
    assert bold["hand_error"].mean() == pytest.approx(11.0 / palm, rel=1e-3)
    assert bold["hand_error_common"].mean() == pytest.approx(2.0 / palm, rel=1e-3)
    assert cautious["hand_error"].mean() == cautious["hand_error_common"].mean()
    assert bold["hand_rate_visible"].mean() == pytest.approx(0.5), "left always, right never"
    assert cautious["hand_rate_visible"].mean() == pytest.approx(0.25)
    assert bold["hand_wrong_rate"].sum() == 20
    assert bold["body_error"].max() == 0 and bold["face_error"].max() == 0


def test_hidden_hands_that_are_found_are_told():
    exact = make_points()
    clip = make_clip(exact, exact=exact, hand_pixels=np.zeros((FRAMES, 2)))
    values = measures.truth_values(clip, "a")
    assert values["hand_rate_hidden"].mean() == 1.0 and len(values["hand_rate_visible"]) == 0


def test_cuts_are_found_and_movement_is_none():
    random = np.random.default_rng(0)
    rooms = [random.integers(0, 255, measures.CUT_SIZE[::-1], dtype=np.uint8) for _ in range(2)]
    noise = random.integers(-2, 3, (24, *rooms[0].shape))
    small = [np.clip(rooms[k >= 12].astype(int) + noise[k], 0, 255) for k in range(24)]
    shots = measures.number_shots([each.astype(np.uint8) for each in small])
    np.testing.assert_array_equal(shots, np.arange(24) >= 12)


def test_the_command_measures_clips_and_shows_them(tmp_path, capsys):
    given = ["bench", "tracker", "--trackers", "holistic", "--most-frames", "6"]
    clip = str(shared("video/webcam-signer.mp4"))
    given += ["--input", clip, "--json", str(tmp_path / "a.json"), "--overlay", str(tmp_path)]
    assert main(given) == 0
    told = capsys.readouterr().out
    report = json.loads((tmp_path / "a.json").read_text())
    (figures,) = report["trackers"]
    assert figures["tracker"] == "holistic" and report["frames"] == 6
    assert figures["ms_p95"] >= figures["ms_p50"] > 1 and figures["cpu_ms"] > 1
    assert figures["pose_rate"] == figures["face_rate"] == 1.0 and 0 < figures["left_hand_rate"] <= 1
    assert figures["agreement_body"] == 0, "the first tracker agrees with itself"
    assert figures["counts"]["pose_rate"] == figures["clips"]["webcam-signer"]["counts"]["pose_rate"] == 6
    assert figures["targets"]["agreement_face"] == {"value": 0.0, "target": "<= 0.02", "met": True}
    assert figures["targets"]["cpu_ms"]["met"] == (figures["cpu_ms"] <= 25)
    assert "left_hand_rate" in told and "targets met" in told and "holistic" in told
    times, images = read_video(tmp_path / "webcam-signer-trackers.mp4")
    assert len(times) == 6 and images[0].shape == (480 + 320, 640, 3)


def test_the_command_measures_against_truth(tmp_path):
    people = shared("people")
    given = ["bench", "tracker", "--trackers", "holistic", "--frames", "1", "--people", str(people)]
    assert main([*given, "--json", str(tmp_path / "a.json")]) == 0
    truth = json.loads((tmp_path / "a.json").read_text())["trackers"][0]["truth"]
    assert 0 < truth["body_error"] < 0.5 and 0 < truth["face_error"] < 0.2
    assert truth["counts"]["face_error"] == 1 and len(truth["clips"]) == 1
    assert truth["counts"]["hand_rate_visible"] <= 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "nothing to measure on"),
        (["--input", "none.mp4"], "there is no clip none.mp4"),
        (["--input", "none.mp4", "--trackers", "wrong"], "unknown type"),
        (["--input", "none.mp4", "--poses", "."], "give --people"),
        (["--input", "none.mp4", "--overlay", "nowhere"], "there is no folder nowhere"),
        (["--input", "none.mp4", "--json", "nowhere/a.json"], "there is no folder nowhere"),
        (["--input", "none.mp4", "--most-frames", "0"], "must be 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_one_line(given, words, capsys):
    assert main(["bench", "tracker", *given]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and words in told[0]
