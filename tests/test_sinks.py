"""Videos and picture folders: true times, the same bytes twice, nothing half under the final name."""

import av
import numpy as np
import pytest
from PIL import Image

from avatar_stream.errors import SinkError
from avatar_stream.sinks.picture_folder import PictureFolderSink
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.types import Frame

TIMES_S = [0, 0.1, 0.1333, 0.25, 0.5, 0.52]


def frames(size=(96, 64)):
    for index, time_s in enumerate(TIMES_S):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[:, : 10 * (index + 1)] = (230, 40, 40)
        alpha = np.zeros(image.shape[:2], np.uint8)
        alpha[:, : 10 * (index + 1)] = 255
        yield Frame(image=image, time_s=time_s, index=index, alpha=alpha)


def write(path, **options):
    sink = VideoFileSink(VideoFileSink.Options(path=path, **options))
    sink.open()
    for frame in frames():
        sink.write(frame)
    sink.close()
    sink.close()
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
    sink = VideoFileSink(VideoFileSink.Options(path=tmp_path / name, **options))
    with pytest.raises(SinkError, match=words):
        sink.open()
    assert not list(tmp_path.iterdir())


def test_discard_keeps_what_was_there_before(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older video")
    sink = VideoFileSink(VideoFileSink.Options(path=path))
    sink.open()
    sink.write(next(frames()))
    sink.discard()
    sink.close()
    assert path.read_bytes() == b"an older video" and len(list(tmp_path.iterdir())) == 1


def test_no_frame_leaves_no_file(tmp_path):
    for sink in (
        VideoFileSink(VideoFileSink.Options(path=tmp_path / "a.mp4")),
        PictureFolderSink(PictureFolderSink.Options(path=tmp_path / "a")),
    ):
        sink.open()
        sink.close()
    assert not list(tmp_path.iterdir())


def test_a_picture_of_another_size_is_refused(tmp_path):
    sink = VideoFileSink(VideoFileSink.Options(path=tmp_path / "a.mp4"))
    sink.open()
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
