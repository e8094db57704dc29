"""Addresses that PyAV's wheels do not speak (SRT): the program `ffmpeg` brings them, nothing is encoded again."""

from __future__ import annotations

import subprocess
from typing import Any

import av

from avatar_stream.errors import SourceError

_READING = "-v error -fflags nobuffer -probesize 500k -analyzeduration 1000000 -f concat -safe 0".split()
# Pictures do not wait for sound that comes in larger parts.
_WRITING = "-map 0:v:0 -map 0:a:0? -c copy -max_interleave_delta 1 -flush_packets 1 -f nut pipe:1".split()
_ENDED_S = 3.0


class Relay:
    """One run of ffmpeg."""

    def __init__(self, address: str, program: str):
        """Begin to connect; OSError where the program does not start.

        Args:
            address: SRT's.
            program: path of ffmpeg.
        """
        command = [program, *_READING, "-protocol_whitelist", "pipe,srt", "-i", "pipe:0", *_WRITING]
        # No buffers of Python's: they would wait until they are full, with quiet pictures for seconds.
        pipes: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
            "bufsize": 0,
        }
        # In a session of its own: Ctrl-C is for the pipeline. The address goes through a pipe, for what stands in a
        # command every user of this machine may read, and it may hold a password.
        self._process = subprocess.Popen(command, **pipes, start_new_session=True)
        quoted = address.replace("'", "'\\''")
        try:
            self._process.stdin.write(f"ffconcat version 1.0\nfile '{quoted}'\n".encode())
            self._process.stdin.close()
        except BaseException:
            self.close()
            raise

    def open(self) -> av.container.InputContainer:
        """Wait for what comes first, for ever where the address is a listener's, and return it.

        Raises:
            OSError: nothing comes, or `stop` was called; also PyAV's errors.
        """
        return av.open(self._process.stdout, format="nut")

    def stop(self) -> None:
        """End the program: whoever waits or reads comes to the end. From any thread."""
        self._process.kill()

    def close(self) -> None:
        """End the program and give everything back. May be called twice."""
        self._process.kill()
        self._process.wait(_ENDED_S)
        self._process.stdout.close()


def open_relay(address: str) -> Relay | None:
    """Return a relay for an address that PyAV does not speak; None where it does.

    Raises:
        SourceError: neither PyAV nor a program here speaks it.
    """
    if not address.startswith("srt:"):
        return None
    from avatar_stream.broadcast.outgoing.push import CarrierError, program_for

    try:
        program = program_for(address)
    except CarrierError as error:
        raise SourceError(str(error)) from error
    return Relay(address, program) if program is not None else None
