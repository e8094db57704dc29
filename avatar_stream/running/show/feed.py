"""What FFmpeg or a camera gives of a programme: pictures and sound, each at its media time, in the order they come."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import urlsplit

import av
import numpy as np

from avatar_stream.errors import EndOfStream, SourceError
from avatar_stream.images.fitting import fit, fitted_size
from avatar_stream.running.show.options import ShowOptions
from avatar_stream.running.show.relay import Relay, open_relay
from avatar_stream.sources._decoding import decode, pixel_shape_of, reason
from avatar_stream.sources.webcam import WebcamSource
from avatar_stream.types import SOUND_RATE, Sound

logger = logging.getLogger(__name__)

_OPEN_S, _SILENT_S = 5.0, 2.5  # an address that gives nothing for so long is tried again
_PLAYLISTS, _SILENT_PLAYLIST_S = ("hls", "dash"), 8.0  # their pieces are seconds long
_MOST_PACKETS = 8000  # a minute and more: players begin some pieces before the end of a playlist
_LARGEST_SIDE_PX = 1920
_USUAL_FPS = 25.0
_SLOWEST_FPS, _FASTEST_FPS = 5.0, 120.0  # some streams claim 1000
_HD_ROWS = 720  # pictures of so many rows that do not say their colour matrix follow ITU-R BT.709


@dataclass(frozen=True)
class ProgrammePicture:
    """One picture of a programme.

    Attributes:
        content: as decoded, or (H, W, 3) uint8 RGB of a camera.
        time_s: when it is to be seen: media time, or its capture on the monotonic clock.
        pixel_shape: how much wider than high its pixels are to be shown.
        came_s: live, when it was here, `time.monotonic()`.
    """

    content: av.VideoFrame | np.ndarray
    time_s: float
    pixel_shape: float = 1.0
    came_s: float = 0.0


class Feed:
    """One opening of a file or an address. What it is like is known once it is open.

    Attributes:
        size: (width, height) of its upright picture with square pixels, px.
        fps: pictures a second, as far as it says.
        has_sound: there is sound that can be decoded.
        in_pieces: an address that gives seconds at once, or a whole file: when a part arrives says nothing of when it
            happened.
    """

    def __init__(self, options: ShowOptions, memory: PacketMemory | None = None):
        """Store the options; `memory`: of the packets that earlier openings of the same address gave."""
        self._options, self._name, self._memory = options, options.name, memory or PacketMemory()
        self._relay: Relay | None = None
        self._container: av.container.InputContainer | None = None
        self._stopped = False
        self._resampler: av.AudioResampler | None = None
        self._ended_s = 0.0

    def open(self) -> None:
        """Open it.

        Raises:
            SourceError: it cannot be opened, or has no picture.
        """
        options = self._options
        try:
            self._container = self._connect(str(options.source), options.path is None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"no programme from {self._name}: {_reason(error)}") from error
        # A stream whose decoder FFmpeg lacks has no context.
        videos = [stream for stream in self._container.streams.video if stream.codec_context is not None]
        if not videos:
            self.close()
            raise SourceError(
                f"{self._name} has no picture that can be decoded: give a programme that shows something"
            )
        self._video = videos[0]
        sounds = self._container.streams.audio if options.sound else ()
        self._is_playlist = self._container.format.name in _PLAYLISTS
        whole = (self._container.duration or 0) > 0
        self.in_pieces = options.path is None and (self._is_playlist or whole)
        self._audio = next((stream for stream in sounds if stream.codec_context is not None), None)
        self.has_sound = self._audio is not None
        rate = float(self._video.average_rate or self._video.guessed_rate or _USUAL_FPS)
        self.fps = rate if _SLOWEST_FPS <= rate <= _FASTEST_FPS else _USUAL_FPS
        self._pixel_shape = pixel_shape_of(self._video)
        self.size = round(self._video.codec_context.width * self._pixel_shape), self._video.height
        start = self._video.start_time
        # Media time 0 is the first picture, as it is for a signer's clip.
        self._start_s = float(start * self._video.time_base) if start is not None else None

    def __iter__(self) -> Iterator[ProgrammePicture | Sound]:
        """Yield what comes; ends with the file, or where the connection is lost."""
        streams = [stream for stream in (self._video, self._audio) if stream is not None]
        for packet, frames in decode(self._container, streams, lambda _: None, self._note_end):
            if self._is_playlist and not self._memory.add((packet.stream_index, packet.pts, packet.size)):
                continue  # decoded all the same: what comes next builds on it
            for frame in frames:
                yield from self._convert(frame)

    def _note_end(self, error: Exception) -> None:
        logger.info("the programme %s ended: %s", self._name, _reason(error))

    def stop(self) -> None:
        """Let whoever opens or reads it come to an end soon; from any thread."""
        self._stopped = True
        if self._relay is not None:
            self._relay.stop()

    def close(self) -> None:
        """Give it back. May be called twice."""
        if self._container is not None:
            self._container.close()
        if self._relay is not None:
            self._relay.close()

    def _connect(self, address: str, live: bool) -> av.container.InputContainer:
        if not live:
            return av.open(address)
        self._relay = open_relay(address)
        if self._relay is not None:
            if self._stopped:
                self._relay.stop()
            return self._relay.open()
        silent_s = _SILENT_PLAYLIST_S if _is_playlist(address) else _SILENT_S
        return av.open(address, timeout=(_OPEN_S, silent_s), options=_live_settings(address))

    def _convert(self, frame: av.VideoFrame | av.AudioFrame) -> Iterator[ProgrammePicture | Sound]:
        if isinstance(frame, av.AudioFrame):
            yield from self._resample(frame)
            return
        time_s = self._ended_s if frame.pts is None else self._media_s(frame.pts, frame.time_base)
        self._ended_s = time_s + 1 / self.fps
        yield ProgrammePicture(_at_most(frame, _LARGEST_SIDE_PX), time_s, self._pixel_shape)

    def _resample(self, frame: av.AudioFrame) -> Iterator[Sound]:
        if frame.pts is None:
            return
        for _ in range(2):
            if self._resampler is None:
                self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=SOUND_RATE)
            try:
                blocks = self._resampler.resample(frame)
                break
            except (ValueError, av.error.FFmpegError):
                self._resampler, blocks = None, []  # the programme changed its kind of sound
        for block in blocks:
            samples = block.to_ndarray().reshape(-1, 2)
            if block.pts is not None and len(samples):
                yield Sound(samples, self._media_s(block.pts, block.time_base))

    def _media_s(self, pts: int, time_base: Fraction) -> float:
        time_s = float(pts * time_base)
        if self._start_s is None:
            self._start_s = time_s
        return time_s - self._start_s


class PacketMemory:
    """Which packets of a playlist were given: opened again, it begins with some of them; never twice on the air."""

    def __init__(self) -> None:
        self._order: deque[tuple] = deque(maxlen=_MOST_PACKETS)
        self._known: set[tuple] = set()

    def add(self, packet: tuple) -> bool:
        """Remember a packet; False where it was given before."""
        if packet in self._known:
            return False
        if len(self._order) == _MOST_PACKETS:
            self._known.discard(self._order[0])
        self._order.append(packet)
        self._known.add(packet)
        return True


class CameraFeed:
    """A camera as a programme: pictures only. Its times are those of the monotonic clock."""

    has_sound = False

    def __init__(self, options: ShowOptions):
        """Store the options."""
        width_px, height_px = (options.width or 1280), (options.height or 720)
        camera, fps = options.camera if options.camera is not None else 0, options.fps or _USUAL_FPS
        mode = WebcamSource.Options(index=camera, width=width_px, height=height_px, fps=fps)
        self.source = WebcamSource(mode)

    def open(self) -> None:
        """Open it; SourceError where there is none."""
        self.source.open()
        width_px, height_px, fps = self.source.mode or (0, 0, 0.0)
        self.size = (width_px, height_px)
        self.fps = fps if 1 < fps <= _FASTEST_FPS else _USUAL_FPS

    def __iter__(self) -> Iterator[ProgrammePicture]:
        """Yield what comes; ends where `source.stop` was called."""
        while True:
            try:
                frame = self.source.read()
            except EndOfStream:
                return
            yield ProgrammePicture(frame.image, frame.time_s)

    def stop(self) -> None:
        """Let a waiting reader end; from any thread."""
        self.source.stop()

    def close(self) -> None:
        """Give it back. May be called twice."""
        self.source.close()


def to_rgb(picture: ProgrammePicture, size: tuple[int, int]) -> np.ndarray:
    """Return a programme's picture whole in a picture of the outgoing size, on black where the shapes differ.

    Args:
        picture: from a feed.
        size: (width, height), px.

    Returns:
        (height, width, 3) uint8 RGB, C-contiguous, fresh.
    """
    content = picture.content
    if isinstance(content, np.ndarray):
        image = fit(content, size)
        return image.copy() if image is content else image
    turns = round((content.rotation or 0) / 90) % 4
    shown = (round(content.width * picture.pixel_shape), content.height)
    fitted = fitted_size(shown[::-1] if turns % 2 else shown, size)
    width_px, height_px = fitted[::-1] if turns % 2 else fitted
    unsaid = content.colorspace not in (1, 5, 6, 7, 9)
    matrix = "itu709" if unsaid and content.height >= _HD_ROWS else None
    small = content.reformat(width=width_px, height=height_px, format="rgb24", src_colorspace=matrix)
    return fit(np.rot90(small.to_ndarray(), turns), size)


def _at_most(frame: av.VideoFrame, side_px: int) -> av.VideoFrame:
    # Two seconds of pictures wait in memory.
    scale = side_px / max(frame.width, frame.height)
    if scale >= 1:
        return frame
    width_px, height_px = 2 * round(frame.width * scale / 2), 2 * round(frame.height * scale / 2)
    return frame.reformat(width=width_px, height=height_px)


def _live_settings(address: str) -> dict[str, str]:
    # A live programme is to be seen at once: FFmpeg looks at 5 s of it by default before it gives anything.
    settings = {"fflags": "nobuffer", "analyzeduration": "1000000", "probesize": "500000"}
    if address.startswith("rtsp"):
        settings["rtsp_transport"] = "tcp"
    if _is_playlist(address):
        settings["rw_timeout"] = str(round(1e6 * _OPEN_S))
    return settings


def _is_playlist(address: str) -> bool:
    return urlsplit(address).path.endswith(".m3u8")


def _reason(error: Exception) -> str:
    # FFmpeg has other words for our own time limit.
    return "no answer" if isinstance(error, av.error.ExitError) else reason(error)
