"""Retargeting: proportions, contacts, face, smoothing, gating, rest."""

from dataclasses import replace

import numpy as np
import pytest
from support.places import shared
from support.signers import (
    DOWN,
    FPS,
    STILL,
    avatar_pose,
    face_template,
    make_person,
    reach_for,
    settle,
    unit,
    without,
)

from avatar_stream import turns
from avatar_stream.errors import AvatarError
from avatar_stream.landmarks import MIRROR_ROWS, mirror_pose
from avatar_stream.retarget import Retargeter, delay_ms
from avatar_stream.retarget import bones as bone_work
from avatar_stream.retarget.face import fit_similarity
from avatar_stream.retarget.smoothing import PoseSmoother
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND, Pose

INDEX_TIP, CHIN, UPPER_LIP, LOWER_LIP = 8, FACE.start + 152, FACE.start + 13, FACE.start + 14


def signing(time_s: float) -> list[list[np.ndarray]]:
    """Arms at rest for the first half second, then moving in signing space, well before the chest."""
    lift = np.clip((time_s - 0.5) / 0.5, 0, 1)
    arms = []
    for side, sign in ((0, 1.0), (1, -1.0)):
        turn = 2.0 * time_s + side
        up = unit(sign * 0.25, 0.9, -0.3 - 0.1 * np.sin(turn))
        fore = unit(-sign * (0.35 + 0.3 * np.sin(turn)), -0.35 + 0.4 * np.cos(turn), -1.0)
        arms.append([turns.unit((1 - lift) * DOWN + lift * up), turns.unit((1 - lift) * DOWN + lift * fore)])
    return arms


def run(retargeter: Retargeter, seconds: float, start_s: float = 0.0, **build) -> list[Pose]:
    times = start_s + np.arange(round(seconds * FPS)) / FPS
    return [retargeter.retarget(make_person(signing(t), time_s=t, **build), t) for t in times]


def test_two_builds_give_one_avatar_pose():
    slim = {"width": 100.0, "upper": 0.86, "fore": 0.70, "palm": 0.30, "head": 0.48}
    broad = {"width": 170.0, "upper": 0.76, "fore": 0.78, "palm": 0.24, "head": 0.58}
    broad |= {"centre": (700.0, 420.0), "size": (1280, 720)}
    outputs = [run(Retargeter(avatar_pose(), STILL), 3.0, **build)[45:] for build in (slim, broad)]
    body, hands = np.r_[11:17], np.r_[511:553]
    flat = [np.array([pose.points[:, :2] for pose in poses]) for poses in outputs]
    difference = np.linalg.norm(flat[0] - flat[1], axis=2)
    assert difference[:, body].mean() < 3 and difference[:, body].max() < 12
    assert difference[:, hands].mean() < 6
    assert difference[:, FACE].mean() < 2
    # The test would pass on a frozen avatar too: it must move.
    assert np.ptp([o.points[15, 0] for o in outputs[0]]) > 20


def test_output_has_the_avatars_bones():
    avatar = avatar_pose(upper=0.9, fore=0.66, palm=0.31)
    for out in run(Retargeter(avatar, STILL), 2.0)[::7]:
        for start, end in ((11, 13), (12, 14), (13, 15), (14, 16)):
            made, own = (np.linalg.norm(p.points[end] - p.points[start]) for p in (out, avatar))
            assert made == pytest.approx(own, rel=0.02)
        made, own = (np.linalg.norm(p.points[511 + 8] - p.points[511 + 7]) for p in (out, avatar))
        assert made == pytest.approx(own, rel=0.05)


@pytest.mark.parametrize(
    "build", [{}, {"head": 0.62, "fore": 0.64}, {"head": 0.45, "fore": 0.82, "palm": 0.32}]
)
@pytest.mark.parametrize("place", [152, 151, 280], ids=["chin", "forehead", "left cheek"])
def test_a_finger_at_the_face_stays_there(build, place):
    driver = make_person([[DOWN, DOWN], [DOWN, DOWN]], **build)
    goal = driver.points[FACE.start + place, :2]
    out = settle(Retargeter(avatar_pose(), STILL), reach_for(driver, 0, INDEX_TIP, goal))
    gap = np.linalg.norm(out.points[LEFT_HAND.start + INDEX_TIP, :2] - out.points[FACE.start + place, :2])
    assert gap < 5


@pytest.mark.parametrize(
    "build", [{}, {"upper": 0.9, "fore": 0.62, "palm": 0.22}, {"width": 60.0, "palm": 0.33}]
)
def test_touching_fingertips_still_touch(build):
    driver = make_person([[DOWN, DOWN], [DOWN, DOWN]], **build)
    goal = np.array([320.0, 240.0 + 0.45 * driver.points[[11, 12], 0].ptp()])
    for side in (0, 1):
        driver = reach_for(driver, side, INDEX_TIP, goal)
    out = settle(Retargeter(avatar_pose(), STILL), driver)
    tips = out.points[[LEFT_HAND.start + INDEX_TIP, RIGHT_HAND.start + INDEX_TIP], :2]
    assert np.linalg.norm(tips[0] - tips[1]) < 3
    apart = settle(Retargeter(avatar_pose(), STILL.model_copy(update={"contacts": False})), driver)
    tips = apart.points[[LEFT_HAND.start + INDEX_TIP, RIGHT_HAND.start + INDEX_TIP], :2]
    if build:
        assert np.linalg.norm(tips[0] - tips[1]) > 5  # it is the contact work that closes the gap


def test_the_elbow_keeps_both_lengths():
    random = np.random.default_rng(3)
    for _ in range(50):
        shoulder, elbow, wrist = random.normal(0, 80, (3, 3))
        made_elbow, made_wrist = bone_work.solve_elbow(shoulder, elbow, wrist, 100.0, 80.0)
        assert np.linalg.norm(made_elbow - shoulder) == pytest.approx(100, rel=1e-3)
        assert np.linalg.norm(made_wrist - made_elbow) == pytest.approx(80, rel=1e-3)


def open_mouth(face: np.ndarray, gap: float) -> np.ndarray:
    """Lower the lower lip and the chin by `gap` (face heights)."""
    face = face.copy()
    line = (face[13, 1] + face[14, 1]) / 2
    half = abs(face[61, 0] - face[291, 0]) / 2
    aside = np.clip(1 - (face[:468, 0] / (1.4 * half)) ** 2, 0, 1)
    face[:468, 1] += gap * aside * (face[:468, 1] > line)
    return face


def lips_gap(pose: Pose) -> float:
    return float(pose.points[LOWER_LIP, 1] - pose.points[UPPER_LIP, 1])


def face_frames(retargeter: Retargeter, faces: list[np.ndarray], start: int = 0, **build) -> list[Pose]:
    arms = [[DOWN, DOWN], [DOWN, DOWN]]
    times_s = [(start + k) / FPS for k in range(len(faces))]
    drivers = [make_person(arms, face=f, time_s=t, **build) for f, t in zip(faces, times_s, strict=True)]
    return [retargeter.retarget(driver, driver.time_s) for driver in drivers]


def test_mouth_opens_and_closes_also_when_the_clip_starts_open():
    shut, wide = face_template(), open_mouth(face_template(), 0.15)
    avatar = avatar_pose()
    retargeter = Retargeter(avatar, STILL)
    first_open = face_frames(retargeter, [wide] * 10)
    assert lips_gap(first_open[-1]) > 0.6 * 0.15 * 78 + lips_gap(avatar)
    closed = face_frames(retargeter, [shut] * 60, 10)
    assert lips_gap(closed[-1]) == pytest.approx(lips_gap(avatar), abs=1.0)
    again = face_frames(retargeter, [wide] * 3, 70)
    assert lips_gap(again[-1]) - lips_gap(avatar) == pytest.approx(0.15 * 78, rel=0.25)


def eye_gap(pose: Pose, upper: int = 386, lower: int = 374) -> float:
    return float(np.linalg.norm(pose.points[FACE.start + upper] - pose.points[FACE.start + lower]))


def test_blink_shuts_the_avatars_eye_and_gaze_follows():
    neutral = face_template()
    shut = neutral.copy()
    lids = (466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382)
    for upper, lower in zip(*lids, strict=True):
        shut[upper] = shut[lower] + 0.2 * (neutral[upper] - neutral[lower])
    aside = neutral.copy()
    width = np.linalg.norm(neutral[263] - neutral[362])
    aside[468:478, 0] += 0.15 * width
    avatar = avatar_pose()
    retargeter = Retargeter(avatar, STILL)
    face_frames(retargeter, [neutral] * 40)
    assert eye_gap(face_frames(retargeter, [shut], 40)[0]) < 0.1 * eye_gap(avatar)
    out = face_frames(retargeter, [neutral, aside], 41)
    assert eye_gap(out[0]) == pytest.approx(eye_gap(avatar), rel=0.05)
    moved = out[1].points[FACE.start + 473, 0] - out[0].points[FACE.start + 473, 0]
    own = np.linalg.norm(avatar.points[FACE.start + 263] - avatar.points[FACE.start + 362])
    assert moved == pytest.approx(0.15 * own, rel=0.15)


def test_head_turn_is_taken_over():
    neutral = face_template()
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    avatar = avatar_pose()
    retargeter = Retargeter(avatar, STILL)
    face_frames(retargeter, [neutral] * 40)
    out = face_frames(retargeter, [neutral @ turn.T], 40)[0]
    _, made, _ = fit_similarity(avatar.points[FACE].astype(float), out.points[FACE].astype(float))
    assert np.degrees(np.arccos((np.trace(made @ turn.T) - 1) / 2)) < 3


def test_turning_does_not_pump_the_scale():
    retargeter = Retargeter(avatar_pose(), STILL)
    before = settle(retargeter, make_person([[DOWN, DOWN], [DOWN, DOWN]]), 2.0)
    turned = make_person([[DOWN, DOWN], [DOWN, DOWN]])
    points = turned.points.copy()
    points[[11, 12], 0] = 320 + np.array([38.0, -38.0])
    points[[11, 12], 2] = [60.0, -60.0]
    out = settle(retargeter, replace(turned, points=points), 2.0, start_s=2.0)
    size = [np.linalg.norm(p.points[CHIN] - p.points[FACE.start + 10]) for p in (before, out)]
    assert size[1] == pytest.approx(size[0], rel=0.02)
    assert (out.points[11, 0] - out.points[12, 0]) == pytest.approx(0.76 * 150, rel=0.06)
    assert out.points[11, 2] - out.points[12, 2] > 40


@pytest.mark.parametrize(
    ("part", "row", "speed_px_s"), [("wrist", 15, 300), ("finger", 520, 100), ("body", 13, 150)]
)
def test_smoothing_delays_a_ramp_as_stated(part, row, speed_px_s):
    smoother = PoseSmoother()
    points = np.zeros((553, 3))
    random = np.random.default_rng(5)
    time_s, out = 0.0, None
    for step_s in random.choice([1 / 30, 2 / 30, 0.02], 120):
        time_s += step_s
        points[row, 0] = speed_px_s * time_s
        out = smoother.smooth(points.copy(), time_s)
    measured_ms = (points[row, 0] - out[row, 0]) / speed_px_s * 1000
    assert measured_ms == pytest.approx(delay_ms(part, speed_px_s), rel=0.1)
    if part != "body":
        assert measured_ms < 40


def test_smoothing_calms_noise_and_answers_a_step():
    random = np.random.default_rng(1)
    smoother, noise = PoseSmoother(), random.normal(0, 0.5, (90, 553, 3))
    out = np.stack([smoother.smooth(100 + noise[k], k / FPS) for k in range(90)])
    assert np.diff(out[30:, 15, 0]).std() < 0.55 * np.diff(noise[30:, 15, 0]).std()
    smoother, after = PoseSmoother(), None
    for k in range(34):
        after = smoother.smooth(np.full((553, 3), 0.0 if k < 30 else 100.0), k / FPS)
    assert after[15, 0] > 95  # four frames after the step


def shape(pose: Pose, rows: slice = LEFT_HAND) -> np.ndarray:
    return pose.points[rows] - pose.points[rows][0]


def test_a_lost_hand_is_held_then_relaxes():
    retargeter = Retargeter(avatar_pose(), STILL)
    driver = make_person(signing(2.0), curl=0.9)
    seen = settle(retargeter, driver, 1.5)
    lost = [retargeter.retarget(without(driver, LEFT_HAND), 1.5 + k / FPS) for k in range(45)]
    assert np.abs(shape(lost[8]) - shape(seen)).max() < 1
    assert np.abs(shape(lost[-1]) - shape(seen)).max() > 15
    steps = [np.abs(shape(b) - shape(a)).max() for a, b in zip(lost, lost[1:], strict=False)]
    assert max(steps) < 20  # half a turn eases, never snaps
    trust = [pose.confidence[LEFT_HAND.start] for pose in lost]
    assert trust[0] < 1 and trust[-1] == 0 and (np.diff(trust) <= 1e-6).all()
    assert lost[-1].confidence[RIGHT_HAND.start] == 1


@pytest.mark.parametrize("fault", ["swapped", "far", "huge", "low"])
def test_implausible_hands_are_refused(fault):
    retargeter = Retargeter(avatar_pose(), STILL)
    driver = make_person(signing(2.0))
    settle(retargeter, driver, 1.5)
    points, confidence = driver.points.copy(), driver.confidence.copy()
    if fault == "swapped":
        points[LEFT_HAND, :2] += points[16, :2] - points[15, :2]
        points[RIGHT_HAND], confidence[RIGHT_HAND] = np.nan, 0
    elif fault == "far":
        points[LEFT_HAND, :2] += [80, -80]
    elif fault == "huge":
        points[LEFT_HAND] += 1.5 * (points[LEFT_HAND] - points[LEFT_HAND][0])
    else:
        confidence[LEFT_HAND] = 0.1
    out = retargeter.retarget(replace(driver, points=points, confidence=confidence), 1.5)
    assert out.confidence[LEFT_HAND.start] < 1


def test_nobody_holds_then_rests():
    avatar = avatar_pose()
    retargeter = Retargeter(avatar)
    last = settle(retargeter, make_person(signing(2.0)), 2.0)
    gone = [retargeter.retarget(None, 2.0 + k / FPS) for k in range(60)]
    assert np.abs(gone[12].points[:, :2] - last.points[:, :2]).max() < 2
    assert np.abs(gone[-1].points[:33, :2] - avatar.points[:33, :2]).max() < 2
    assert np.abs(gone[-1].points[FACE, :2] - avatar.points[FACE, :2]).max() < 2
    assert gone[-1].confidence.max() == 0
    drivers = [make_person(signing(2.0), time_s=4 + k / FPS) for k in range(15)]
    back = [retargeter.retarget(driver, driver.time_s) for driver in drivers]
    assert np.linalg.norm(back[-1].points[15, :2] - last.points[15, :2]) < 8


def test_nobody_from_the_start_is_the_portrait():
    avatar = avatar_pose()
    out = Retargeter(avatar).retarget(None, 0.0)
    assert np.allclose(out.points, avatar.points, atol=1e-3) and out.confidence.max() == 0


def test_mirrored_is_the_mirror_image():
    assert (MIRROR_ROWS[MIRROR_ROWS] == np.arange(553)).all()
    options = STILL, STILL.model_copy(update={"mirrored": True})
    plain, mirrored = (Retargeter(avatar_pose(), each) for each in options)
    for k in range(40):
        driver = make_person(signing(k / FPS), time_s=k / FPS)
        a, b = plain.retarget(driver, k / FPS), mirrored.retarget(mirror_pose(driver), k / FPS)
    assert np.abs(a.points - b.points).max() < 0.5


def test_a_cut_is_followed_at_once():
    retargeter = Retargeter(avatar_pose())
    run(retargeter, 2.0)
    other = {"width": 160.0, "centre": (420.0, 300.0)}
    after = run(retargeter, 1 / FPS, start_s=2.0, **other)[0]
    fresh = Retargeter(avatar_pose()).retarget(make_person(signing(2.0), time_s=2.0, **other), 2.0)
    assert np.abs(after.points - fresh.points).max() < 1e-3


def test_an_avatar_without_a_face_is_refused():
    with pytest.raises(AvatarError, match="face"):
        Retargeter(without(avatar_pose(), FACE))


def test_an_avatar_without_hands_gets_usual_ones():
    avatar = without(without(avatar_pose(), LEFT_HAND), RIGHT_HAND)
    assert np.isfinite(run(Retargeter(avatar), 0.3)[-1].points).all()


@pytest.mark.parametrize(
    "name", ["poses/ase-help", "poses/slp-mediapipe-reduced", "poses/fs-ase-B", "poses/slp-example-320x240"]
    + ["odd/no-hands", "odd/only-hands", "odd/nan-values", "odd/all-missing"]
)  # fmt: skip
def test_real_poses_give_whole_poses(name):
    retargeter = Retargeter(avatar_pose())
    for pose in read_pose_file(shared(f"{name}.pose")):
        out = retargeter.retarget(pose if (pose.confidence > 0).any() else None, pose.time_s)
        assert np.isfinite(out.points).all() and np.isfinite(out.confidence).all()
        assert np.abs(out.points[[11, 12, 13, 14, 15, 16], :2] - 256).max() < 300
