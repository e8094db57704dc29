"""The pipeline's side of a carrier: starts it, feeds it, tells why it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np

from avatar_stream.broadcast.outgoing.carrier import (
    CONNECT_TIMEOUT_S,
    HEADER,
    KEYFRAME,
    PICTURE,
    SOUND,
    STALL_TIMEOUT_S,
    UP,
    Orders,
)
from avatar_stream.broadcast.outgoing.encoder import Encoded
from avatar_stream.messages import hide_secrets

logger = logging.getLogger(__name__)

# The carrier ends itself first, and can then say what it waited for.
_PATIENCE_S = 2.0
_MOST_WORDS = 4096
# Not `-m`: that would look for modules in the current folder first.
_PROGRAM = """import sys
sys.path.append(sys.argv[1])
from avatar_stream.broadcast.outgoing import carrier
carrier.main()"""
_PACKAGES = Path(__file__).resolve().parents[3]


class CarrierError(Exception):
    """The connection could not be made, or has ended; the message holds no secret of the address."""


class Carrier:
    """One connection to a media server: from `start` to `close`, on one thread."""

    def __init__(self, orders: Orders):
        """Store where to and how."""
        self._orders = orders
        self._process: Any = None  # subprocess.Popen with pipes
        self._said = b""

    def start(self, keyframe: Encoded) -> None:
        """Connect; returns when the server is ready for pictures.

        Args:
            keyframe: tells the server size and profile; it is not shown.

        Raises:
            CarrierError: with the server's or FFmpeg's reason.
        """
        # In a session of its own: Ctrl-C is for the pipeline, which ends the carrier in order.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, str(_PACKAGES)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _make_small(self._process.stdin.fileno())
        os.set_blocking(self._process.stdin.fileno(), False)
        os.set_blocking(self._process.stdout.fileno(), False)
        # Not as an argument, which every user of this machine may read: the address often holds a key.
        self._write(json.dumps(dataclasses.asdict(self._orders)).encode() + b"\n")
        self.send(keyframe)
        end_s = time.monotonic() + CONNECT_TIMEOUT_S + _PATIENCE_S
        while f"{UP}\n".encode() not in self._said:
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not self._listen(left_s):
                self._fail(f"no answer in {CONNECT_TIMEOUT_S} s")
        self._said = b""

    def send(self, unit: Encoded) -> None:
        """Send one picture; waits while the network is slow. CarrierError where the connection has ended."""
        kind = KEYFRAME if unit.keyframe else PICTURE
        self._write(HEADER.pack(unit.pts, len(unit.data), kind) + unit.data)
        self._listen(0)

    def send_sound(self, samples: np.ndarray, pts: int) -> None:
        """Send a block of sound; waits and fails like `send`.

        Args:
            samples: (n, 2) int16, left and right, 48,000 a second.
            pts: of the first one, ticks of 1/90000 s on the pictures' clock.
        """
        data = np.ascontiguousarray(samples, "<i2").tobytes()
        self._write(HEADER.pack(pts, len(data), SOUND) + data)

    def close(self) -> None:
        """Say goodbye and end the process. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
        # Also an ffmpeg that it may have left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()

    def kill(self) -> None:
        """End the process at once; from any thread: whoever waits in `start` or `send` gets a CarrierError."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _write(self, data: bytes) -> None:
        number, rest = self._process.stdin.fileno(), memoryview(data)
        while rest:
            if not select.select([], [number], [], STALL_TIMEOUT_S + _PATIENCE_S)[1]:
                self._fail(f"it took nothing for {STALL_TIMEOUT_S} s")
            try:
                rest = rest[os.write(number, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_PATIENCE_S)
                stalled = self._process.returncode == -signal.SIGALRM
                self._fail(
                    f"it took nothing for {STALL_TIMEOUT_S} s" if stalled else "the connection has ended"
                )

    def _listen(self, timeout_s: float) -> bool:
        # False where nothing more will be said.
        number = self._process.stdout.fileno()
        if select.select([number], [], [], timeout_s)[0]:
            heard = os.read(number, _MOST_WORDS)
            self._said = (self._said + heard)[-_MOST_WORDS:]
            return bool(heard)
        return timeout_s == 0

    def _fail(self, otherwise: str) -> None:
        while self._listen(0.2):
            if not select.select([self._process.stdout.fileno()], [], [], 0.2)[0]:
                break
        lines = [line.strip() for line in self._said.decode(errors="replace").splitlines()]
        # FFmpeg's first complaint is the cause, the others are what came of it.
        reason = next((line for line in lines if line not in ("", UP)), otherwise)
        reason = hide_secrets(re.sub(r"^\[.*? @ .*?\] ", "", reason), self._orders.url)
        self.close()
        raise CarrierError(reason)


def _make_small(pipe: int) -> None:
    # What waits in a pipe is old when it is read; Linux' own size would hold a second of a still picture.
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)


def program_for(url: str) -> str | None:
    """Return None where PyAV speaks an address' protocol, else the path of an ffmpeg program that does.

    Raises:
        CarrierError: neither does.
    """
    scheme = urlsplit(url).scheme
    if scheme != "srt" or _pyav_has(scheme):
        return None
    program = shutil.which("ffmpeg")
    if program is not None:
        listed = subprocess.run(
            [program, "-hide_banner", "-protocols"], capture_output=True, text=True, timeout=20, check=False
        )
        if scheme in listed.stdout.partition("Output:")[2].split():
            return program
    raise CarrierError(
        f"this PyAV has no {scheme.upper()}, and there is no program `ffmpeg` that has it: apt-get install ffmpeg"
    )


def _pyav_has(scheme: str) -> bool:
    # There is no list of protocols to be asked: an address without a host fails in either case, but otherwise.
    try:
        av.open(f"{scheme}://", "r", timeout=1.0).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.error.FFmpegError, OSError, ValueError):
        return True
    return True
