"""Hands that touch: the relation of both, which is in front, and what happens while one of them is lost."""

from dataclasses import replace

import numpy as np
import pytest
from support.places import shared
from support.signers import DOWN, FPS, STILL, avatar_pose, make_person, reach_for, settle, without

from avatar_stream.lab.judge.compare import contact_values
from avatar_stream.landmarks import HANDS
from avatar_stream.retarget import Retargeter
from avatar_stream.retarget.hands import palm_px
from avatar_stream.running.avatars import load_avatar
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND, Pose

LEFT_MIDDLE, RIGHT_MIDDLE = LEFT_HAND.start + 9, RIGHT_HAND.start + 9
OTHER_BUILDS = [{"upper": 0.9, "fore": 0.62, "palm": 0.22}, {"width": 60.0, "palm": 0.33, "fore": 0.8}]


def meeting(gap: float = 0.4, right_nearer_m: float = np.nan, **build) -> Pose:
    """Both hands up before the chest, their wrists `gap` palm lengths apart; the body's points follow them."""
    driver = make_person([[DOWN, DOWN], [DOWN, DOWN]], **build)
    width, palm = np.ptp(driver.points[[11, 12], 0]), palm_px(driver.points[LEFT_HAND])
    middle = driver.points[[11, 12], :2].mean(axis=0) + [0, 0.75 * width]
    for side, sign in ((0, 1), (1, -1)):
        driver = reach_for(driver, side, 0, middle + [sign * gap * palm / 2, 0])
        for body, row in ((17, 17), (19, 5), (21, 3)):
            driver.points[body + side] = driver.points[HANDS[side]][row]
    driver.world[[15, 16], 2] = [right_nearer_m, 0.0]
    return driver


def hands_between(pose: Pose) -> np.ndarray:
    """(2,) from the middle of the right hand to that of the left one, palm lengths."""
    left, right = (pose.points[rows, :2].mean(axis=0) for rows in HANDS)
    return (left - right) / palm_px(pose.points[LEFT_HAND])


def depth_between(pose: Pose) -> float:
    """How much the left hand is further away than the right one, palm lengths."""
    left, right = (pose.points[hand][9, 2] + pose.points[15 + side, 2] for side, hand in enumerate(HANDS))
    return float(left - right) / palm_px(pose.points[LEFT_HAND])


@pytest.mark.parametrize("build", OTHER_BUILDS)
def test_overlapping_hands_keep_their_relation(build):
    driver = meeting(0.5, **build)
    out = settle(Retargeter(avatar_pose(), STILL), driver)
    free = settle(Retargeter(avatar_pose(), STILL.model_copy(update={"contacts": False})), driver)
    kept, lost = (np.linalg.norm(hands_between(pose) - hands_between(driver)) for pose in (out, free))
    assert kept < 0.06 and lost > 0.1  # it is the contact work that keeps it


@pytest.mark.parametrize("nearer_m", [0.06, -0.06])
def test_the_drivers_front_hand_is_the_avatars(nearer_m):
    out = settle(Retargeter(avatar_pose(), STILL), meeting(0.3, right_nearer_m=nearer_m))
    assert 0.1 < np.sign(nearer_m) * depth_between(out) < 0.6


def test_hands_do_not_pass_through_each_other_when_depth_wavers():
    retargeter, random = Retargeter(avatar_pose(), STILL), np.random.default_rng(4)
    settle(retargeter, meeting(0.3, right_nearer_m=0.05))
    depths = [
        depth_between(retargeter.retarget(meeting(0.3, right_nearer_m=0.02 + noise), 1.5 + k / FPS))
        for k, noise in enumerate(random.normal(0.0, 0.03, 60))
    ]
    assert min(depths) > 0.1


def test_hands_meet_and_part_without_a_jump():
    def steps(contacts: bool) -> tuple[float, np.ndarray]:
        retargeter = Retargeter(avatar_pose(), STILL.model_copy(update={"contacts": contacts}))
        gaps = np.concatenate([np.full(40, 4.0), np.linspace(4.0, 0.0, 40), np.linspace(0.0, 4.0, 40)])
        out = [retargeter.retarget(meeting(gap, upper=0.9, fore=0.62), k / FPS) for k, gap in enumerate(gaps)]
        wrists = np.array([pose.points[[15, 16], :2] for pose in out])
        return np.linalg.norm(np.diff(wrists, axis=0), axis=2)[40:].max(), wrists

    (free, apart), (kept, joined) = steps(False), steps(True)
    assert kept < 2.0 * free
    assert np.abs(joined[79] - apart[79]).max() > 3  # contacts had something to do


def edge_on(pose: Pose) -> Pose:
    """The left hand seen from its edge, as a tracker gives it: narrow, and with far too little depth."""
    points = pose.points.copy()
    hand = points[LEFT_HAND]
    hand[:] = (hand - hand[0]) * np.float32([0.35, 0.55, 0.25]) + hand[0]
    return replace(pose, points=points)


def test_a_hand_from_its_edge_stays_narrow():
    retargeter = Retargeter(avatar_pose(), STILL)
    settle(retargeter, meeting(3.0))
    out = settle(retargeter, edge_on(meeting(3.0)), 0.3, start_s=1.8)  # after a moment unseen
    wide = [np.ptp(out.points[rows, 0]) for rows in HANDS]
    assert wide[0] < 0.5 * wide[1]
    assert palm_px(out.points[LEFT_HAND]) == pytest.approx(palm_px(out.points[RIGHT_HAND]), rel=0.1)


def doubled(pose: Pose) -> Pose:
    """The tracker finds the left hand twice; the body's points stay right."""
    points = pose.points.copy()
    points[RIGHT_HAND] = points[LEFT_HAND] + np.float32([1.0, 0.5, 0.0])
    return replace(pose, points=points)


def test_a_hand_found_twice_leaves_the_other_where_it_touches():
    retargeter, driver = Retargeter(avatar_pose(), STILL), meeting(0.6)
    before = settle(retargeter, driver)
    out = settle(retargeter, doubled(driver), 2.0, start_s=1.5)
    assert np.linalg.norm(hands_between(out) - hands_between(before)) < 0.15
    assert np.abs(out.points[RIGHT_HAND] - before.points[RIGHT_HAND]).max() < 12
    assert out.confidence[RIGHT_HAND.start] < 0.5 < out.confidence[LEFT_HAND.start]
    assert depth_between(out) < -0.1  # what hides the other hand is in front


def test_a_hand_never_seen_mirrors_the_one_it_is_pressed_on():
    driver = meeting(0.6)
    out = settle(Retargeter(avatar_pose(), STILL), doubled(driver), 1.0)
    left, right = (out.points[rows] - out.points[rows][0] for rows in HANDS)
    assert np.abs(right - left * [-1, 1, 1]).max() < 4
    assert hands_between(out) == pytest.approx(hands_between(driver), abs=0.25)


def test_a_lost_hand_turns_with_the_bodys_knuckles():
    retargeter, driver = Retargeter(avatar_pose(), STILL), meeting(4.0)
    settle(retargeter, driver)
    lost = without(driver, RIGHT_HAND)
    away = lost.points[[18, 20, 22], :2] - lost.points[16, :2]
    quarter = np.float32([[0, 1], [-1, 0]])
    lost.points[[18, 20, 22], :2] = lost.points[16, :2] + away @ quarter
    out = [retargeter.retarget(lost, 1.5 + k / FPS) for k in range(30)]
    x, y = out[-1].points[RIGHT_MIDDLE, :2] - out[-1].points[RIGHT_HAND.start, :2]
    assert x > 2 * abs(y)  # it pointed up, and now to the right in the picture


def test_a_hand_lost_at_the_face_stays_there():
    driver = meeting(4.0)
    driver = reach_for(driver, 0, 8, driver.points[FACE.start + 152, :2])
    retargeter = Retargeter(avatar_pose(), STILL)
    before = settle(retargeter, driver)
    out = settle(retargeter, without(driver, LEFT_HAND), 1.5, start_s=1.5)
    assert np.abs(out.points[LEFT_HAND, :2] - before.points[LEFT_HAND, :2]).max() < 8


def test_who_begins_turned_aside_gets_no_longer_arms():
    def hanging(turned_deg: float) -> float:
        retargeter, facing = Retargeter(avatar_pose(), STILL), make_person([[DOWN, DOWN], [DOWN, DOWN]])
        aside = replace(facing, points=facing.points.copy(), world=np.zeros((33, 3), np.float32))
        angle, sides = np.deg2rad(turned_deg), np.array([1, -1])
        for joints in ([11, 12], [13, 14], [15, 16]):
            aside.points[joints, 0] = 320 + 50 * np.cos(angle) * sides
        wide = 0.18 * sides[:, None] * (np.cos(angle), np.sin(angle))
        aside.world[[11, 12]] = np.insert(wide, 1, 0, axis=1)
        settle(retargeter, aside, 1.2)
        out = settle(retargeter, facing, 6.0, start_s=1.2)
        return float((out.points[[15, 16], 1] - out.points[[11, 12], 1]).mean())

    assert hanging(35) == pytest.approx(hanging(0), rel=0.02)


def test_contact_error_is_what_hands_are_apart():
    driver = meeting(0.4)
    same = contact_values(driver, driver)
    assert same["contact_error"] == same["hand_contact_error"] == [0.0] and same["contacts_found"] == [1.0]
    moved = replace(driver, points=driver.points.copy())
    palm = palm_px(driver.points[LEFT_HAND])
    moved.points[LEFT_HAND, 0] += 0.7 * palm
    assert contact_values(driver, moved)["hand_contact_error"] == pytest.approx([0.7], abs=0.01)
    assert contact_values(driver, without(driver, LEFT_HAND))["contacts_found"] == [0.0]
    apart = meeting(4.0)
    assert contact_values(apart, driver)["contacts_found"] == []
    assert contact_values(doubled(driver), driver)["contacts_found"] == []
    assert contact_values(None, driver)["contact_error"] == []


def test_a_finger_at_the_chin_is_a_contact_of_the_face():
    driver = reach_for(meeting(4.0), 0, 8, meeting(4.0).points[FACE.start + 152, :2])
    lower = replace(driver, points=driver.points.copy())
    lower.points[LEFT_HAND, 1] += 0.5 * palm_px(driver.points[LEFT_HAND])
    values = contact_values(driver, lower)
    assert values["face_contact_error"] == pytest.approx([0.5], abs=0.01)
    assert values["hand_contact_error"] == []


@pytest.mark.parametrize("name", ["ase-again-15fps", "ase-brother-15fps", "czj-dictio", "ase-help"])
def test_real_contacts_hold(name):
    retargeter = Retargeter(load_avatar("mei").pose)
    errors = []
    for pose in read_pose_file(shared(f"poses/{name}.pose")):
        out = retargeter.retarget(pose if (pose.confidence > 0).any() else None, pose.time_s)
        errors += contact_values(pose, out)["hand_contact_error"]
    assert len(errors) >= 10 and np.median(errors) < 0.2
