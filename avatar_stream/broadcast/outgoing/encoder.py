"""Pictures to H.264 or VP8, one at a time and without delay: what goes in comes out at once."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from avatar_stream.broadcast.settings import Codec, EncodingOptions
from avatar_stream.types import TICKS_PER_S

logger = logging.getLogger(__name__)

TIME_BASE = Fraction(1, TICKS_PER_S)
# What encoders reckon with; the true times are those of the pictures.
_NOMINAL_FPS = 30
# One thread cuts no picture into slices, which cost quality, and waits for no other where processors are busy; the
# overlay of the largest avatar, 1024 x 2048, takes it 17 ms. A larger picture needs more to be ready in time.
_PX_PER_THREAD = 1024 * 2048
_MAX_THREADS = 4
# Blocks of 16 x 16 px of the largest picture: the avatar's, 1024 x 1024. H.264 calls it level 3.2, its overlay level 4
# (ITU-T H.264, table A-1). Chromium names 3.1 in its offers, and decodes these.
MOST_BLOCKS, MOST_OVERLAY_BLOCKS = 4096, 8192
MOST_KBPS = 14_000  # of level 3.1, baseline
# Quality that is enough; the bitrate is a bound, so that still pictures cost little and fast hands get what they need.
_QUALITY_CRF = 20
# A keyframe may be as large as this part of a second's bits: more would come late.
_BUFFER_S = 0.6
# ITU-R BT.601 (2.5.4), limited range: Cb and Cr of red, green, blue, and what is added.
_RGB_TO_CHROMA = np.array(
    [[-0.14822, -0.29099, 0.43922, 128], [0.43922, -0.36779, -0.07143, 128]], np.float32
)


@dataclass(frozen=True)
class Encoded:
    """One picture as a network carries it.

    Attributes:
        data: H.264: one access unit in Annex B, with SPS and PPS before every keyframe (ITU-T H.264, 7.4.1.2.3).
            VP8: one frame (RFC 6386).
        pts: time in ticks of 1/90000 s.
        keyframe: it can be decoded without any before it.
        width: px, even.
        height: px, even.
    """

    data: bytes
    pts: int
    keyframe: bool
    width: int
    height: int


class Encoder:
    """One encoding, on the thread that calls it; opens itself with the first picture.

    Attributes:
        name: FFmpeg's name of the encoder in use, "" before the first picture.
    """

    def __init__(self, codec: Codec, options: EncodingOptions):
        """Store what is wanted.

        Args:
            codec: `h264` or `vp8`; `options.codec` is for those who choose between them.
            options: bitrate and keyframe interval.
        """
        self._codec, self._options = codec, options
        self._context: VideoCodecContext | None = None
        self._last_pts = self._keyframe_pts = -1
        self._hardware_failed = False
        self.name = ""

    def encode(self, picture: np.ndarray | av.VideoFrame, pts: int, keyframe: bool = False) -> list[Encoded]:
        """Encode one picture.

        Args:
            picture: (H, W, 3) uint8 RGB, or a yuv420p frame with even sides. Odd sides lose a row or column. Another
                size than the last one's begins anew with a keyframe.
            pts: ticks of 1/90000 s, above the last one's.
            keyframe: make it one, whatever the interval says.

        Returns:
            The encoded picture; a list, for FFmpeg's encoders may in principle give none or several.

        Raises:
            ValueError: `pts` is not above the last one's.
            FFmpegError: the encoder failed.
        """
        if pts <= self._last_pts:
            raise ValueError(f"pts {pts} is not above the last one's, {self._last_pts}")
        frame = picture if isinstance(picture, av.VideoFrame) else as_yuv(picture)
        try:
            return self._encode(frame, pts, keyframe)
        except FFmpegError:
            if not self.name.endswith("_nvenc"):
                raise
            logger.warning(
                "the graphics card's encoder failed: the processor encodes from here on", exc_info=True
            )
            self._hardware_failed = True
            self.close()
            return self._encode(frame, pts, keyframe)

    def close(self) -> None:
        """Give the encoder back; the next picture opens it again. May be called twice."""
        self._context = None

    def _encode(self, frame: av.VideoFrame, pts: int, keyframe: bool) -> list[Encoded]:
        size, context = (frame.width, frame.height), self._context
        if context is None or (context.width, context.height) != size:
            context, keyframe = self._open(*size), True
        interval = self._options.keyframe_interval_s * TICKS_PER_S
        keyframe = keyframe or pts - self._keyframe_pts >= interval
        frame.pts, frame.time_base = pts, TIME_BASE
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = [packet for packet in context.encode(frame) if packet.size]
        self._last_pts = pts
        if any(packet.is_keyframe for packet in packets):
            self._keyframe_pts = pts
        return [Encoded(bytes(packet), packet.pts or 0, packet.is_keyframe, *size) for packet in packets]

    def _open(self, width_px: int, height_px: int) -> VideoCodecContext:
        self.name = "libvpx" if self._codec == "vp8" else "libx264"
        if self._codec == "h264" and not self._hardware_failed and nvenc_works():
            self.name = "h264_nvenc"
        self._context = open_context(self.name, width_px, height_px, self._options.bitrate_kbps)
        return self._context


def as_yuv(image: np.ndarray) -> av.VideoFrame:
    """Return a picture as video: BT.601, limited range, colour at half the resolution.

    Args:
        image: (H, W, 3) uint8 RGB; an odd last row or column is left away, which is better than stretching.
    """
    height, width = (side - side % 2 for side in image.shape[:2])
    image = image[:height, :width]
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    # OpenCV takes every second pixel's colour, which frays coloured edges; the mean of four does not.
    mean = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    colour = cv2.transform(mean, _RGB_TO_CHROMA).transpose(2, 0, 1)
    planes.reshape(-1)[height * width :] = np.ascontiguousarray(colour).reshape(-1)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def half_size(image: np.ndarray) -> np.ndarray:
    """Return (H/2, W/2, 3) uint8 RGB of (H, W, 3): the smaller rung."""
    height, width = image.shape[:2]
    size = (max(2, width // 2), max(2, height // 2))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def within_blocks(image: np.ndarray, most_blocks: int = MOST_BLOCKS) -> np.ndarray:
    """Return a picture of so many macroblocks (16 x 16 px) at most: itself, or a smaller one.

    Args:
        image: (H, W, 3) uint8 RGB.
        most_blocks: by default those of 1024 x 1024 px.
    """
    height, width = image.shape[:2]
    blocks = -(-width // 16) * -(-height // 16)
    if blocks <= most_blocks:
        return image
    scale = (most_blocks / blocks) ** 0.5
    # Down to whole macroblocks, so that rounding cannot lead above the bound again.
    size = tuple(max(16, int(side * scale) // 16 * 16) for side in (width, height))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def open_context(name: str, width_px: int, height_px: int, bitrate_kbps: int) -> VideoCodecContext:
    """Open an encoder of FFmpeg's that gives every picture back at once.

    Args:
        name: `libx264`, `h264_nvenc` or `libvpx`.
        width_px: even.
        height_px: even.
        bitrate_kbps: the most, on average.

    Raises:
        FFmpegError: it does not open.
    """
    context = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = width_px, height_px, "yuv420p"
    context.time_base, context.framerate = TIME_BASE, Fraction(_NOMINAL_FPS)
    context.gop_size = 100_000  # keyframes come when we say so
    context.max_b_frames = 0
    context.thread_count = min(_MAX_THREADS, max(1, -(-width_px * height_px // _PX_PER_THREAD)))
    # Said, not left to guess: players differ in what they take for granted.
    context.color_range, context.colorspace = 1, 6  # limited; SMPTE 170M = BT.601
    context.color_primaries, context.color_trc = 1, 1  # BT.709
    context.options = _options(name, bitrate_kbps)
    context.open()
    return context


_STEADY_OPTIONS = {
    "libx264": f"profile=baseline preset=veryfast tune=zerolatency forced-idr=1 crf={_QUALITY_CRF} sc_threshold=0",
    "h264_nvenc": "profile=baseline preset=p4 tune=ull zerolatency=1 delay=0 bf=0 rc-lookahead=0 forced-idr=1 "
    f"no-scenecut=1 rc=vbr cq={_QUALITY_CRF + 2} b=0",
    "libvpx": "deadline=realtime cpu-used=-6 lag-in-frames=0 qmin=10 qmax=56 undershoot-pct=100 overshoot-pct=15 "
    "static-thresh=1 error-resilient=0",
}


def _options(name: str, bitrate_kbps: int) -> dict[str, str]:
    # VP8 has no quality that is enough: it gets what there is, evenly.
    rate, part = f"{bitrate_kbps}k", 1.0 if name == "libvpx" else _BUFFER_S
    options = dict(option.split("=") for option in _STEADY_OPTIONS[name].split())
    options |= {"maxrate": rate, "bufsize": f"{round(bitrate_kbps * part)}k"}
    return options | ({"b": rate, "minrate": rate} if name == "libvpx" else {})


@functools.cache
def nvenc_works() -> bool:
    """Whether this machine's graphics card encodes H.264: tried out, for drivers promise more than they hold."""
    if "h264_nvenc" not in av.codecs_available:
        return False
    # FFmpeg tells on stderr what is missing; to most people it is not.
    level = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    try:
        context = open_context("h264_nvenc", 256, 256, 1000)
        for index in range(3):
            frame = as_yuv(np.full((256, 256, 3), 60 + 60 * index, np.uint8))
            frame.pts, frame.time_base = index * 3000, TIME_BASE
            if sum(packet.size for packet in context.encode(frame)) == 0:
                return False  # it keeps pictures back: no use live
    except (FFmpegError, OSError, ValueError):
        return False
    finally:
        av.logging.set_level(level)
    return True
