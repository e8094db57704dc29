"""Programmes on the air, as `show.source` names them: by TCP, RTMP, SRT, RTSP and HLS."""

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import av
import pytest

from support.outward import free_port, serving
from support.programmes import send_live
from support.rtmp import nginx
from support.waiting import until

FLUSHED = {"format": "mpegts", "options": {"flush_packets": "1"}}


class OnAir:
    """A programme that is sent from a thread of its own while it is on air (`send_live`).

    Attributes:
        address: for `show.source`.
        start_s: from when its pictures count hundredths of a second, `time.monotonic()`.
    """

    def __init__(self, address: str):
        self.address, self.start_s = address, time.monotonic()
        self._off, self._thread = threading.Event(), None

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *_):
        self.end()

    def begin(self) -> None:
        self._off.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Leave it; may be called twice."""
        self._off.set()
        if self._thread is not None:
            self._thread.join(10)
            assert not self._thread.is_alive()

    def _run(self):
        with contextlib.suppress(OSError, av.error.FFmpegError):  # whoever listens may go
            self._send()

    def _send(self):
        raise NotImplementedError


class Tcp(OnAir):
    """Given to one after the other; the port is there all the time, and off air nobody is answered."""

    def __init__(self, _: Path | None = None):
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        super().__init__(f"tcp://127.0.0.1:{self._server.getsockname()[1]}")

    def __exit__(self, *_):
        super().__exit__()
        self._server.close()

    def _send(self):
        while not self._off.is_set():
            with contextlib.suppress(OSError, av.error.FFmpegError), self._server.accept()[0] as connection:
                connection.settimeout(None)
                with (
                    connection.makefile("wb", buffering=0) as file,
                    av.open(file, "w", **FLUSHED) as container,
                ):
                    send_live(container, self.start_s, self._off.is_set)


class Rtmp(OnAir):
    """Published to nginx, from which it is played."""

    def __init__(self, folder: Path):
        self._folder, self._port = folder, free_port()
        super().__init__(f"rtmp://127.0.0.1:{self._port}/live/programme")

    def _send(self):
        with nginx(self._folder, self._port), av.open(self.address, "w", format="flv") as container:
            send_live(container, self.start_s, self._off.is_set)


class Srt(OnAir):
    """FFmpeg waits for who wants it, as many encoders do."""

    def __init__(self, _: Path):
        needs_srt()
        super().__init__(f"srt://127.0.0.1:{free_port()}")

    def _send(self):
        target = f"{self.address}?mode=listener"
        with through_ffmpeg(["-f", "mpegts", "-flush_packets", "1", target]) as container:
            send_live(container, self.start_s, self._off.is_set)


class SrtCaller(OnAir):
    """FFmpeg calls a show that listens, as OBS does."""

    def __init__(self, _: Path):
        needs_srt()
        self._place = f"srt://127.0.0.1:{free_port()}"
        super().__init__(f"{self._place}?mode=listener")

    def _send(self):
        while not self._off.is_set():
            with contextlib.suppress(OSError, av.error.FFmpegError):  # nobody listens yet
                with through_ffmpeg(["-f", "mpegts", "-flush_packets", "1", self._place]) as container:
                    send_live(container, self.start_s, self._off.is_set)


class Rtsp(OnAir):
    """FFmpeg publishes by RTSP over TCP; what stands between it and the players is written here (RFC 2326)."""

    def __init__(self, _: Path):
        if shutil.which("ffmpeg") is None:
            pytest.skip("ffmpeg is missing: apt-get install ffmpeg")
        self._port, self._description = free_port(), b""
        self._players, self._reports, self._lock = [], {}, threading.Lock()
        super().__init__(f"rtsp://127.0.0.1:{self._port}/programme")

    def _send(self):
        with socket.create_server(("127.0.0.1", self._port)) as listening, contextlib.ExitStack() as stack:
            threading.Thread(target=self._serve, args=(listening, stack), daemon=True).start()
            with through_ffmpeg(["-f", "rtsp", "-rtsp_transport", "tcp", self.address]) as container:
                send_live(container, self.start_s, self._off.is_set)
        self._players, self._reports = [], {}

    def _serve(self, listening, stack):
        with contextlib.suppress(OSError):
            listening.settimeout(0.1)
            while not self._off.is_set():
                with contextlib.suppress(TimeoutError):
                    connection = stack.enter_context(listening.accept()[0])
                    threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection):
        connection.settimeout(None)
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as asked:
            publishes = False
            while first := asked.read(1):
                if first == b"$":  # between the answers: RTP, and reports of it (section 10.12)
                    head = asked.read(3)
                    packet = first + head + asked.read(int.from_bytes(head[1:], "big"))
                    if publishes:
                        self._pass_on(packet)
                    continue
                lines = (first + asked.readline()).decode().split(), iter(asked.readline, b"\r\n")
                (verb, place, _), fields = lines[0], dict(line.split(b":", 1) for line in lines[1])
                fields = {key.strip().lower(): value.strip() for key, value in fields.items()}
                body = asked.read(int(fields.get(b"content-length", 0)))
                publishes = publishes or verb == "RECORD"
                self._description = body or self._description
                connection.sendall(self._answer(verb, place, fields))
                if verb == "PLAY":
                    self._add_player(connection)

    def _answer(self, verb: str, place: str, fields: dict[bytes, bytes]) -> bytes:
        answer = b"RTSP/1.0 200 OK\r\nSession: one\r\nCSeq: " + fields[b"cseq"] + b"\r\n"
        if verb == "OPTIONS":
            answer += b"Public: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, TEARDOWN\r\n"
        elif verb == "SETUP":
            answer += b"Transport: " + fields[b"transport"].replace(b";mode=record", b"") + b"\r\n"
        elif verb == "DESCRIBE":
            answer += b"Content-Type: application/sdp\r\nContent-Base: " + place.encode() + b"/\r\n"
            answer += b"Content-Length: %d\r\n\r\n" % len(self._description)
            return answer + self._description
        return answer + b"\r\n"

    def _add_player(self, connection):
        with self._lock:
            # When which stream began is told now and then only; a player that comes later needs it at once.
            for report in self._reports.values():
                connection.sendall(report)
            self._players.append(connection)

    def _pass_on(self, packet: bytes):
        with self._lock:
            if packet[5] == 200:  # a sender's report
                self._reports[packet[1]] = packet
            for player in tuple(self._players):
                try:
                    player.sendall(packet)
                except OSError:
                    self._players.remove(player)


class Hls(OnAir):
    """Segments of half a second in a folder that a web server shows."""

    def __init__(self, folder: Path):
        self._folder, self._open = folder / "hls", contextlib.ExitStack()
        self._folder.mkdir()
        super().__init__(f"{self._open.enter_context(serving(self._folder))}/programme.m3u8")

    def __enter__(self):
        super().__enter__()
        playlist = self._folder / "programme.m3u8"
        # As one that has run for long.
        until(lambda: playlist.exists() and playlist.read_text().count(".ts") > 3)
        return self

    def __exit__(self, *_):
        with self._open:
            super().__exit__()

    def _send(self):
        # A broadcast has no end mark; the next one's pieces have other names.
        settings = {"hls_time": "0.5", "hls_list_size": "6", "hls_flags": "delete_segments+omit_endlist"}
        settings["hls_segment_filename"] = str(self._folder / f"{time.monotonic_ns()}-%d.ts")
        playlist = str(self._folder / "programme.m3u8")
        with av.open(playlist, "w", format="hls", options=settings) as container:
            send_live(container, self.start_s, self._off.is_set)


def needs_srt() -> None:
    """Skip where the program ffmpeg is missing or speaks no SRT."""
    program = shutil.which("ffmpeg")
    told = subprocess.run([program or "true", "-protocols"], capture_output=True, text=True, check=False)
    if "srt" not in told.stdout.split():
        pytest.skip("there is no ffmpeg that has SRT")


@contextlib.contextmanager
def through_ffmpeg(target: list[str]):
    """A container whose content the program ffmpeg passes on, nothing encoded again; ended with the block."""
    command = "ffmpeg -v error -fflags nobuffer -probesize 300k -analyzeduration 500000".split()
    command += ["-f", "nut", "-i", "pipe:0", "-c", "copy", *target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0) as process:
        try:
            with av.open(process.stdin, "w", format="nut", options={"flush_packets": "1"}) as container:
                yield container
        finally:
            process.kill()
