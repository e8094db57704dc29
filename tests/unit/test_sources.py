"""Clips and pose files: true times, upright pictures, and one clear line for what cannot be read."""

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from support.cameras import Camera, picture
from support.places import shared
from support.stages import opened, track

from avatar_stream.errors import EndOfStream, SinkError, SourceError
from avatar_stream.sources.pose_file import PoseFileSource, read_pose_file, write_pose_file
from avatar_stream.sources.synthetic import SyntheticSource
from avatar_stream.sources.video_file import VideoFileSource
from avatar_stream.sources.webcam import WebcamSource
from avatar_stream.trackers.holistic import HolisticTracker
from avatar_stream.types import (
    BODY,
    FACE,
    LEFT_HAND,
    LEFT_HIP,
    LEFT_SHOULDER,
    NOSE,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)


def read_all(source):
    frames = []
    with opened(source), contextlib.suppress(EndOfStream):
        while True:
            frames.append(source.read())
    return frames


def video(path, **options):
    return VideoFileSource(VideoFileSource.Options(path=path, **options))


def test_times_are_the_files_own(make_clip):
    times_s = [0.5, 0.54, 0.7, 0.71, 1.2]
    frames = read_all(video(make_clip(times_s=times_s)))
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.time_s for f in frames] == pytest.approx([0, 0.04, 0.2, 0.21, 0.7], abs=1e-4)


def test_pictures_are_rgb_and_contiguous(make_clip):
    image = read_all(video(make_clip()))[0].image
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert image[24, 4, 0] > 180 and image[24, 4, 2] < 100


@pytest.mark.parametrize(
    "size, pixels", [((65, 49), "yuv444p"), ((64, 48), "yuv420p10le"), ((64, 48), "yuv422p")]
)
def test_odd_sizes_and_ten_bits(make_clip, size, pixels):
    frames = read_all(video(make_clip(size=size, pixels=pixels)))
    assert [f.image.shape for f in frames] == [(size[1], size[0], 3)] * 3
    assert frames[0].image[24, 4, 0] > 180


def test_sound_is_ignored(make_clip):
    assert len(read_all(video(make_clip(audio=True)))) == 3


def test_rotation_is_applied():
    frames = read_all(video(shared("odd/portrait-rotated.mp4")))
    assert frames[0].image.shape == (480, 360, 3)
    points = [pose.points for pose in track(HolisticTracker(), frames[:4]) if pose is not None][-1]
    assert points[NOSE, 1] < points[LEFT_SHOULDER, 1] < points[LEFT_HIP, 1], "the signer stands upright"
    assert points[LEFT_SHOULDER, 0] > points[RIGHT_SHOULDER, 0], "and faces the camera"


def test_broken_data_end_with_one_warning(make_clip, caplog):
    path = make_clip(times_s=np.arange(200) / 25, size=(320, 240))
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    middle = len(content) // 3
    content[middle : middle + 400] = rng.integers(0, 256, 400, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        frames = read_all(video(path))
    assert 20 < len(frames) <= 200
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) <= 1


@pytest.mark.parametrize("content", [b"", b"this is a text\n" * 50, b"\x00" * 4000])
def test_what_is_no_clip_is_told_in_one_line(tmp_path, content):
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(SourceError, match="bad.mp4") as caught:
        video(tmp_path / "bad.mp4").open()
    assert "\n" not in str(caught.value)


def test_missing_files_are_told(tmp_path):
    with pytest.raises(SourceError, match="there is no clip"):
        video(tmp_path / "none.mp4").open()
    with pytest.raises(SourceError, match="No such file"):
        read_pose_file(tmp_path / "none.pose")


def test_pose_file_round_trip(tmp_path, upright_pose):
    poses = [upright_pose((640, 480), k / 12.5, lift=k / 5) for k in range(5)]
    poses[2].points[LEFT_HAND] = np.nan
    poses[2].confidence[LEFT_HAND] = 0
    write_pose_file(tmp_path / "a.pose", [*poses, None], 12.5)
    back = read_pose_file(tmp_path / "a.pose")
    assert len(back) == 6 and not (back[5].confidence > 0).any()
    for pose, again in zip(poses, back, strict=False):
        np.testing.assert_allclose(again.points, pose.points, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(again.world, pose.world, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(again.confidence, pose.confidence)
        assert again.size == (640, 480) and again.time_s == pytest.approx(pose.time_s)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pose"]


def test_written_file_is_read_by_pose_formats_own_reader(tmp_path, upright_pose):
    from pose_format import Pose as PoseFile

    write_pose_file(tmp_path / "a.pose", [upright_pose((640, 480))], 30)
    file = PoseFile.read((tmp_path / "a.pose").read_bytes())
    assert file.body.data.shape == (1, 1, 586, 3)
    assert [c.name for c in file.header.components][4] == "POSE_WORLD_LANDMARKS"


@pytest.mark.parametrize("poses, fps", [([], 25), ([None], 25), ("one", 0)])
def test_nothing_to_write_is_refused(tmp_path, upright_pose, poses, fps):
    poses = [upright_pose()] if poses == "one" else poses
    with pytest.raises(SinkError):
        write_pose_file(tmp_path / "a.pose", poses, fps)
    assert not list(tmp_path.iterdir())


def test_nan_and_infinity_become_unseen(tmp_path, upright_pose):
    pose = upright_pose()
    pose.points[5] = np.inf
    pose.points[40, 1] = np.nan
    write_pose_file(tmp_path / "a.pose", [pose], 25)
    back = read_pose_file(tmp_path / "a.pose")[0]
    for row in (5, 40):
        assert np.isnan(back.points[row]).all() and back.confidence[row] == 0
    assert np.isfinite(back.points).all(axis=1).sum() == 551


def test_pose_source_gives_dark_pictures_and_poses(make_pose_clip):
    frames = read_all(PoseFileSource(PoseFileSource.Options(path=make_pose_clip(frames=4, fps=20))))
    assert [f.time_s for f in frames] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert frames[0].image.shape == (240, 320, 3) and frames[0].image.max() < 60
    assert frames[3].pose.points[RIGHT_WRIST, 1] < frames[0].pose.points[RIGHT_WRIST, 1]


def test_every_shared_pose_file_is_read():
    paths = sorted(shared("poses").glob("*.pose"))
    assert len(paths) > 30
    for path in paths:
        poses = read_pose_file(path)
        points = np.stack([pose.points for pose in poses])
        seen = np.stack([pose.confidence for pose in poses]) > 0
        assert (np.isfinite(points).all(axis=2) == seen).all(), path.name
        wrists = points[:, [LEFT_HAND.start, RIGHT_HAND.start], 2]
        assert np.nanmax(np.abs(wrists)) < 1, f"{path.name}: a hand's depth counts from its wrist"
        face = points[:, FACE, 2]
        width = np.nanmax(points[:, FACE, 0], 1) - np.nanmin(points[:, FACE, 0], 1)
        assert np.nanmax(np.abs(face)) < 2 * np.nanmax(width), f"{path.name}: depth in pixels"


def test_reduced_layout_is_mapped_by_name():
    pose = read_pose_file(shared("poses/sgg-essen.pose"))[10]
    seen = pose.confidence > 0
    assert seen[BODY].sum() == 8 and seen[11] and seen[24] and not seen[0]
    assert seen[FACE].sum() == 128
    assert pose.points[11, 0] > pose.points[12, 0], "the signer's left shoulder is at the picture's right"
    assert np.isnan(pose.world).all()


def test_two_people_give_the_first():
    names = ("poses/ase-thanks-15fps.pose", "odd/two-people.pose")
    one, two = (read_pose_file(shared(name)) for name in names)
    np.testing.assert_array_equal(one[3].points, two[3].points)


def test_at_its_own_pace_frames_come_when_they_are_due(make_clip):
    path = make_clip(times_s=[0, 0.1, 0.15, 0.35])
    with opened(video(path, own_pace=True)) as source:
        came = [(source.read().time_s, time.monotonic()) for _ in range(4)]
    assert source.live and not video(path).live
    times_s, arrived_s = np.array(came).T
    assert times_s - times_s[0] == pytest.approx([0, 0.1, 0.15, 0.35], abs=1e-3)
    assert (arrived_s >= times_s).all(), "never before it is due"


def test_a_clip_that_fell_behind_goes_on_from_now(make_clip):
    with opened(video(make_clip(times_s=np.arange(5) / 50), own_pace=True)) as source:
        source.read()
        time.sleep(0.7)
        assert time.monotonic() - source.read().time_s < 0.3


def test_a_clip_that_waits_for_minutes_can_be_ended(make_clip):
    with opened(video(make_clip(times_s=[0, 300]), own_pace=True)) as source:
        source.read()
        ending = threading.Timer(0.2, source.stop)
        ending.start()
        with pytest.raises(EndOfStream):
            source.read()
    ending.join()


def test_a_loop_begins_anew_with_times_and_numbers_that_go_on(make_clip):
    with opened(video(make_clip(times_s=[0, 0.04, 0.08]), loop=True)) as source:
        frames = [source.read() for _ in range(8)]
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(8) * 0.04, abs=1e-3)
    assert np.abs(frames[4].image.astype(int) - frames[1].image).max() < 10, "the same pictures again"


def test_the_synthetic_source_moves_and_keeps_its_pace():
    still = SyntheticSource(SyntheticSource.Options(live=False, frames=30, width=320, height=240))
    frames = read_all(still)
    assert len(frames) == 30 and frames[0].time_s == 0 and frames[29].time_s == pytest.approx(29 / 25)
    assert frames[0].pose.points[RIGHT_WRIST, 1] - frames[25].pose.points[RIGHT_WRIST, 1] > 30
    assert frames[0].pose.points[LEFT_SHOULDER, 0] > frames[0].pose.points[RIGHT_SHOULDER, 0]
    assert (frames[0].image != frames[1].image).any()
    live = SyntheticSource(SyntheticSource.Options(fps=100, frames=5))
    begun_s = time.monotonic()
    frames = read_all(live)
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(0.04) and frames[0].time_s >= begun_s


def webcam(*cameras, **options):
    """A source whose camera is each of these in turn, each time it is opened."""
    left = list(cameras)
    take = lambda index: left.pop(0) if left else Camera([], opens=False)  # noqa: E731
    return WebcamSource(WebcamSource.Options(**options), capture=take)


def test_a_camera_is_asked_for_its_mode_and_what_it_gives_is_told(caplog):
    camera = Camera([picture()] * 4, mode=(64, 48, 15.0))
    source = webcam(camera, width=64, height=48, fps=30)
    with opened(source):
        assert camera.asked[cv2.CAP_PROP_FRAME_WIDTH] == 64 and camera.asked[cv2.CAP_PROP_FPS] == 30
        assert camera.asked[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter_fourcc(*"MJPG")
        assert source.mode == (64, 48, 15.0) and "64x48 at 15 fps, not the 64x48 at 30" in caplog.text
        before_s = time.monotonic()
        frames = [source.read(), source.read()]
    assert camera.released and [frame.index for frame in frames] == [0, 1]
    assert before_s <= frames[0].time_s <= frames[1].time_s <= time.monotonic()
    assert tuple(frames[0].image[0, 0]) == (0, 0, 200) and frames[0].image.flags.c_contiguous, "RGB"


def test_a_mirrored_camera_is_turned_back():
    source = webcam(Camera([picture()] * 3), flip=True)
    source.open()
    image = source.read().image
    assert tuple(image[0, 0]) == (0, 0, 0) and tuple(image[0, -1]) == (0, 0, 200)


def test_no_camera_is_told_with_what_is_there():
    with pytest.raises(SourceError, match="cannot open camera 5.*camera"):
        webcam(index=5).open()
    with pytest.raises(SourceError, match="no pictures"):
        webcam(Camera([])).open()


def test_an_unplugged_camera_comes_back(monkeypatch, caplog):
    monkeypatch.setattr("avatar_stream.sources.webcam._RETRY_S", 0.01)
    error = cv2.error("gone")
    first, second = Camera([picture(), picture(), error]), Camera([picture(90)] * 3)
    source = webcam(first, Camera([], opens=False), Camera([], opens=False), second)
    source.open()
    before, told = source.read(), []
    grab = source._connect
    monkeypatch.setattr(source, "_connect", lambda: told.append(source.notice) or grab())
    after = source.read()
    assert after.image[0, 0, 2] == 90 and after.index == before.index + 1 and after.time_s > before.time_s
    assert first.released and len(told) == 3 and all("gone" in notice for notice in told)
    assert source.notice == "" and sum("gone" in r.getMessage() for r in caplog.records) == 1


def test_a_camera_that_comes_back_may_need_a_moment(monkeypatch):
    monkeypatch.setattr("avatar_stream.sources.webcam._RETRY_S", 0.01)
    second = Camera([None, None, picture(90)])
    source = webcam(Camera([picture()] * 2), second)
    source.open()
    source.read()
    assert source.read().image[0, 0, 2] == 90 and not second.released


def test_one_bad_frame_is_no_unplugged_camera(caplog):
    pictures = [picture(), picture(), np.empty((0, 0, 3), np.uint8), None, picture(70)]
    source = webcam(Camera(pictures), width=64, height=48)
    source.open()
    source.read()
    assert source.read().image[0, 0, 2] == 70 and not caplog.records


def test_waiting_for_a_camera_can_be_ended():
    with opened(webcam(Camera([picture()]))) as source, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(source.read)
        source.stop()
        with pytest.raises(EndOfStream):
            reading.result(10)


def test_a_camera_may_change_its_size_and_be_huge_or_grey(caplog):
    huge, grey = picture(size=(5000, 2500)), np.full((48, 64), 90, np.uint8)
    source = webcam(Camera([picture(), picture(), huge, grey]), width=64, height=48)
    source.open()
    sizes = [source.read().image.shape for _ in range(3)]
    assert sizes == [(48, 64, 3), (960, 1920, 3), (48, 64, 3)] and "1920x960" not in sizes
    assert sum("picture is" in record.getMessage() for record in caplog.records) == 2
