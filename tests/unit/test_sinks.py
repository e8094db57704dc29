"""Videos and picture folders: true times, the same bytes twice, nothing half under the final name."""

import dataclasses
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image
from support.stages import opened

from avatar_stream.errors import SinkError
from avatar_stream.sinks.picture_folder import PictureFolderSink
from avatar_stream.sinks.pose_file import PoseFileSink
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.types import RIGHT_WRIST, Frame

TIMES_S = [0, 0.1, 0.1333, 0.25, 0.5, 0.52]


def frames(size=(96, 64)):
    for index, time_s in enumerate(TIMES_S):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[:, : 10 * (index + 1)] = (230, 40, 40)
        alpha = np.zeros(image.shape[:2], np.uint8)
        alpha[:, : 10 * (index + 1)] = 255
        yield Frame(image=image, time_s=time_s, index=index, alpha=alpha)


def video(path, **options):
    return VideoFileSink(VideoFileSink.Options(path=path, **options))


def write(path, **options):
    with opened(video(path, **options)) as sink:
        for frame in frames():
            sink.write(frame)
    return path


@pytest.mark.parametrize("name, accuracy", [("a.mp4", 2e-5), ("a.webm", 6e-4)])
def test_times_count_and_colours(tmp_path, watch, name, accuracy):
    times_s, images = watch(write(tmp_path / name))
    assert times_s == pytest.approx(TIMES_S, abs=accuracy)
    assert images[5].shape == (64, 96, 3)
    assert np.abs(images[5][30, 5].astype(int) - (230, 40, 40)).max() < 20 and images[5][30, 80].max() < 20
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_same_bytes_twice(tmp_path, name):
    first = write(tmp_path / name).read_bytes()
    assert write(tmp_path / name).read_bytes() == first


def test_last_frame_lasts_as_long_as_the_one_before(tmp_path):
    with av.open(str(write(tmp_path / "a.mp4"))) as container:
        assert container.duration / av.time_base == pytest.approx(0.54, abs=1e-3)


def test_mp4_index_stands_in_front(tmp_path):
    content = write(tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_webm_keeps_the_matte(tmp_path):
    path = write(tmp_path / "a.webm", transparent=True)
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        decoded = [f for packet in container.demux(video=0) if packet.size for f in decoder.decode(packet)]
    decoded += decoder.decode(None)
    image = decoded[0].to_ndarray(format="rgba")
    assert image[30, 3, 3] > 250 and image[30, 80, 3] < 5


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("a.avi", {}, "must end with"),
        ("none/a.mp4", {}, "no folder"),
        ("a.mp4", {"transparent": True}, "transparent"),
    ],
)
def test_impossible_outputs_are_refused(tmp_path, name, options, words):
    with pytest.raises(SinkError, match=words):
        video(tmp_path / name, **options).open()
    assert not list(tmp_path.iterdir())


def test_discard_keeps_what_was_there_before(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older video")
    with opened(video(path)) as sink:
        sink.write(next(frames()))
        sink.discard()
    assert path.read_bytes() == b"an older video" and len(list(tmp_path.iterdir())) == 1


def test_no_frame_leaves_no_file(tmp_path):
    for kind, name in ((VideoFileSink, "a.mp4"), (PictureFolderSink, "a")):
        with opened(kind(kind.Options(path=tmp_path / name))):
            pass
    assert not list(tmp_path.iterdir())


def test_a_picture_of_another_size_is_refused(tmp_path):
    with opened(video(tmp_path / "a.mp4")) as sink:
        sink.write(next(frames()))
        with pytest.raises(SinkError, match="size"):
            sink.write(next(frames(size=(32, 32))))
        sink.discard()


def test_picture_folder(tmp_path):
    sink = PictureFolderSink(PictureFolderSink.Options(path=tmp_path / "a", transparent=True))
    sink.open()
    for frame in frames():
        sink.write(frame)
    assert not (tmp_path / "a").exists(), "complete or not there"
    sink.close()
    assert len(list((tmp_path / "a").glob("*.png"))) == len(TIMES_S)
    picture = np.array(Image.open(tmp_path / "a" / "frame_000000.png"))
    assert tuple(picture[3, 3]) == (230, 40, 40, 255) and picture[3, 50, 3] == 0
    with pytest.raises(SinkError, match="exists"):
        sink.open()


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_that_has_no_name_of_its_own_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    sink = PictureFolderSink(PictureFolderSink.Options(path=path))
    with pytest.raises(SinkError, match="give a new folder"):
        sink.open()
    assert not list(tmp_path.iterdir())


def test_live_times_count_from_the_first_frame(tmp_path, watch):
    with opened(video(tmp_path / "a.mp4", from_zero=True)) as sink:
        for frame in frames():
            sink.write(dataclasses.replace(frame, time_s=frame.time_s + 54_321.5))
    assert watch(tmp_path / "a.mp4")[0] == pytest.approx(TIMES_S, abs=2e-5)


@pytest.fixture
def small_disk(tmp_path):
    """A folder with 10 MB of room, 8 of which are the reserve's."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform.startswith("linux") and shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(folder)]
    if not mounted or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(seed, count, size=(320, 240)):
    random = np.random.default_rng(seed)
    for index in range(count):
        image = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        yield Frame(image=image, time_s=index / 25, index=index)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_a_full_disk_keeps_what_was_written(small_disk, watch, name):
    (small_disk / "filler").write_bytes(bytes(2**20))
    sink = video(small_disk / name)
    sink.open()
    written = 0
    with pytest.raises(SinkError, match="disk is full.*plays"):
        for frame in noise(1, 400):
            sink.write(frame)
            written += 1
    sink.discard()  # what a pipeline does after any error
    assert {path.name for path in small_disk.iterdir()} == {name, "filler"}
    times_s, images = watch(small_disk / name)
    assert 5 < written <= len(times_s) <= written + 1
    assert times_s == pytest.approx([k / 25 for k in range(len(times_s))], abs=1e-3)


def test_a_disk_full_from_the_start_is_told_at_once(small_disk):
    (small_disk / "filler").write_bytes(bytes(9 * 2**20))
    with pytest.raises(SinkError, match="free space"):
        video(small_disk / "a.mp4").open()
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_pictures_before_a_full_disk_are_kept(small_disk):
    sink = PictureFolderSink(PictureFolderSink.Options(path=small_disk / "a"))
    sink.open()
    with pytest.raises(SinkError, match="pictures before it are kept"):
        for frame in noise(2, 100):
            sink.write(frame)
    sink.discard()
    pictures = sorted((small_disk / "a").glob("*.png"))
    assert 20 < len(pictures) < 100
    assert all(Image.open(path).convert("RGB").size == (320, 240) for path in pictures)


def test_pictures_whose_folder_was_filled_meanwhile_are_kept(tmp_path):
    (tmp_path / "a").mkdir()
    sink = PictureFolderSink(PictureFolderSink.Options(path=tmp_path / "a"))
    sink.open()
    for frame in frames():
        sink.write(frame)
    (tmp_path / "a" / "of-somebody-else.txt").write_text("here first")
    with pytest.raises(SinkError, match=f"the {len(TIMES_S)} pictures are in") as caught:
        sink.close()
    (part,) = [path for path in tmp_path.iterdir() if path.name != "a"]
    assert len(list(part.glob("*.png"))) == len(TIMES_S) and str(part) in str(caught.value)
    assert (tmp_path / "a" / "of-somebody-else.txt").read_text() == "here first"


def test_a_video_whose_name_was_taken_meanwhile_is_kept(tmp_path):
    sink = video(tmp_path / "a.mp4")
    sink.open()
    for frame in frames():
        sink.write(frame)
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(SinkError, match="the recording is") as caught:
        sink.close()
    (part,) = [path for path in tmp_path.iterdir() if path.name != "a.mp4"]
    assert str(part) in str(caught.value)
    with av.open(str(part), format="mp4") as container:
        assert len(list(container.decode(video=0))) == len(TIMES_S)


def test_a_folder_that_vanishes_is_told(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    sink = video(folder / "a.mp4")
    sink.open()
    sink.write(next(frames()))
    shutil.rmtree(folder)
    with pytest.raises(SinkError, match="a.mp4"):
        sink.close()


def write_poses(path, times_s, poses, **options):
    image = np.zeros((8, 8, 3), np.uint8)
    with opened(PoseFileSink(PoseFileSink.Options(path=path, **options))) as sink:
        for index, (time_s, pose) in enumerate(zip(times_s, poses, strict=True)):
            sink.write(Frame(image=image, time_s=time_s, index=index, pose=pose))


def test_pose_file_keeps_the_true_pace(tmp_path, upright_pose):
    """Camera times with jitter and dropped frames: the wrist is where it was at that moment."""
    random = np.random.default_rng(5)
    times_s = 812.0 + np.arange(100) / 25 + random.uniform(-0.008, 0.008, 100)
    kept = np.r_[0:30, 31:50, 52:100]
    poses = [upright_pose((320, 240), time_s, lift=(time_s - 812) / 4) for time_s in times_s[kept]]
    write_poses(tmp_path / "a.pose", times_s[kept], poses)
    read = read_pose_file(tmp_path / "a.pose")
    assert read[1].time_s == pytest.approx(0.04, rel=0.03) and len(read) == pytest.approx(100, abs=3)
    wrists = np.array([pose.points[RIGHT_WRIST, 1] for pose in read])
    at_s = np.array([pose.time_s for pose in read])
    shown = [upright_pose((320, 240), 0, lift=time_s / 4) for time_s in at_s]
    expected = np.array([pose.points[RIGHT_WRIST, 1] for pose in shown])
    per_frame_px = abs(expected[1] - expected[0])
    assert np.abs(wrists - expected).max() < 2.1 * per_frame_px, "two dropped frames are the worst"
    assert np.median(np.abs(wrists - expected)) < 0.5 * per_frame_px
    assert [path.name for path in tmp_path.iterdir()] == ["a.pose"]


def test_pose_file_tells_who_is_not_there(tmp_path, upright_pose):
    times_s = [0, 0.1, 0.2, 1.2, 1.3, 1.4]
    poses = [upright_pose((320, 240))] * 5 + [None]
    write_poses(tmp_path / "a.pose", times_s, poses, fps=10)
    seen = [bool((pose.confidence > 0).any()) for pose in read_pose_file(tmp_path / "a.pose")]
    assert seen == [True] * 5 + [False] * 7 + [True, True, False]


def test_pose_file_goes_on_at_another_resolution(tmp_path, upright_pose):
    poses = [upright_pose((320, 240)), upright_pose((640, 480))]
    write_poses(tmp_path / "a.pose", [0, 0.04], poses)
    first, second = read_pose_file(tmp_path / "a.pose")
    assert second.size == (320, 240) and np.allclose(first.points, second.points, atol=1e-3, equal_nan=True)
    assert np.allclose(first.world, second.world, atol=1e-5)


def test_pose_file_without_anybody_is_not_written(tmp_path):
    write_poses(tmp_path / "a.pose", [0, 0.04], [None, None])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_leaves_no_half_pose_file(small_disk, upright_pose):
    (small_disk / "filler").write_bytes(bytes(9 * 2**20 + 2**19))
    with pytest.raises(SinkError, match="cannot write.*a.pose"):
        write_poses(small_disk / "a.pose", np.arange(400) / 25, [upright_pose((320, 240))] * 400)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
