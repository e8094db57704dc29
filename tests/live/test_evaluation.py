"""Evaluation: figures follow the pictures, truth against itself is perfect, files and pages are whole."""

import argparse
import dataclasses
import json
import re

import cv2
import numpy as np
import pytest
from support.signers import without

from avatar_stream.errors import ConfigError
from avatar_stream.lab.evaluation import clips, evaluate, pictures, scores, summary
from avatar_stream.lab.evaluation.clips import TrackedFrame
from avatar_stream.lab.evaluation.detector import HAND, PartDetector
from avatar_stream.lab.evaluation.judging import Judge
from avatar_stream.lab.evaluation.painters import RigPainter
from avatar_stream.lab.evaluation.truth import RenderedSubject, find_people, share_out
from avatar_stream.lab.judge import compare, judge
from avatar_stream.people.renderer import Renderer
from avatar_stream.sources.pose_file import write_pose_file
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND


def parsed(command, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(scope="module")
def cases():
    """Six cases of the bundled avatar mei, random signing, and her picture."""
    with Renderer() as renderer:
        person = find_people(None, ["mei"], avatars=True)[0]
        stage = RenderedSubject(person, renderer, np.random.default_rng(3), noise=False)
        yield list(stage.cases(6, 0, [])), stage.avatar


@pytest.fixture(scope="module")
def judging():
    with PartDetector() as detector:
        yield Judge(detector, pictures.Lpips())


def summary_of(rows) -> dict:
    return scores.summarize([judged.values for judged in rows], summary.KEYS, seed=0).means


def test_truth_against_itself_is_perfect(cases, judging):
    shots, avatar = cases
    means = summary_of([judging.judge(case, avatar.image, case.shot.image) for case in shots])
    assert means["psnr_db"] == means["hand_psnr_db"] == 100.0
    assert means["ssim"] == means["alpha_iou"] == pytest.approx(1.0)
    assert means["tolerant_ssim"] == means["sharpness"] == pytest.approx(1.0, abs=1e-4)
    assert means["identity"] == pytest.approx(1.0)
    for part in ("hand", "face", "body"):
        assert means[f"{part}_detection_rate"] == means[f"{part}_detection_rate_truth"] > 0.7, part
        assert means[f"{part}_error"] == means[f"{part}_error_truth"], part
    # Truth's own error is small where landmarks and picture agree: in palms, face heights, shoulder widths.
    assert means["hand_error_truth"] < 0.3 and means["face_error_truth"] < 0.05
    assert means["body_error_truth"] < 0.15


def test_the_wrong_picture_is_found_out(cases, judging):
    shots, avatar = cases
    portrait = pictures.at_canvas(avatar.image)
    still = summary_of([judging.judge(case, avatar.image, portrait) for case in shots])
    assert still["psnr_db"] < 25 and still["alpha_iou"] < 0.95
    assert still["hand_detection_rate"] < 0.5 * still["hand_detection_rate_truth"]
    assert still["body_error"] > 2 * still["body_error_truth"]


def test_blurred_hands_cost_hands_only(cases, judging):
    shots, avatar = cases
    blurred = []
    for case in shots:
        image = case.shot.image.copy()
        hands = np.isin(pictures.enlarged_parts(case.shot.parts), pictures.HANDS)
        image[hands] = cv2.GaussianBlur(image, (0, 0), 7)[hands]
        blurred.append(judging.judge(case, avatar.image, image))
    means = summary_of(blurred)
    assert means["hand_psnr_db"] < 35 and means["face_psnr_db"] == 100.0
    assert means["hand_detection_rate"] < 0.7 * means["hand_detection_rate_truth"]
    assert means["face_error"] == pytest.approx(means["face_error_truth"], rel=0.2)


def test_blur_costs_detail_and_a_shift_does_not(cases):
    shot = cases[0][0].shot

    def figures(image: np.ndarray) -> dict:
        return pictures.compare(image, shot.image, shot.parts)

    soft = figures(cv2.GaussianBlur(shot.image, (0, 0), 3))
    assert soft["tolerant_ssim"] < 0.95 and soft["sharpness"] < 0.6
    assert soft["face_sharpness"] < 0.6 and soft["clothes_tolerant_ssim"] < 0.95
    moved = figures(np.roll(shot.image, (4, -2), (0, 1)))
    assert moved["tolerant_ssim"] > 0.98 and moved["sharpness"] == pytest.approx(1, abs=0.1)
    assert moved["psnr_db"] < soft["psnr_db"], "PSNR prefers the smear"
    three = figures(np.roll(shot.image, 3, 1))
    assert three["tolerant_ssim"] > three["person_ssim"] + 0.1


def test_larger_pictures_are_judged_at_the_canvas_size(cases):
    image = cases[0][0].shot.image
    large = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_LINEAR)
    assert pictures.at_canvas(image) is image
    small = pictures.at_canvas(large)
    assert small.shape == image.shape and small.dtype == np.uint8
    assert pictures.psnr_db(pictures.on_grey(small), pictures.on_grey(image)) > 33


def test_other_clothes_are_another_person(cases):
    shots, _ = cases
    shot = shots[0].shot
    changed = shot.image.copy()
    clothes = pictures.enlarged_parts(shot.parts) == 6
    changed[clothes, :3] = changed[clothes, 2::-1]
    before, after = (pictures.compare(image, shot.image, shot.parts) for image in (shot.image, changed))
    assert after["identity_clothes"] < 0.8 < before["identity_clothes"]
    assert after["identity_face"] > 0.95


def test_hidden_hands_are_not_asked_for(cases, judging):
    shots, avatar = cases
    case = shots[0]
    parts = case.shot.parts.copy()
    parts[np.isin(parts, pictures.HANDS)] = 6
    hidden = dataclasses.replace(case, shot=dataclasses.replace(case.shot, parts=parts))
    judged = judging.judge(hidden, avatar.image, case.shot.image)
    assert not any(part.kind == HAND for part in judged.wanted)
    assert judged.values["hand_detection_rate"] == []


def test_motion_and_flicker_follow_the_pictures(cases):
    first = cases[0][0]
    pair = (first.shot.image, first.next_shot.image)
    assert pictures.motion_error(pair, pair) == 0
    assert pictures.motion_error((pair[0], pair[0]), pair) > 0
    assert pictures.mean_change([pair[0]] * 3) == 0 < pictures.mean_change(list(pair))


def test_ssim_and_psnr_have_known_values():
    flat, other = (np.full((32, 32, 3), value, np.float32) for value in (100.0, 110.0))
    constant = (0.01 * 255) ** 2
    expected = (2 * 100 * 110 + constant) / (100**2 + 110**2 + constant)
    assert pictures.ssim(flat, other) == pytest.approx(expected)
    assert pictures.psnr_db(flat, other) == pytest.approx(20 * np.log10(25.5), abs=1e-4)


def test_means_leave_out_what_is_not_there_and_intervals_hold_them():
    rows = [{"a": [1.0, 0.0], "b": 2.0}, {"a": [1.0], "b": np.nan}, {"a": [], "b": 4.0}]
    found = scores.summarize(rows, ["a", "b", "c"], seed=1)
    assert found.means == {"a": pytest.approx(2 / 3), "b": 3.0, "c": None}
    assert found.counts == {"a": 3, "b": 2, "c": 0} and found.intervals["c"] is None
    assert found.intervals["b"][0] <= 3.0 <= found.intervals["b"][1]
    assert found == scores.summarize(rows, ["a", "b", "c"], seed=1)


def test_frames_of_one_sequence_are_drawn_together():
    rows = [{"a": value} for value in (1.0, 1.0, 1.0, 5.0)]
    alone = scores.summarize(rows, ["a"], 0).intervals["a"]
    together = scores.summarize(rows, ["a"], 0, ["x", "x", "x", "y"])
    assert together.means["a"] == 2.0 and together.counts["a"] == 4
    assert together.intervals["a"] == [1.0, 5.0] and alone[1] < 5.0
    one = scores.summarize(rows, ["a"], 0, ["x"] * 4)
    assert one.intervals["a"] == [2.0, 2.0]


def test_frames_are_shared_out_and_too_few_are_refused():
    assert share_out(7, 3) == [3, 2, 2]
    with pytest.raises(ConfigError, match="--frames 2"):
        share_out(2, 3)


def test_evaluate_writes_figures_and_a_page(tmp_path, make_pose_clip, capsys):
    make_pose_clip(frames=4)
    arguments = parsed(
        evaluate,
        *("--avatars", "--names", "mei", "--frames", "1", "--poses", str(tmp_path)),
        *("--json", str(tmp_path / "figures.json"), "--report", str(tmp_path / "report")),
    )
    assert evaluate.run(arguments) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    keys = (
        "frames people steps psnr_db ssim lpips alpha_iou hand_psnr_db face_psnr_db hand_detection_rate "
        "hand_detection_rate_truth hand_error hand_error_truth face_error face_error_truth body_error "
        "body_error_truth mouth_error brow_error lid_error gaze_error letters_read_of_truth ndtwp tolerant_ssim "
        "sharpness hands_found_of_truth by_region identity flicker intervals"
    ).split()
    assert set(keys) <= set(figures) and figures["frames"] == figures["people"] == 1
    assert 10 < figures["psnr_db"] < 60 and figures["intervals"]["psnr_db"][0] <= figures["psnr_db"]
    assert list(figures["by_steps"]) == ["1", "2", "4", "8"] and figures["motion"] == ["sign"]
    assert all(set(target) == {"value", "target", "met"} for target in figures["targets"].values())
    assert "psnr_db:" in capsys.readouterr().out
    page = (tmp_path / "report" / "index.html").read_text()
    linked = re.findall(r'src="([^"]+)"', page)
    assert len(linked) >= 8 and all((tmp_path / "report" / name).is_file() for name in linked)


def test_same_seed_same_figures(judging):
    person = find_people(None, ["ben"], avatars=True)[0]

    def figures(renderer: Renderer, seed: int) -> dict:
        stage = RenderedSubject(person, renderer, np.random.default_rng(seed), noise=True)
        case = next(stage.cases(1, 0, []))
        painter = RigPainter()
        painter.meet(stage.avatar)
        judged = judging.judge(case, stage.avatar.image, painter.paint(case.shot.given, 1))
        painter.close()
        return summary_of([judged])

    with Renderer() as renderer:
        once = figures(renderer, 0)
        assert once == figures(renderer, 0) and once != figures(renderer, 1)
    # The rig is posed from the landmarks alone: near truth, or left and right are exchanged somewhere.
    assert once["psnr_db"] > 15 and once["body_error"] < 3 * once["body_error_truth"]


def test_a_missing_folder_is_told_before_the_work(tmp_path):
    arguments = parsed(evaluate, "--avatars", "--json", str(tmp_path / "nowhere" / "figures.json"))
    with pytest.raises(ConfigError, match="no folder"):
        evaluate.run(arguments)
    with pytest.raises(ConfigError, match="--people"):
        evaluate.run(parsed(evaluate, "--json", str(tmp_path / "figures.json")))
    with pytest.raises(ConfigError, match="no .pose files"):
        evaluate.run(parsed(evaluate, "--avatars", "--poses", str(tmp_path), "--json", str(tmp_path / "a")))


def frames_of(poses, step_s: float = 0.04) -> list[TrackedFrame]:
    return [TrackedFrame(k * step_s, pose, None) for k, pose in enumerate(poses)]


@pytest.fixture
def signing(cases):
    """Twenty poses of a clip whose mouth opens and shuts, arms down."""
    pose = cases[1].pose
    poses = []
    for k in range(20):
        points = pose.points.copy()
        face = points[FACE]
        open_px = 0.08 * np.linalg.norm(face[263] - face[33]) * (1 + np.sin(k / 2))
        points[FACE.start + 14, 1] += open_px
        poses.append(dataclasses.replace(pose, points=points, time_s=0.04 * k))
    return poses


def test_a_clip_judged_against_itself_is_perfect(signing):
    frames = frames_of(signing)
    figures = compare.judge_pairs(clips.pair(frames, frames), seed=0)
    assert figures["hands_found"] == 1 and figures["arm_angle_deg"] == 0
    assert figures["hand_shape_deg"] == figures["hand_shape_palms"] == 0
    assert figures["mouth_open_correlation"] == pytest.approx(1)
    assert figures["ndtwp"] == figures["mouth_open_apart"] == figures["gaze_left_apart"] == 0
    assert figures["letters_read_of_driver"] in (1, None)
    assert all(target["met"] for target in figures["targets"].values())
    json.dumps(figures, allow_nan=False)


def test_what_an_avatar_does_wrong_shows_in_its_figure(signing):
    driver = frames_of(signing)
    lost = [without(pose, LEFT_HAND) if k % 2 else pose for k, pose in enumerate(signing)]
    figures = compare.judge_pairs(clips.pair(driver, frames_of(lost)), seed=0)
    assert figures["hands_found"] == 0.75 and figures["targets"]["hands_found"]["met"] is False
    # Every second frame of one of two hands is lost: it costs a shoulder width each, less what is matched otherwise.
    assert 0.1 < figures["ndtwp"] <= 0.26

    silent = [dataclasses.replace(signing[0], time_s=pose.time_s) for pose in signing]
    figures = compare.judge_pairs(clips.pair(driver, frames_of(silent)), seed=0)
    assert figures["mouth_open_correlation"] == 0
    figures = compare.judge_pairs(clips.pair(frames_of(silent), driver), seed=0)
    assert figures["mouth_open_correlation"] is None, "the driver's mouth was still: nothing to follow"


def test_a_face_behind_a_hand_is_not_asked(signing):
    pose = signing[0]
    assert np.isfinite(clips.face_numbers(pose)).all()
    points = pose.points.copy()
    points[LEFT_HAND, :2] += points[FACE, :2].mean(0) - points[LEFT_HAND, :2].mean(0)
    assert np.isnan(clips.face_numbers(dataclasses.replace(pose, points=points))).all()


def test_arm_angles_and_hand_shapes_are_measured_per_side(signing):
    pose = signing[0]
    points = pose.points.copy()
    points[13, :2] = points[11, :2] + (0, 80)  # left elbow straight below the shoulder
    points[14, :2] = points[12, :2] + (80, 0)  # right elbow beside it
    angles = clips.arm_angles(dataclasses.replace(pose, points=points))
    assert angles[:, 0] == pytest.approx([90, 0])
    assert clips.angle_between(np.array(170.0), np.array(-170.0)) == pytest.approx(20)
    hand = points[RIGHT_HAND]
    assert clips.hand_distance(hand, 3 * hand + 7) == pytest.approx(0, abs=1e-5)
    straight = np.zeros((21, 3))
    straight[:, 1] = np.arange(21)
    assert clips.finger_bends(straight).max() == pytest.approx(0, abs=1e-4)


def test_frames_are_paired_by_time(signing):
    driver = frames_of(signing)
    late = [dataclasses.replace(frame, time_s=frame.time_s + 0.01) for frame in driver[::2]]
    pairs = clips.pair(driver, late)
    assert len(pairs) == 10 and all(second.pose is first.pose for first, second in pairs)
    with pytest.raises(ConfigError, match="same times"):
        clips.pair(driver, [dataclasses.replace(driver[0], time_s=9.0)])


def test_judge_runs_on_clips_without_anybody(tmp_path, make_clip, capsys):
    first, second = make_clip("driver.mp4"), make_clip("avatar.mp4")
    arguments = parsed(
        judge,
        *("--driver", str(first), "--avatar", str(second), "--json", str(tmp_path / "judged.json")),
        *("--report", str(tmp_path / "page")),
    )
    assert judge.run(arguments) == 0
    figures = json.loads((tmp_path / "judged.json").read_text())
    assert figures["frames"] == 3 and figures["hands_found"] is None
    assert figures["targets"]["hands_found"]["met"] is None
    assert (tmp_path / "page" / "index.html").is_file() and "hands_found: null" in capsys.readouterr().out


def test_pose_files_move_the_person(tmp_path, cases, upright_pose):
    _, avatar = cases
    poses = [upright_pose((320, 240), k / 25, lift=k / 9) for k in range(10)]
    write_pose_file(tmp_path / "lift.pose", poses, 25)
    with Renderer() as renderer:
        person = find_people(None, ["mei"], avatars=True)[0]
        stage = RenderedSubject(person, renderer, np.random.default_rng(0), noise=True)
        made = list(stage.cases(2, 5, [tmp_path / "lift.pose"]))
    assert [case.number for case in made] == [5, 6] and made[0].motion == "lift"
    shot = made[1].shot
    assert np.abs(shot.given.points - shot.exact.points).max() > 0.5, "the noise was asked for"
    assert not np.array_equal(stage.avatar.pose.points, avatar.pose.points)
