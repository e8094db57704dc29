"""Push: what real servers receive is decoded; a server that goes and comes back; nothing ever waits."""

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import av
import numpy as np
import pytest
from support.outward import FPS, PATIENT_S, Signer, assert_stripes, free_port, picture, running
from support.rtmp import KEY, needs_nginx, nginx, recording
from support.stages import opened
from support.stations import needs_srt
from support.waiting import until

from avatar_stream.errors import SinkError
from avatar_stream.messages import hide_secrets, shown_address
from avatar_stream.sinks.push import PushSink
from avatar_stream.stages import Context
from avatar_stream.types import Frame, Sound

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg is missing: apt-get install ffmpeg"
)


def watch(url: str, frames: int, patience_s: float = 0.5) -> tuple[list[float], list[np.ndarray], dict]:
    """Play an address as a viewer does; returns times, pictures and what streams there are."""
    times_s, images = [], []
    # Live, FFmpeg waits for so long whether another stream comes too.
    options = {"analyzeduration": str(round(patience_s * 1e6)), "fpsprobesize": "0"}
    with av.open(url, "r", timeout=15, options=options) as container:
        kinds = {stream.type: stream.codec_context.name for stream in container.streams}
        for frame in container.decode(video=0):
            times_s.append(frame.time)
            images.append(frame.to_ndarray(format="rgb24"))
            if len(images) == frames:
                break
    return times_s, images, kinds


def assert_pictures_and_times(times_s, images, size=(128, 96)):
    assert images[-1].shape == (size[1], size[0], 3)
    steps_s = np.diff(times_s)
    assert (steps_s > 0).all() and 0.7 / FPS < np.median(steps_s) < 1.6 / FPS, steps_s
    assert_stripes(images[-1])
    pairs = zip(images, images[1:], strict=False)
    assert any(np.abs(a.astype(int) - b).max() > 100 for a, b in pairs), "it moves"


@needs_nginx
@pytest.mark.parametrize(
    "silent_audio, kinds", [(False, {"video": "h264"}), (True, {"video": "h264", "audio": "aac"})]
)
def test_rtmp_arrives_at_nginx(tmp_path, silent_audio, kinds):
    port = free_port()
    sink = PushSink(PushSink.Options(url=f"rtmp://127.0.0.1:{port}/live/{KEY}", silent_audio=silent_audio))
    with nginx(tmp_path, port), Signer(sink) as signer:
        until(lambda: sink.connections == 1)
        times_s, images, found = watch(
            f"rtmp://127.0.0.1:{port}/live/{KEY}", 20, 4.0 if silent_audio else 0.5
        )
        assert found == kinds
        assert_pictures_and_times(times_s, images)
        assert sink.notice == ""
    assert signer.longest_s < PATIENT_S


@needs_nginx
def test_a_shows_sound_comes_along_in_time(tmp_path):
    port = free_port()
    sink = PushSink(PushSink.Options(url=f"rtmp://127.0.0.1:{port}/live/{KEY}"), Context(sound=True))
    with recording(tmp_path, port) as recorded, opened(sink):
        start_s = time.monotonic()
        for step in range(
            150
        ):  # 3 s: a picture every 40 ms, sound every 20 ms; white and a tone in every other second
            loud, now_s = (step // 50) % 2 == 1, start_s + 0.02 * step
            samples = np.sin(np.arange(960) * 2 * np.pi * 500 / 48_000) * (12_000 if loud else 0)
            sink.hear(Sound(np.repeat(samples.astype(np.int16)[:, None], 2, axis=1), now_s))
            if step % 2 == 0:
                image = np.full((96, 128, 3), 255 if loud else 0, np.uint8)
                sink.write(Frame(image, time_s=now_s, index=step))
            time.sleep(max(0.0, now_s + 0.02 - time.monotonic()))
        sink.close()
        path = str(recorded())
    times_s, images, kinds = watch(path, 999)
    assert kinds == {"video": "h264", "audio": "aac"}
    seen = [time_s for time_s, image in zip(times_s, images, strict=True) if image.mean() > 128]
    with av.open(path) as container:
        blocks = [(block.time, np.abs(block.to_ndarray()).max()) for block in container.decode(audio=0)]
    heard = [time_s for time_s, level in blocks if level > 0.1]
    assert abs(seen[0] - heard[0]) < 0.06 and abs(seen[-1] - heard[-1]) < 0.08
    assert np.allclose(np.diff([time_s for time_s, _ in blocks]), 1024 / 48_000, atol=2e-3), "without a gap"


@needs_ffmpeg
@pytest.mark.parametrize("scheme", ["srt", "rtsp"])
def test_a_listener_of_ffmpeg_records_it(tmp_path, scheme):
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}" + ("?streamid=publish:avatar" if scheme == "srt" else f"/{KEY}")
    listening = {
        "srt": ["-f", "mpegts", "-analyzeduration", "500000", "-i", f"srt://127.0.0.1:{port}?mode=listener"],
        "rtsp": ["-rtsp_flags", "listen", "-i", url],
    }
    if scheme == "srt":
        needs_srt()
    path = tmp_path / "received.mkv"
    command = ["ffmpeg", "-v", "error", *listening[scheme], "-frames:v", "40", "-c", "copy", str(path)]
    sink = PushSink(PushSink.Options(url=url))
    with running(command) as listener, Signer(sink) as signer:
        assert listener.wait(40) == 0, listener.stderr.read().decode()
        assert sink.connections >= 1
        if scheme == "rtsp":  # SRT notices only after many seconds that the listener has gone
            until(lambda: "next try" in sink.notice)
    times_s, images, kinds = watch(str(path), 38)
    assert kinds == {"video": "h264"}
    # Until RTSP has told the first one's time it is guessed.
    assert_pictures_and_times(times_s[2:], images[2:])
    assert signer.longest_s < PATIENT_S


@pytest.mark.skipif(
    shutil.which("gst-inspect-1.0") is None
    or subprocess.run(["gst-inspect-1.0", "srtsrc"], capture_output=True).returncode != 0,
    reason="GStreamer with SRT is missing: apt-get install gstreamer1.0-tools gstreamer1.0-plugins-bad",
)
@needs_ffmpeg
def test_gstreamer_listens_by_srt_and_records_it(tmp_path):
    port = free_port()
    path = tmp_path / "received.ts"
    chain = f"srtsrc uri=srt://127.0.0.1:{port}?mode=listener ! tsparse ! filesink location={path}"
    with (
        running(["gst-launch-1.0", "-q", "-e", *chain.split()]) as listener,
        Signer(PushSink(PushSink.Options(url=f"srt://127.0.0.1:{port}"))),
    ):
        until(lambda: path.exists() and path.stat().st_size > 20_000, 40)
        listener.send_signal(signal.SIGINT)
        assert listener.wait(20) == 0, listener.stderr.read().decode()
    times_s, images, kinds = watch(str(path), 20)
    assert kinds == {"video": "h264"}
    assert_pictures_and_times(times_s[2:], images[2:])


@needs_nginx
def test_it_comes_back_when_the_server_does(tmp_path, caplog):
    port = free_port()
    url = f"rtmp://127.0.0.1:{port}/live/{KEY}"
    sink = PushSink(PushSink.Options(url=url))
    with Signer(sink) as signer:
        until(lambda: "next try" in sink.notice)  # nobody there yet
        assert "refused" in sink.notice.lower(), sink.notice
        with nginx(tmp_path, port):
            until(lambda: sink.connections == 1)
        until(lambda: "next try" in sink.notice)
        with nginx(tmp_path, port):
            until(lambda: sink.connections == 2)
            assert_pictures_and_times(*watch(url, 15)[:2])
    assert signer.longest_s < PATIENT_S
    assert KEY not in caplog.text and f"rtmp://127.0.0.1:{port}/live/..." in caplog.text


@needs_nginx
def test_a_server_that_refuses_is_asked_again_after_a_pause(tmp_path):
    port = free_port()
    sink = PushSink(PushSink.Options(url=f"rtmp://127.0.0.1:{port}/live/{KEY}"))
    with nginx(tmp_path, port, extra="deny publish all;"), Signer(sink):
        until(lambda: "next try" in sink.notice)
        before = sink.connections
        time.sleep(0.4)
        assert sink.connections == before <= 1 and KEY not in sink.notice


def test_a_server_that_never_answers_stops_neither_the_pipeline_nor_its_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = PushSink(PushSink.Options(url=f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/{KEY}"))
        with Signer(sink) as signer:
            connection, _ = silent.accept()
            time.sleep(1.0)
            assert sink.connections == 0 and "connecting" in sink.notice
            start_s = time.monotonic()
        assert time.monotonic() - start_s < 12
        assert signer.longest_s < PATIENT_S
        connection.settimeout(5)
        while connection.recv(65536):
            pass  # the carrier is gone: its end of the connection is closed
        connection.close()


class SlowNetwork:
    """Stands between publisher and server and lets through so many bytes a second."""

    def __init__(self, port: int, bytes_per_s: int):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port, self._to, self._rate = self._listening.getsockname()[1], port, bytes_per_s
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        here, _ = self._listening.accept()
        with here, socket.create_connection(("127.0.0.1", self._to)) as there:
            threading.Thread(target=self._pass_on, args=(there, here, None), daemon=True).start()
            self._pass_on(here, there, self._rate)

    @staticmethod
    def _pass_on(taker, giver, bytes_per_s):
        with contextlib.suppress(OSError):
            while part := taker.recv(2048):
                giver.sendall(part)
                if bytes_per_s:
                    time.sleep(len(part) / bytes_per_s)

    def close(self):
        self._listening.close()


@needs_nginx
def test_where_the_network_is_slow_pictures_are_dropped_and_the_delay_does_not_grow(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (24, 96, 128, 3), dtype=np.uint8)
    port = free_port()
    with nginx(tmp_path, port):
        network = SlowNetwork(port, 40_000)  # the noise asks for three times as much
        sink = PushSink(
            PushSink.Options(url=f"rtmp://127.0.0.1:{network.port}/live/{KEY}", bitrate_kbps=1000)
        )
        sink.open()
        begin_s, stop = time.monotonic(), threading.Event()

        def sign():
            index = 0
            while not stop.wait(1 / FPS):
                frame = Frame(noise[index % len(noise)], time_s=time.monotonic() - begin_s, index=index)
                sink.write(frame)
                index += 1

        signer = threading.Thread(target=sign, daemon=True)
        signer.start()
        until(lambda: sink.connections == 1)
        delays_s = []
        options = {"analyzeduration": "500000", "fpsprobesize": "0"}
        with av.open(f"rtmp://127.0.0.1:{port}/live/{KEY}", timeout=15, options=options) as container:
            for packet in container.demux(video=0):
                delays_s.append(time.monotonic() - begin_s - float(packet.pts * packet.time_base))
                if len(delays_s) == 45:
                    break
        stop.set()
        signer.join(5)
        sink.close()
        network.close()
    took_s = time.monotonic() - begin_s
    assert took_s > 4, "it was not slow"
    # Counted from before the server was there: what it took to connect is part of it.
    assert max(delays_s[-10:]) < 2.5, delays_s


@needs_nginx
def test_another_size_begins_a_new_stream(tmp_path):
    port = free_port()
    url = f"rtmp://127.0.0.1:{port}/live/{KEY}"
    sink = PushSink(PushSink.Options(url=url))
    with nginx(tmp_path, port), Signer(sink) as signer:
        until(lambda: sink.connections == 1)
        signer.size = (160, 128)
        until(lambda: sink.connections == 2)
        times_s, images, _ = watch(url, 10)
        assert_pictures_and_times(times_s, images, (160, 128))


@needs_nginx
def test_in_a_silence_the_last_picture_is_sent_again(tmp_path):
    port = free_port()
    sink = PushSink(PushSink.Options(url=f"rtmp://127.0.0.1:{port}/live/{KEY}"))
    with recording(tmp_path, port) as recorded, opened(sink):
        sink.write(Frame(image=picture(0), time_s=time.monotonic(), index=0))
        until(lambda: sink.connections == 1)
        time.sleep(2.4)
        sink.close()
        path = str(recorded())
    times_s, images, _ = watch(path, 99)
    assert 2 <= len(images) <= 4 and 0.9 < np.median(np.diff(times_s)) < 1.5


@pytest.mark.parametrize("url", ["http://h/live", "rtmp:///live/key", "srt://h", "h", "rtmp://[::1/live"])
def test_an_address_that_cannot_be_published_to_is_told_at_once(url):
    sink = PushSink(PushSink.Options(url=url))
    with pytest.raises(SinkError, match="the address must be rtmp://"):
        sink.open()
    sink.close()
    with pytest.raises(SinkError, match="not open"):
        sink.write(Frame(image=picture(0), time_s=0.0, index=0))


def test_srt_without_a_program_that_has_it_says_what_to_install(monkeypatch):
    try:
        av.open("srt://", "r", timeout=1)
    except av.error.ProtocolNotFoundError:
        pass
    except (av.error.FFmpegError, ValueError):
        pytest.skip("this PyAV has SRT itself")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SinkError, match="apt-get install ffmpeg"):
        PushSink(PushSink.Options(url="srt://127.0.0.1:9000")).open()


def test_secrets_of_an_address_are_not_shown():
    url = "rtsp://user:password@example.org:8554/live/streamkey?token=abcdef"
    assert shown_address(url) == "rtsp://example.org:8554/live/..."
    said = ("stream 'streamkey' is taken", "wrong token=abcdef", "password 'password'")
    for text in (f"refused: {url}", *said):
        hidden = hide_secrets(text, url)
        told = hidden.replace("password '", "")
        assert not any(secret in told for secret in ("streamkey", "abcdef", "password"))
