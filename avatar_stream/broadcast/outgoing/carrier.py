"""Carries encoded pictures to a media server, as a process of its own, which `push.Carrier` starts.

FFmpeg, as PyAV calls it, connects while it holds Python's lock and without a time limit: a server that is slow to
answer would stop the whole pipeline. A process of its own can be waited for, and ended.

What comes in: a line of JSON (`Orders`), then units, each a header (`HEADER`: pts in ticks of 1/90000 s, number of
bytes, kind) and H.264 in Annex B, or sound: int16, left and right, 48,000 a second. The first unit, a keyframe, only
tells what is coming; the picture that it holds is old once the server has answered. What goes out: the line `UP` when
it has, and FFmpeg's complaints.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np

from avatar_stream.types import SOUND_RATE, TICKS_PER_S

HEADER = struct.Struct("<qIB")
PICTURE, KEYFRAME, SOUND = range(3)
UP = "up"
CONNECT_TIMEOUT_S, STALL_TIMEOUT_S = 15, 10
TIME_BASE = Fraction(1, TICKS_PER_S)
_AAC_FRAME = 1024
# Blocks follow one another; what is closer than this was torn apart by rounding.
_SAME_SAMPLES = 480
_MOST_SILENCE = 10 * SOUND_RATE
# Sound may come a little later than its pictures; players wait for it for longer.
_LATE_SAMPLES = SOUND_RATE // 5
# How long a picture may wait inside the system's TCP buffers, which grow to several seconds where the network is slow.
_MOST_WAITING_S = 0.5
_FORMATS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "rtsps": "rtsp", "srt": "mpegts"}
_FORMAT_OPTIONS = {"flv": {"flvflags": "no_duration_filesize"}, "rtsp": {"rtsp_transport": "tcp"}}


@dataclasses.dataclass(frozen=True)
class Orders:
    """What the carrier is told first.

    Attributes:
        url: rtmp://, rtmps://, rtsp://, rtsps:// or srt://.
        sound: an AAC track, silent where no sound comes.
        ffmpeg: path of a program that knows the protocol, where PyAV does not; else None.
    """

    url: str
    sound: bool
    ffmpeg: str | None = None


def main() -> None:
    """Carry what comes in on standard input until it ends; exits with 1 and a reason if that fails."""
    av.logging.set_level(av.logging.ERROR)
    coming = sys.stdin.buffer
    orders = Orders(**json.loads(coming.readline()))
    first = next(_units(coming), None)
    if first is None:
        return
    try:
        # The default action of this signal ends the process, whatever FFmpeg waits for.
        signal.alarm(CONNECT_TIMEOUT_S)
        with _destination(orders, first[1]) as destination:
            signal.alarm(0)
            print(UP, flush=True)
            for unit in _units(coming):
                signal.alarm(STALL_TIMEOUT_S)
                destination.carry(*unit)
                signal.alarm(0)
            signal.alarm(STALL_TIMEOUT_S)
    except (av.error.FFmpegError, OSError) as error:
        print(getattr(error, "strerror", None) or error, file=sys.stderr, flush=True)
        # Not by way of destructors: they would try to finish the stream once more.
        os._exit(1)


def _units(coming: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    while len(header := coming.read(HEADER.size)) == HEADER.size:
        pts, size, kind = HEADER.unpack(header)
        unit = coming.read(size)
        if len(unit) < size:
            return
        yield pts, unit, kind


@contextlib.contextmanager
def _destination(orders: Orders, keyframe: bytes) -> Iterator[_Destination]:
    if orders.ffmpeg is not None:
        with _through_ffmpeg(orders.ffmpeg, orders, keyframe) as destination:
            yield destination
        return
    format_name = _FORMATS[orders.url.partition(":")[0].lower()]
    options = _FORMAT_OPTIONS.get(format_name, {}) | {"flush_packets": "1"}
    with av.open(orders.url, "w", format=format_name, options=options) as container:
        destination = _Destination(container, keyframe, orders)
        container.start_encoding()
        destination.backlog = _Backlog(_open_sockets())
        yield destination


@contextlib.contextmanager
def _through_ffmpeg(program: str, orders: Orders, keyframe: bytes) -> Iterator[_Destination]:
    # It copies, nothing is encoded again. NUT holds true times and all that a probe asks for.
    options = "-hide_banner -loglevel error -progress pipe:1 -stats_period 0.1 -f nut -fflags nobuffer "
    options += "-probesize 64k -analyzeduration 0 -i pipe:0 -c copy -flush_packets 1 -f "
    options += _FORMATS[orders.url.partition(":")[0].lower()]
    command = [program, *options.split(), orders.url]
    process: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    begun = threading.Event()
    threading.Thread(target=_listen, args=(process.stdout, begun), daemon=True).start()
    # Past Python's own buffer, which would hold small pictures back until it is full.
    with av.open(process.stdin.raw, "w", format="nut", options={"flush_packets": "1"}) as container:
        destination = _Destination(container, keyframe, orders)
        start_s = time.monotonic()
        while not begun.wait(0.1):
            if process.poll() is not None:
                raise OSError("ffmpeg ended")
            # It opens its output only after it has seen pictures.
            destination.carry(round((time.monotonic() - start_s) / TIME_BASE), keyframe, KEYFRAME)
        yield destination.begin_anew(round((time.monotonic() - start_s) / TIME_BASE))
    process.stdin.close()
    if process.wait(STALL_TIMEOUT_S) != 0:
        raise OSError("ffmpeg failed")


def _listen(progress: BinaryIO, begun: threading.Event) -> None:
    for line in progress:
        if line.startswith(b"progress="):
            begun.set()


class _Destination:
    """An open output: pictures as they come, silence to go with them."""

    def __init__(self, container: av.container.OutputContainer, keyframe: bytes, orders: Orders):
        with av.open(io.BytesIO(keyframe), format="h264") as example:  # finds size, profile, SPS and PPS
            self._video = container.add_stream_from_template(example.streams.video[0], opaque=True)
        self._video.time_base = TIME_BASE
        self._sound = _AacTrack(container) if orders.sound else None
        self._container = container
        self._start: int | None = None
        self._offset = 0
        self.backlog = _Backlog([])

    def begin_anew(self, ticks: int) -> _Destination:
        """The next unit's time is `ticks`, wherever its own clock is; returns itself."""
        self._start, self._offset = None, ticks
        return self

    def carry(self, pts: int, unit: bytes, kind: int) -> None:
        """Send a unit when the network has taken most of what came before."""
        if kind == SOUND:
            if self._sound is not None and self._start is not None:
                self._sound.add(pts - self._start + self._offset, np.frombuffer(unit, "<i2"))
            return
        if self._start is None:
            self._start = pts
        packet = av.Packet(unit)
        packet.stream, packet.time_base = self._video, TIME_BASE
        packet.pts = packet.dts = pts - self._start + self._offset
        packet.is_keyframe = kind == KEYFRAME
        # Until then nothing is read from the pipe, so that the pipeline drops pictures instead of piling them up.
        self.backlog.wait()
        if self._sound is not None:
            self._sound.fill(packet.pts)
        self._container.mux(packet)
        self.backlog.add(len(unit))


class _AacTrack:
    """The sound track: blocks as they come, silence where none do, without a gap."""

    def __init__(self, container: av.container.OutputContainer):
        self._container = container
        self._stream = container.add_stream("aac", rate=SOUND_RATE, layout="stereo", bit_rate=128_000)
        self._end = _AAC_FRAME  # the encoder begins a frame earlier than it is told; no time may be negative

    def add(self, ticks: int, samples: np.ndarray) -> None:
        """Add a block; what is older than the track's end is cut.

        Args:
            ticks: its time, 1/90000 s.
            samples: (2 n,) int16, left and right in turn.
        """
        missing = round(ticks * TIME_BASE * SOUND_RATE) - self._end
        if missing > _SAME_SAMPLES:
            self._encode(np.zeros(2 * min(missing, _MOST_SILENCE), np.int16))
        elif missing < -_SAME_SAMPLES:
            samples = samples[-2 * missing :]
        if len(samples):
            self._encode(samples)

    def fill(self, ticks: int) -> None:
        """Add silence where the track ends long before a picture's time."""
        missing = round(ticks * TIME_BASE * SOUND_RATE) - self._end
        if missing >= _LATE_SAMPLES:
            self._encode(np.zeros(2 * min(missing, _MOST_SILENCE), np.int16))

    def _encode(self, samples: np.ndarray) -> None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._end, Fraction(1, SOUND_RATE)
        self._end += len(samples) // 2
        self._container.mux(self._stream.encode(frame))


class _Backlog:
    """What has been given to TCP sockets, and when; the other side has not confirmed all of it yet."""

    def __init__(self, sockets: list[int]):
        self._sockets = sockets
        self._given: deque[tuple[float, int]] = deque()  # (when, bytes in all until then)
        self._total = 0

    def add(self, size_bytes: int) -> None:
        """Note what has just been given."""
        if self._sockets:
            self._total += size_bytes
            self._given.append((time.monotonic(), self._total))

    def wait(self) -> None:
        """Return when what waits has not waited for long."""
        while self._given:
            confirmed = self._total - sum(map(_unconfirmed_bytes, self._sockets))
            while self._given and self._given[0][1] <= confirmed:
                self._given.popleft()
            if not self._given or time.monotonic() - self._given[0][0] < _MOST_WAITING_S:
                return
            time.sleep(0.005)


def _open_sockets() -> list[int]:
    """File numbers of this process's sockets; none where the system does not tell (Linux does)."""
    sockets = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    sockets.append(int(name))
    return sockets


def _unconfirmed_bytes(file_number: int) -> int:
    """What a TCP socket has been given and the other side has not confirmed (Linux tcp(7), SIOCOUTQ)."""
    import fcntl

    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(file_number, 0x5411, waiting)
    except OSError:
        return 0
    return waiting[0]
