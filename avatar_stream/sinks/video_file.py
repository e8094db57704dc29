"""Videos: H.264 in MP4, or VP9 with transparency in WebM, with each frame at its true time."""

from __future__ import annotations

import errno
import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from avatar_stream import provenance, stages
from avatar_stream.errors import SinkError
from avatar_stream.options import OutputPath
from avatar_stream.sinks._sound_track import FileSoundTrack
from avatar_stream.types import TICKS_PER_S, Frame, Sound

# Fine enough for every camera's and container's times: MPEG's own clock.
_CODECS = {".mp4": ("libx264", "yuv420p", "mp4"), ".webm": ("libvpx-vp9", "yuv420p", "webm")}
_SOUND_CODECS = {".mp4": "aac", ".webm": "libopus"}
# What is left to write when the disk is full: frames inside the encoder, then an index of about 30 bytes a frame.
_RESERVE_BYTES = 8 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)
# One thread: how threads share the work may change the bits, and two runs must not differ.
_SETTINGS = {
    "libx264": {"crf": "19", "preset": "superfast", "threads": "1", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "threads": "1", "row-mt": "0"},
}


class VideoFileSink(stages.Sink):
    """Writes a video beside its final name and gives it that name when it is complete.

    Two runs with the same frames give the same bytes. When the disk is full, the video is finished with what it
    has and keeps its name: a little room is kept in reserve for that.
    """

    class Options(stages.SinkOptions):
        """Where to, and how."""

        path: OutputPath
        """`.mp4` or `.webm`; its folder must exist."""
        transparent: bool = False
        """Keep `Frame.alpha`; only `.webm`."""
        from_zero: bool | None = None
        """Count times from the first frame; without it, where the source is live and its clock began before."""

    options: Options

    def __init__(self, options: Options, context: stages.Context | None = None):
        """Store the options; `open()` takes the file."""
        super().__init__(options, context)
        self._composite = self.context.composite or options.side_by_side
        self._from_zero = self.context.live if options.from_zero is None else options.from_zero
        self._part = options.path.parent / f".{options.path.name}.{os.getpid()}.part"
        self._file: _ReservingFile | None = None
        self._start_s: float | None = None
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._sound: FileSoundTrack | None = None
        self._last_tick = -1
        self._step_ticks = 0

    def open(self) -> None:
        """Take the output.

        Raises:
            SinkError: another kind of file, a missing folder, no right to write, or a codec is missing.
        """
        path = self.options.path
        if path.suffix.lower() not in _CODECS:
            raise SinkError(f"cannot write {path}: the name must end with {' or '.join(_CODECS)}")
        if self.options.transparent and path.suffix.lower() != ".webm":
            raise SinkError(f"cannot write {path}: only .webm carries a transparent background")
        if not path.parent.is_dir():
            raise SinkError(f"cannot write {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise SinkError(f"cannot write {path}: it is a folder")
        if self.context.signing is not None and path.suffix.lower() == ".mp4":
            self.context.signing.check()
        codec, _, container = _CODECS[path.suffix.lower()]
        if codec not in av.codecs_available:
            raise SinkError(f"cannot write {path}: this PyAV has no {codec}: run `make setup`")
        # "bitexact" leaves out the random identifier that WebM files carry.
        flags = {"movflags": "+faststart"} if container == "mp4" else {}
        try:
            self._file = _ReservingFile(self._part)
            self._container = av.open(
                self._file, "w", format=container, options={"fflags": "+bitexact", **flags}
            )
            self._container.metadata.update(provenance.tags(self._composite))
        except (av.error.FFmpegError, OSError) as error:
            self._fail(error)
        self._stream, self._last_tick, self._step_ticks, self._start_s = None, -1, 0, None
        self._sound = FileSoundTrack(_SOUND_CODECS[path.suffix.lower()]) if self.context.sound else None

    def write(self, frame: Frame) -> None:
        """Add one frame; all have the size of the first.

        Args:
            frame: (H, W, 3) uint8 RGB; with `transparent`, `alpha` (H, W) uint8 too (None: opaque).

        Raises:
            SinkError: the sink is not open, the disk is full, or the size changed.
        """
        if self._container is None:
            raise SinkError(f"{self.options.path} is not open")
        try:
            if self._stream is None:
                self._stream = self._add_stream(frame)
                if self._sound is not None:
                    self._sound.add_to(self._container)
            if frame.image.shape[:2] != (self._stream.height, self._stream.width):
                raise SinkError(f"{self.options.path}: the picture changed its size at {frame.time_s:.2f} s")
            if self._start_s is None:
                self._start_s = frame.time_s if self._from_zero else 0.0
            tick = max(round((frame.time_s - self._start_s) * TICKS_PER_S), self._last_tick + 1)
            if self._last_tick >= 0:
                self._step_ticks = tick - self._last_tick
            self._last_tick = tick
            self._container.mux(self._stream.encode(self._picture(frame, tick)))
            if self._sound is not None:
                self._container.mux(self._sound.encode(self._start_s, frame.time_s))
        except (av.error.FFmpegError, OSError) as error:
            self._fail(error)
        if self._file.full:
            self.close()
            raise SinkError(
                f"the disk is full: {self.options.path} ends after {tick / TICKS_PER_S:.1f} s, and plays; make room"
            )

    def hear(self, sound: Sound) -> None:
        """Add a block of the programme's sound: (n, 2) int16, 48 kHz; each goes on where the last one ended."""
        if self._sound is not None:
            self._sound.hear(sound)

    def close(self) -> None:
        """Finish the video and give it its name; without any frame nothing is left. May be called twice.

        Raises:
            SinkError: the disk is full, or the folder is gone; where only the name cannot be had, the message says
                where the recording is.
        """
        if self._container is None:
            return
        if self._stream is None:
            self.discard()
            return
        try:
            packets = self._stream.encode(None)
            if packets and self._step_ticks:
                # Else the last frame lasts as long as the encoder thinks.
                packets[-1].duration = self._step_ticks
            self._container.mux(packets)
            self._finish_sound()
            self._container.close()
            self._container = self._stream = None
            if self.options.path.suffix.lower() == ".mp4":
                self._file.seek(0, os.SEEK_END)
                self._file.write(provenance.mp4_box(self._composite))
            self._file.close()
        except (av.error.FFmpegError, OSError) as error:
            self._fail(error)
        self._sign_and_name()

    def discard(self) -> None:
        """Leave no file: what a caller does after a failure. May be called twice."""
        container, self._container, self._stream = self._container, None, None
        try:
            if container is not None:
                container.close()
        except (av.error.FFmpegError, OSError):
            pass  # the file is removed anyway
        file, self._file = self._file, None
        if file is not None:
            file.close()
        self._part.unlink(missing_ok=True)

    def _sign_and_name(self) -> None:
        path, signing = self.options.path, self.context.signing
        try:
            if signing is not None and path.suffix.lower() == ".mp4":
                signing.sign(self._part, path.name, self._composite)
        finally:
            self._name()  # a recording that cannot be signed is still one

    def _name(self) -> None:
        path = self.options.path
        try:
            self._part.replace(path)
        except OSError as error:
            place = f"the recording is {self._part}" if self._part.exists() else "its folder is gone"
            raise SinkError(f"cannot write {path} ({error.strerror or error}): {place}") from error

    def _finish_sound(self) -> None:
        if self._sound is not None and self._start_s is not None:
            # Not beyond the last picture, which players would go on showing.
            end_s = self._start_s + (self._last_tick + self._step_ticks) / TICKS_PER_S
            self._container.mux(self._sound.encode(self._start_s, end_s))
            self._container.mux(self._sound.finish())

    def _add_stream(self, frame: Frame) -> av.VideoStream:
        height_px, width_px = frame.image.shape[:2]
        codec, pixels, _ = _CODECS[self.options.path.suffix.lower()]
        stream = self._container.add_stream(codec, rate=30, options=_SETTINGS[codec])
        stream.width, stream.height = width_px, height_px
        stream.pix_fmt = "yuva420p" if self.options.transparent else pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
        # Say which of the two common matrices swscale used, or players guess by the size and colours shift.
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
        stream.codec_context.flags |= 1 << 23  # AV_CODEC_FLAG_BITEXACT: no library versions in the stream
        return stream

    def _picture(self, frame: Frame, tick: int) -> av.VideoFrame:
        if self.options.transparent:
            alpha = frame.alpha if frame.alpha is not None else np.full(frame.image.shape[:2], 255, np.uint8)
            picture = av.VideoFrame.from_ndarray(np.dstack([frame.image, alpha]), format="rgba")
        else:
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
        picture.pts, picture.time_base = tick, Fraction(1, TICKS_PER_S)
        picture.duration = self._step_ticks
        return picture

    def _fail(self, error: Exception) -> None:
        self.discard()
        reason = getattr(error, "strerror", None) or str(error)
        advice = "check the free space and the rights of its folder"
        raise SinkError(f"cannot write {self.options.path} ({reason}): {advice}") from error


class _ReservingFile(io.FileIO):
    """A file beside which room is kept, given up when the disk is full; `full` tells that this has happened."""

    def __init__(self, path: Path):
        super().__init__(path, "w")
        self.full = False
        self._reserve = path.with_name(path.name + ".reserve")
        try:
            with self._reserve.open("wb") as reserve:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(reserve.fileno(), 0, _RESERVE_BYTES)
                else:
                    reserve.write(bytes(_RESERVE_BYTES))
        except OSError:
            self.close()
            path.unlink(missing_ok=True)
            raise

    def write(self, content: Any, /) -> int:
        """Write all of it; on a full disk the reserve is given up and the rest written then."""
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                if error.errno not in _FULL or self.full:
                    raise
                self.full = True
                self._reserve.unlink(missing_ok=True)
        return len(content)

    def close(self) -> None:
        """Close it and give up the reserve. May be called twice."""
        super().close()
        self._reserve.unlink(missing_ok=True)


STAGE = VideoFileSink
