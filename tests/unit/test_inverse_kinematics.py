"""Landmarks to joint rotations: round trips, noise, missing parts, faces, mirroring."""

from dataclasses import replace

import numpy as np
import pytest
from support.places import shared
from support.signers import hand_rows, without

from avatar_stream.lab.renders.motion import Sampler
from avatar_stream.people import face_fit
from avatar_stream.people.handshapes import Hand, shape
from avatar_stream.people.inverse_kinematics import RigSolver
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import INDEX, forward
from avatar_stream.types import LEFT_HAND, RIGHT_HAND, SHOULDER_CENTRE, Pose

SIZE = 512
METRES_PER_PX = 1.2 / SIZE
UNSEEN = np.full((553, 3), np.nan, np.float32)
NOBODY = Pose(UNSEEN, np.zeros(553, np.float32), UNSEEN[:33], (SIZE, SIZE), 0.0)
BODY = {11: "LeftArm", 13: "LeftForeArm", 15: "LeftHand", 23: "LeftUpLeg"}
BODY |= {row + 1: name.replace("Left", "Right") for row, name in BODY.items()}


@pytest.fixture(scope="module")
def bind_m():
    return Rig.load(shared("people/person-14-a.glb")).bind_m


def landmarks(bind_m, rig_pose, time_s=0.0):
    """Exact orthographic landmarks of body and hands in canonical pixels, and the joint positions."""
    _, places = forward(bind_m, rig_pose)
    points, confidence = np.full((553, 3), np.nan, np.float32), np.zeros(553, np.float32)
    centre = bind_m[[INDEX["LeftArm"], INDEX["RightArm"]]].mean(0)

    def put(row, place, zero):
        points[row] = (place - (centre[0], centre[1], zero)) / METRES_PER_PX * (1, -1, -1)
        points[row, :2] += np.multiply(SHOULDER_CENTRE, SIZE)
        confidence[row] = 1

    hips = places[[INDEX["LeftUpLeg"], INDEX["RightUpLeg"]]].mean(0)
    for row, name in BODY.items():
        put(row, places[INDEX[name]], hips[2])
    for hand, side in ((LEFT_HAND, "Left"), (RIGHT_HAND, "Right")):
        for row, joint in zip(range(hand.start, hand.stop), hand_rows(side), strict=True):
            put(row, places[joint], places[INDEX[f"{side}Hand"], 2])
    return Pose(points, confidence, np.full((33, 3), np.nan, np.float32), (SIZE, SIZE), time_s), places


def errors(bind_m, noise_px, count, seed):
    """Fingertip errors in palm lengths and wrist errors in metres of solved random poses."""
    sampler, random = Sampler(bind_m, seed), np.random.default_rng(seed)
    tips, wrists = [], []
    for _ in range(count):
        pose, true = landmarks(bind_m, sampler.pose())
        noise = random.normal(0, noise_px, (553, 3)) * (1, 1, 3)
        pose = replace(pose, points=(pose.points + noise).astype(np.float32))
        _, found = forward(bind_m, RigSolver(bind_m, METRES_PER_PX).solve(pose))
        for side in ("Left", "Right"):
            rows = hand_rows(side)
            palm = np.linalg.norm(bind_m[rows[9]] - bind_m[rows[0]])
            off = (found[rows] - found[rows[0]]) - (true[rows] - true[rows[0]])
            tips.append(np.linalg.norm(off[[4, 8, 12, 16, 20]], axis=1) / palm)
            wrists.append(np.linalg.norm(found[rows[0]] - true[rows[0]]))
    return np.array(tips), np.array(wrists)


def test_exact_landmarks_come_back(bind_m):
    tips, wrists = errors(bind_m, 0.0, 30, 3)
    assert np.median(tips) < 0.03
    assert np.percentile(tips, 90) < 0.12
    assert np.median(wrists) < 0.02


def test_noise_of_half_a_pixel_keeps_fingers_in_place(bind_m):
    tips, wrists = errors(bind_m, 0.5, 30, 4)
    assert np.median(tips) < 0.08
    assert np.median(wrists) < 0.03


def test_what_is_not_seen_keeps_its_last_posture(bind_m):
    sampler = Sampler(bind_m, 1)
    solver = RigSolver(bind_m, METRES_PER_PX)
    pose, _ = landmarks(bind_m, sampler.pose())
    before = solver.solve(pose)
    lost = without(without(pose, LEFT_HAND), [13, 15])
    after = solver.solve(replace(lost, time_s=0.1))
    rows = hand_rows("Left")[1:]
    np.testing.assert_allclose(after.rotations[rows], before.rotations[rows], atol=1e-6)
    nobody = replace(NOBODY, size=pose.size, time_s=0.2)
    held = solver.solve(nobody)
    assert np.isfinite(held.rotations).all()
    np.testing.assert_allclose(held.rotations, after.rotations, atol=1e-5)


def test_a_hand_lost_for_long_goes_limp(bind_m):
    sampler, solver = Sampler(bind_m, 1), RigSolver(bind_m, METRES_PER_PX)
    pose, _ = landmarks(bind_m, sampler.pose())
    solver.solve(pose)
    lost = without(pose, LEFT_HAND)
    for step in range(1, 61):
        found = solver.solve(replace(lost, time_s=step / 30))
    relaxed = Hand(bind_m, "Left").rotations(shape("relaxed")).reshape(20, 3, 3)
    np.testing.assert_allclose(found.rotations[hand_rows("Left")[1:]], relaxed, atol=0.01)


def test_a_first_frame_with_nobody_gives_the_rest_pose(bind_m):
    found = RigSolver(bind_m).solve(NOBODY)
    rest = Sampler(bind_m, 0).portrait()
    rows = hand_rows("Left") + hand_rows("Right")
    assert np.abs(forward(bind_m, found)[1] - forward(bind_m, rest)[1])[rows].max() < 0.01


def test_mirrored_signs_with_the_other_hand(bind_m):
    pose, _ = landmarks(bind_m, Sampler(bind_m, 8).pose())
    straight = forward(bind_m, RigSolver(bind_m, METRES_PER_PX).solve(pose))[1]
    mirrored = forward(bind_m, RigSolver(bind_m, METRES_PER_PX, mirrored=True).solve(pose))[1]
    for side, other in (("Left", "Right"), ("Right", "Left")):
        flipped = straight[hand_rows(side)] * (-1, 1, 1)
        assert np.abs(mirrored[hand_rows(other)] - flipped).max() < 0.015


def test_the_scale_of_an_unknown_picture_does_not_matter(bind_m):
    pose, _ = landmarks(bind_m, Sampler(bind_m, 12).pose())
    larger = replace(pose, points=pose.points * 2.5, size=(1280, 1280))
    a = forward(bind_m, RigSolver(bind_m).solve(pose))[1]
    b = forward(bind_m, RigSolver(bind_m).solve(larger))[1]
    assert np.abs(a - b).max() < 1e-3


def face(open_by=0.0, brow_by=0.0, right_lid=0.3, iris_by=0.0):
    """A drawn face mesh (478, 3), y up: only the points that are measured stand where a face has them."""
    mesh = np.zeros((478, 3))
    at = {33: (-1, 0), 133: (-0.35, 0), 263: (1, 0), 362: (0.35, 0), 159: (-0.67, 0), 386: (0.67, 0)}
    at |= {145: (-0.67, -right_lid), 374: (0.67, -0.3), 13: (0, -1.5), 14: (0, -1.5 - open_by)}
    at |= {
        234: (-1.5, 0),
        454: (1.5, 0),
        127: (-1.5, 0.3),
        356: (1.5, 0.3),
        61: (-0.6, -1.5),
        291: (0.6, -1.5),
    }
    at |= {2: (0, -1), 10: (0, 1.6), 164: (0, -1.2), 151: (0, 1.2), 6: (0, 0), 9: (0, 0.5)}
    at |= {468: (-0.67 + iris_by, -0.1), 473: (0.67 + iris_by, -0.1)}
    for row, (x, y) in at.items():
        mesh[row, :2] = x, y
    for sign, rows in ((-1, (70, 63, 105, 66, 107)), (1, (300, 293, 334, 296, 336))):
        for k, row in enumerate(rows):
            mesh[row, :2] = sign * (1 - 0.15 * k), 0.5 + brow_by
    return mesh


def test_a_face_becomes_morphs_whatever_way_it_is_turned():
    def measured(mesh, turn):
        mesh = mesh @ turn.T
        return face_fit.measure(mesh, face_fit.head_turn(mesh))

    angle = 0.4
    turned = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    for turn in (np.eye(3), turned):
        neutral = measured(face(), turn)
        assert not face_fit.morphs(neutral, neutral)
        opened = face_fit.morphs(measured(face(open_by=0.6), turn), neutral)
        assert opened["MouthOpen_h"] > 0.4 and "ReyeClose_h" not in opened
        winked = face_fit.morphs(measured(face(right_lid=0.02), turn), neutral)
        assert winked["ReyeClose_h"] > 0.8 and "LeyeClose_h" not in winked
        raised = face_fit.morphs(measured(face(brow_by=0.2), turn), neutral)
        assert raised["RbrowUp_h"] > 0.4 and "RbrowDown_h" not in raised
        assert face_fit.gaze(measured(face(iris_by=0.1), turn), neutral)[0] > 0.1
    relative = face_fit.head_turn(face() @ turned.T) @ face_fit.head_turn(face()).T
    np.testing.assert_allclose(relative, turned, atol=1e-6)


def test_mirrored_morphs_exchange_the_sides():
    swapped = face_fit.mirrored({"RRbrowUp_h": 0.2, "LbrowUp_h": 0.4, "MouthOpen_h": 0.5, "ReyeClose_h": 1.0})
    assert swapped == {"LLbrowUp_h": 0.2, "RbrowUp_h": 0.4, "MouthOpen_h": 0.5, "LeyeClose_h": 1.0}
