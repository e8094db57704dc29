"""Frames of any clip PyAV opens, upright and with their true times."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from avatar_stream import options, stages
from avatar_stream.clocks import PlayingClock
from avatar_stream.errors import EndOfStream, SourceError
from avatar_stream.options import InputPath
from avatar_stream.sources._decoding import READ_ERRORS, decode, pixel_shape_of, reason
from avatar_stream.types import Frame

logger = logging.getLogger(__name__)

# Times must grow from frame to frame or no container takes them; files with two frames at one time exist.
_SMALLEST_STEP_S = 1e-3
# At its own pace a clip that fell this far behind (a suspended laptop, a slow disk) goes on from now.
_LATEST_S = 0.5


class VideoFileSource(stages.Source):
    """Reads a clip from its first frame to its last; sound is ignored.

    Attributes:
        live: at its own pace: frames come when they are due, and that moment (`time.monotonic()`) is their
            time. Else False: every frame is delivered in order, with times from 0.
        frame_count: how many frames the file says it has, an estimate, or None where it says nothing.
    """

    class Options(options.Options):
        """Which file."""

        path: InputPath
        """The clip."""
        own_pace: bool = False
        """Play it as a camera would, live; else as fast as frames are asked for."""
        loop: bool = False
        """Begin anew at the end."""

    options: Options

    def __init__(self, options: Options, context: stages.Context | None = None):
        """Store the options; `open()` reads."""
        super().__init__(options, context)
        self.live = options.own_pace
        self.frame_count: int | None = None
        self._container: av.container.InputContainer | None = None
        self._frames: Iterator[av.VideoFrame] | None = None
        self._first: av.VideoFrame | None = None
        self._index = 0
        self._start: Fraction | None = None
        self._fresh = True  # the next frame is the first of its round
        self._last_s = 0.0
        self._step_s = 1 / 25
        self._pixel_shape = 1.0
        self._trouble = ""
        self._passed_s = 0.0  # by the rounds before this one
        self._clock: PlayingClock | None = None
        self._stopped = threading.Event()

    def open(self) -> None:
        """Open the file and decode its first frame.

        Raises:
            SourceError: the file is missing, is no clip, has no picture or none that can be decoded.
        """
        path = self.options.path
        if not path.is_file():
            raise SourceError(f"there is no clip {path}: check the name")
        self._passed_s, self._clock, self._index = 0.0, None, 0
        self._stopped.clear()
        self._begin()

    def _begin(self) -> None:
        path = self.options.path
        try:
            self._container = av.open(str(path))
        except READ_ERRORS as error:
            raise SourceError(
                f"cannot read {path} as a video ({reason(error)}): is it a clip, and complete?"
            ) from error
        if not self._container.streams.video:
            self.close()
            raise SourceError(f"{path} has no picture, only sound or data: give a clip that shows a signer")
        stream = self._container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        self._step_s = float(1 / rate) if rate else 1 / 25
        self._pixel_shape = pixel_shape_of(stream)
        length_s = (self._container.duration or 0) / av.time_base
        frame_count = stream.frames or (max(1, round(length_s / self._step_s)) if length_s else None)
        self.frame_count = None if self.options.loop else frame_count
        self._start, self._fresh, self._last_s, self._trouble = None, True, 0.0, ""
        packets = decode(self._container, [stream], self._note, self._note)
        self._frames = (frame for _, frames in packets for frame in frames)
        self._first = next(self._frames, None)
        if self._first is None:
            trouble = self._trouble or "no frames"
            self.close()
            raise SourceError(
                f"no picture of {path} can be decoded ({trouble}): try to convert the clip again"
            )

    def read(self) -> Frame:
        """Return the next frame; at its own pace, when it is due.

        Returns:
            A Frame: (H, W, 3) uint8 RGB, upright, square pixels; `time_s` counts from the first frame's, or
            is the moment at which the frame was due. `index` goes on where a loop begins anew.

        Raises:
            EndOfStream: after the last frame that can be read; where data were broken, one warning is logged.
            SourceError: the source is not open.
        """
        decoded = self._next_decoded()
        media_s = self._passed_s + self._time_s(decoded)
        image = _upright_rgb(decoded, self._pixel_shape)
        frame = Frame(image=image, time_s=self._wait_until_due(media_s), index=self._index)
        self._index += 1
        return frame

    def _next_decoded(self) -> av.VideoFrame:
        if self._frames is None:
            raise SourceError(f"{self.options.path} is not open")
        decoded, self._first = self._first or next(self._frames, None), None
        if decoded is None:
            if self._trouble:
                text = "%s is damaged (%s): used the %d frames that can be read"
                logger.warning(text, self.options.path, self._trouble, self._index)
                self._trouble = ""
            if not self.options.loop:
                raise EndOfStream
            self._passed_s += self._last_s + self._step_s
            self.close()
            self._begin()
            decoded, self._first = self._first, None
        return decoded

    def _wait_until_due(self, media_s: float) -> float:
        if not self.live:
            return media_s
        now_s = time.monotonic()
        self._clock = self._clock or PlayingClock(_LATEST_S, now_s - media_s)
        due_s = self._clock.capture_s(media_s, now_s)
        if self._stopped.wait(max(0.0, due_s - now_s)):
            raise EndOfStream
        return due_s

    def stop(self) -> None:
        """Let a `read` that waits for its moment end; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._frames = self._first = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _note(self, error: Exception) -> None:
        self._trouble = self._trouble or reason(error)

    def _time_s(self, decoded: av.VideoFrame) -> float:
        if self._fresh:
            self._fresh = False
            self._start = None if decoded.pts is None else decoded.pts * decoded.time_base
            return 0.0
        if decoded.pts is None or self._start is None:
            time_s = self._last_s + self._step_s
        else:
            time_s = float(decoded.pts * decoded.time_base - self._start)
        self._last_s = max(time_s, self._last_s + _SMALLEST_STEP_S)
        return self._last_s


def _upright_rgb(decoded: av.VideoFrame, pixel_shape: float) -> np.ndarray:
    # (H, W, 3) uint8 RGB: pixels made square, then the display rotation (counter-clockwise degrees) applied.
    width_px = max(1, round(decoded.width * pixel_shape))
    image = decoded.reformat(width=width_px, height=decoded.height, format="rgb24").to_ndarray()
    turns = round((decoded.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns))


STAGE = VideoFileSource
