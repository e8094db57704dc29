"""Clips and pose files: true times, upright pictures, and one clear line for what cannot be read."""

import logging

import numpy as np
import pytest
from conftest import SHARED

from avatar_stream.errors import EndOfStream, SinkError, SourceError
from avatar_stream.sources.pose_file import PoseFileSource, read_pose_file, write_pose_file
from avatar_stream.sources.video_file import VideoFileSource
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
    source.open()
    frames = []
    try:
        while True:
            frames.append(source.read())
    except EndOfStream:
        return frames
    finally:
        source.close()
        source.close()


def video(path):
    return VideoFileSource(VideoFileSource.Options(path=path))


def shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip("the shared data are not here")
    return path


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
    tracker = HolisticTracker()
    tracker.open()
    points = [pose.points for pose in map(tracker.track, frames[:4]) if pose is not None][-1]
    tracker.close()
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
    one, two = (
        read_pose_file(shared("poses/ase-thanks-15fps.pose")),
        read_pose_file(shared("odd/two-people.pose")),
    )
    np.testing.assert_array_equal(one[3].points, two[3].points)


@pytest.mark.parametrize(
    "name, words",
    [
        ("fps-zero", "no frame rate"),
        ("zero-frames", "no frames"),
        ("openpose-layout", "another layout"),
        ("truncated", "not a complete"),
        ("truncated-header", "not a complete"),
        ("text-file", "not a complete"),
        ("empty", "not a complete"),
    ],
)
def test_bad_pose_files_are_told_in_one_line(name, words):
    with pytest.raises(SourceError, match=words) as caught:
        read_pose_file(shared(f"odd/{name}.pose"))
    assert "\n" not in str(caught.value)
