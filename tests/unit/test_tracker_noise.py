"""What the tracker does to poses: the study that measures it, and the noise that repeats it in training."""

import dataclasses

import numpy as np
import pytest
from support.places import ROOT

from avatar_stream.cli import main
from avatar_stream.lab.training.tracker_clips import SUBFRAMES, TrackedClip
from avatar_stream.lab.training.tracker_losses import hand_frames, loss_table, losses
from avatar_stream.lab.training.tracker_noise import (
    hand_axes,
    head_axes,
    load_table,
    lose_hands,
    sizes,
    tracker_noise,
)
from avatar_stream.lab.training.tracker_study import measure
from avatar_stream.landmarks import HAND_PARENTS, HANDS
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND

PORTRAIT = ROOT / "assets" / "avatars" / "mei" / "portrait.pose"


@pytest.fixture(scope="module")
def exact() -> np.ndarray:
    return read_pose_file(PORTRAIT)[0].points


def bones(hands: np.ndarray) -> np.ndarray:
    return np.linalg.norm(hands - hands[..., HAND_PARENTS, :], axis=-1)


def test_noise_is_small_in_the_picture_and_keeps_bones(exact):
    noisy = np.stack([tracker_noise(exact, np.random.default_rng(seed)) for seed in range(40)])
    moved = np.linalg.norm((noisy - exact)[..., :2], axis=-1)
    for part, least, most in ((LEFT_HAND, 0.3, 2.0), (RIGHT_HAND, 0.3, 2.0), (FACE, 0.1, 1.0)):
        assert least < np.median(moved[:, part]) < most and moved[:, part].max() < 15
    for part in (LEFT_HAND, RIGHT_HAND):
        lengths = [np.linalg.norm((p[part] - p[part][HAND_PARENTS])[:, :2], axis=1) for p in (exact, *noisy)]
        assert np.abs(np.array(lengths[1:]) - lengths[0]).max() < 5
    # A hand stays on its arm, and the body's own points of the hand on the hand.
    arm = noisy[:, 15, :2] - exact[15, :2]
    assert np.allclose(noisy[:, LEFT_HAND][:, 0, :2] - exact[LEFT_HAND][0, :2], arm, atol=1e-3)
    index = LEFT_HAND.start + 5
    assert np.allclose(noisy[:, 19, :2] - exact[19, :2], noisy[:, index, :2] - exact[index, :2], atol=1e-3)


def test_noise_repeats_scales_and_can_be_nothing(exact):
    first, again = (tracker_noise(exact, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again) and first.dtype == np.float32
    assert np.array_equal(tracker_noise(exact, np.random.default_rng(4), 0.0), exact)
    half = tracker_noise(exact, np.random.default_rng(4), 0.5)
    ratio = np.linalg.norm((half - exact)[FACE, :2]) / np.linalg.norm((first - exact)[FACE, :2])
    assert 0.4 < ratio < 0.6


def test_noise_spreads_as_the_table_says(exact):
    table, (palms, _, shoulders) = load_table(), sizes(exact)
    noisy = np.stack([tracker_noise(exact, np.random.default_rng(seed)) for seed in range(600)])
    # Strength is drawn anew each time, with mean 1 and variance 1/4: it widens the spread by about a tenth.
    wider = np.sqrt(1.25)
    for side, rows in enumerate(HANDS):
        away = exact[rows][9] - exact[rows][0]
        tilt = (noisy[:, rows][:, 9, 2] - noisy[:, rows][:, 0, 2] - away[2]) / np.hypot(*away[:2])
        # The middle finger points down: its depth tells the turn about x, and its own bend a little.
        assert 0.7 < tilt.std() / (wider * table["hand_turn"][0]) < 1.4, palms[side]
    hip = (noisy[:, 23, 2] - noisy[:, 24, 2] - exact[23, 2] + exact[24, 2]) / shoulders
    wanted = wider * np.hypot(*table["body_spread"][6:8, 2])
    assert 0.75 < hip.std() / wanted < 1.3


def test_errors_of_the_face_are_alike_where_points_are_near(exact):
    noisy = np.stack([tracker_noise(exact, np.random.default_rng(seed))[FACE] for seed in range(300)])
    error = np.einsum("nka,ba->nkb", noisy - exact[FACE], head_axes(exact[FACE]))[..., :2]
    error -= error.mean((0, 1))
    corner, beside, other_corner = (error[:, row, 1] - error[:, :468, 1].mean(1) for row in (61, 76, 291))
    assert np.corrcoef(corner, beside)[0, 1] > 0.8 > 0.5 > np.corrcoef(corner, other_corner)[0, 1]


@pytest.mark.parametrize("disturb", [tracker_noise, lambda points, rng: lose_hands(points, rng, 100.0)])
def test_what_is_not_known_stays_unknown(exact, disturb):
    points = exact.copy()
    points[RIGHT_HAND] = points[21] = np.nan
    made = disturb(points, np.random.default_rng(1))
    assert np.isnan(made[RIGHT_HAND]).all() and np.isnan(made[21]).all()
    assert np.isfinite(made[LEFT_HAND]).all() and not np.array_equal(made[LEFT_HAND], exact[LEFT_HAND])


def test_hands_are_lost_as_often_as_the_tracker_loses_them(exact):
    rng, apart, near = np.random.default_rng(2), exact, exact.copy()
    near[RIGHT_HAND] += near[LEFT_HAND][9] - near[RIGHT_HAND][9]
    for points, wanted in ((apart, load_table()["lost_share"][0]), (near, load_table()["lost_share"][1])):
        made = np.stack([lose_hands(points, rng) for _ in range(2000)])
        lost = [(made[:, rows] != points[rows]).any((1, 2)) for rows in HANDS]
        deviation = np.sqrt(wanted * (1 - wanted) / 4000)
        assert abs(np.mean(lost) - wanted) < 3.5 * deviation
    assert np.array_equal(lose_hands(exact, rng, 0.0), exact)


def test_a_lost_hand_has_another_shape_on_the_same_wrist(exact):
    rng = np.random.default_rng(3)
    made = np.stack([lose_hands(exact, rng, 100.0) for _ in range(60)])
    palms, tips = sizes(exact)[0], [4, 8, 12, 16, 20]
    for side, rows in enumerate(HANDS):
        assert np.allclose(made[:, rows][:, 0], exact[rows][0], atol=1e-3)
        assert np.allclose(bones(made[:, rows]), bones(exact[rows]), atol=0.05)
        away = np.linalg.norm((made[:, rows] - exact[rows])[:, tips], axis=-1).mean(1) / palms[side]
        assert 0.3 < np.median(away) < 1.5
    # The body's own knuckles go with the hand, all else stays.
    assert np.allclose(made[:, 19] - exact[19], (made - exact)[:, LEFT_HAND.start + 5], atol=1e-3)
    rest = np.r_[0:17, 23:33, FACE]
    assert np.array_equal(made[:, rest], np.broadcast_to(exact[rest], made[:, rest].shape))


def made_clip(random: np.random.Generator, error: np.ndarray) -> TrackedClip:
    """A signer who sways, seen with an error (21, 3) of both hands in palm lengths and the hand's axes."""
    portrait = read_pose_file(PORTRAIT)[0].points
    times = np.arange(80 * SUBFRAMES) / (25 * SUBFRAMES)
    exact = np.repeat(portrait[None], len(times), 0)
    exact[..., 0] += 12 * np.sin(3 * times)[:, None]
    exact[..., LEFT_HAND, 1] -= 60 * np.abs(np.sin(2 * times))[:, None]
    seen = exact[::SUBFRAMES].copy()
    for side, rows in enumerate((LEFT_HAND, RIGHT_HAND)):
        hand = seen[:, rows]
        palm = np.linalg.norm(hand[0, 9] - hand[0, 0])
        shaken = error + random.normal(0, 0.03, (len(seen), 21, 3)) * (np.arange(21) > 0)[:, None]
        seen[:, rows] += palm * np.einsum("nka,nab->nkb", shaken, hand_axes(hand, side))
    tracked = seen.copy()
    tracked[40:50, LEFT_HAND] = np.nan
    pixels = np.full((len(seen), 2), 1000, np.float32)
    trust = np.ones(seen.shape[:2], np.float32)
    image = np.zeros((512, 512, 3), np.uint8)
    return TrackedClip("made", exact, pixels, tracked, seen, trust, portrait, image)


def test_the_study_finds_the_error_that_is_there():
    error = np.zeros((21, 3))
    error[[6, 7, 8], 0], error[17, 1] = 0.12, -0.08
    clip = made_clip(np.random.default_rng(1), error)
    table, told = measure([clip], "live")
    assert np.abs(table["hand_offset"] - error).max() < 0.02
    assert 0.02 < np.median(table["hand_spread"][1:]) < 0.04
    assert np.abs(table["face_offset"]).max() < 0.01 and told["hand"]["lag_ms"] < 20
    assert np.allclose(np.linalg.norm(table["face_modes"], axis=1), 1.0)


def test_the_study_finds_the_losses_that_are_there():
    clip = made_clip(np.random.default_rng(1), np.zeros((21, 3)))
    trust = clip.trust.copy()
    trust[40:52, LEFT_HAND] = 0.5  # two frames more until the Retargeter shows the hand again
    trust[60:64, RIGHT_HAND] = 0.5
    live = clip.live.copy()
    live[40:52, LEFT_HAND] = clip.portrait[LEFT_HAND] * [-1, 1, 1]  # turned round
    hands = hand_frames([dataclasses.replace(clip, trust=trust, live=live)] * 2)
    told, table = losses(hands), loss_table(hands)
    assert told["hands_in_picture"] == 180 and told["lost"] == pytest.approx(10 / 90, abs=1e-4)
    assert told["made_up"] == pytest.approx(16 / 90, abs=1e-4)
    assert told["made_up_runs"] == {"count": 4, "frames_median_p90_most": [8.0, 12.0, 12.0]}
    made, seen = told["errors_made_up"], told["errors_seen"]
    assert seen["fingertips_palm_lengths"] < 0.1 < 0.5 < made["fingertips_palm_lengths"]
    assert table["lost_share"] == pytest.approx([16 / 90, 0.0]) and table["lost_live"].shape == (32, 21, 3)


def test_study_tracker_refuses_a_tracker_that_it_does_not_know(tmp_path, capsys):
    people = tmp_path / "people"
    people.mkdir()
    (people / "somebody.glb").write_bytes(b"")
    arguments = ["study-tracker", "--people", str(people), "--output", str(tmp_path / "report.json")]
    assert main([*arguments, "--tracker", "holistic_slow"]) == 1
    assert "holistic_fast" in capsys.readouterr().err
