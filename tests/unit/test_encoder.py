"""Encoders: what goes in comes out at once, in the form that networks want."""

import av
import numpy as np
import pytest

from avatar_stream.broadcast.outgoing.encoder import (
    MOST_BLOCKS,
    MOST_OVERLAY_BLOCKS,
    TICKS_PER_S,
    Encoder,
    as_yuv,
    half_size,
    nvenc_works,
    within_blocks,
)
from avatar_stream.broadcast.settings import EncodingOptions
from avatar_stream.types import PICTURE_SIDES_PX

STEP = TICKS_PER_S // 25


def moving(index, size=(192, 160)):
    """(H, W, 3) uint8 RGB: a red square that wanders over a soft picture."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 1] = np.linspace(40, 200, width)[None]
    image[..., 2] = np.linspace(200, 60, height)[:, None]
    left = 8 * index % (width - 32)
    image[height // 4 : height // 4 + 32, left : left + 32] = (220, 30, 30)
    return image


def encoded(encoder, count, start=0, size=(192, 160), keyframes=()):
    found = []
    for index in range(start, start + count):
        done = encoder.encode(moving(index, size), index * STEP, index in keyframes)
        assert len(done) == 1 and done[0].pts == index * STEP, "no picture waits for another"
        found += done
    return found


def decoded(codec, pictures):
    decoder = av.CodecContext.create(codec, "r")
    frames = [frame for each in pictures for frame in decoder.decode(av.Packet(each.data))]
    return frames + decoder.decode(None)


def units(data):
    """Types of an access unit's NAL units."""
    parts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part[0] & 31 for part in parts[1:]]


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_every_picture_comes_out_at_once_and_true(codec):
    encoder = Encoder(codec, EncodingOptions())
    frames = decoded(codec, encoded(encoder, 12))
    assert len(frames) == 12
    for index, frame in enumerate(frames):
        error = frame.to_ndarray(format="rgb24").astype(float) - moving(index)
        assert np.abs(error).mean() < 6, "colours and place"


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_keyframes_when_asked_and_at_the_interval(codec):
    encoder = Encoder(codec, EncodingOptions(keyframe_interval_s=0.4))
    found = encoded(encoder, 26, keyframes={4})
    assert [index for index, each in enumerate(found) if each.keyframe] == [0, 4, 14, 24]
    # Each can be decoded without those before it.
    frames = decoded(codec, found[14:])
    error = frames[0].to_ndarray(format="rgb24").astype(float) - moving(14)
    assert len(frames) == 12 and np.abs(error).mean() < 6


def test_h264_is_what_every_player_takes():
    encoder = Encoder("h264", EncodingOptions(keyframe_interval_s=0.2))
    found = encoded(encoder, 12, size=(1280, 720))
    sequence, picture, whole, part = 7, 8, 5, 1
    for each in found:
        kinds = set(units(each.data))
        wanted = {sequence, picture, whole} if each.keyframe else {part}
        assert kinds >= wanted, "parameters before keyframes"
        assert (sequence in kinds) == each.keyframe
    head = found[0].data.index(b"\0\0\1\x67") + 4
    profile, constraints, level = found[0].data[head : head + 3]
    assert profile == 66 and constraints & 0x40, "constrained baseline"
    assert level <= 31, "as aiortc's answers say"
    frame = decoded("h264", found)[0]
    assert (frame.colorspace, frame.color_range) == (6, 1), "BT.601, limited: said, not left to guess"


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_another_size_begins_anew(codec):
    encoder = Encoder(codec, EncodingOptions())
    found = encoded(encoder, 3) + encoded(encoder, 3, start=3, size=(128, 64))
    assert [each.keyframe for each in found] == [True, False, False, True, False, False]
    assert [(each.width, each.height) for each in found] == [(192, 160)] * 3 + [(128, 64)] * 3
    encoder.close()
    encoder.close()
    assert encoded(encoder, 1, start=6)[0].keyframe, "opened again"


def test_bitrate_is_a_bound_and_no_duty():
    generator = np.random.default_rng(3)
    noise = [generator.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(40)]

    def rate_kbps(pictures):
        encoder = Encoder("h264", EncodingOptions(bitrate_kbps=800))
        sizes = [len(encoder.encode(image, k * STEP)[0].data) for k, image in enumerate(pictures)]
        return 8 * sum(sizes[5:]) / len(sizes[5:]) * 25 / 1000

    assert rate_kbps(noise) < 1000
    assert rate_kbps([moving(0, (320, 240))] * 40) < 100, "what stands still costs next to nothing"


def test_time_must_go_forward():
    encoder = Encoder("h264", EncodingOptions())
    encoder.encode(moving(0), 10)
    with pytest.raises(ValueError, match="pts 10"):
        encoder.encode(moving(1), 10)


def test_a_picture_as_video():
    flat = np.full((51, 63, 3), (200, 40, 40), np.uint8)
    frame = as_yuv(flat)
    assert (frame.width, frame.height, frame.format.name) == (62, 50, "yuv420p")
    assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - (200, 40, 40)).max() <= 3
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, 1::2] = (255, 0, 0)
    reds = as_yuv(stripes).to_ndarray()[20:24]  # Cr
    assert np.abs(reds.astype(int) - 184).max() <= 1, "the mean of neighbours, not one of them"


def test_a_video_frame_is_taken_as_it_is():
    encoder = Encoder("h264", EncodingOptions())
    done = encoder.encode(as_yuv(moving(0)), 0)
    assert done[0].keyframe and len(decoded("h264", done)) == 1


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (4000, 300)])
def test_large_pictures_are_made_smaller(size):
    smaller = within_blocks(moving(0, size))
    height, width = smaller.shape[:2]
    assert -(-width // 16) * -(-height // 16) <= MOST_BLOCKS
    assert width / height == pytest.approx(size[0] / size[1], rel=0.12)


@pytest.mark.parametrize("side_px", PICTURE_SIDES_PX)
def test_avatars_and_overlays_of_all_sizes_are_sent_as_they_are(side_px):
    """One thread, so without slices; and the picture comes back as large as it was."""
    picture, overlay = moving(0, (side_px, side_px)), moving(0, (side_px, 2 * side_px))
    assert within_blocks(picture) is picture
    assert within_blocks(overlay, MOST_OVERLAY_BLOCKS) is overlay
    for codec in ("h264", "vp8"):
        encoder = Encoder(codec, EncodingOptions())
        (shown,) = decoded(codec, encoder.encode(overlay, 0))
        assert (shown.width, shown.height) == (side_px, 2 * side_px)
        error = shown.to_ndarray(format="rgb24").astype(int) - overlay
        assert np.abs(error).mean() < 6
        assert encoder._context.thread_count == 1


def test_half_size():
    assert half_size(moving(0, (64, 40))).shape == (20, 32, 3)


def test_the_graphics_card_is_used_only_where_it_encodes():
    encoder = Encoder("h264", EncodingOptions())
    encoder.encode(moving(0), 0)
    assert encoder.name == ("h264_nvenc" if nvenc_works() else "libx264")
