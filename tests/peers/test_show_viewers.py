"""The programme's sound in a real WebRTC receiver, in step with its picture."""

import asyncio
import threading
import time

import numpy as np
import pytest
from support.outward import free_port
from support.programmes import FPS, SIZE, beginnings_s, read_back, read_number, write_programme
from support.rtmp import KEY, needs_nginx, nginx
from support.shows import make_show
from support.waiting import run_async, wait_until
from support.web import ask, post_offer, sink_at, status_of

from avatar_stream.controls import Controls, Wish
from avatar_stream.running import runner
from avatar_stream.running.show.options import ShowOptions
from avatar_stream.sinks.push import PushSink
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.stages import Context

PATIENCE_S = 30.0


async def offer_with(kinds):
    from aiortc import RTCConfiguration, RTCPeerConnection

    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        connection.addTransceiver(kind, direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    return connection


async def collect(track, seconds, read):
    """(when it came, what was read) of a track's frames."""
    found, end_s = [], None
    while end_s is None or time.monotonic() < end_s:
        frame = await asyncio.wait_for(track.recv(), PATIENCE_S)
        end_s = end_s or time.monotonic() + seconds
        found.append((time.monotonic(), read(frame)))
    return found


def loudness(frame):
    return np.abs(frame.to_ndarray().astype(int)).max()


def number_of(frame):
    image = frame.to_ndarray(format="rgb24")
    scale = image.shape[1] / SIZE[0]
    return read_number(image, 16 * scale, 16 * scale, 24 * scale)


async def watch_and_listen(sink, kinds, seconds):
    connection = await offer_with(kinds)
    try:
        code, _, sdp = await post_offer(sink, connection)
        assert code == 201 and "opus/48000/2" in sdp
        tracks = {each.receiver.track.kind: each.receiver.track for each in connection.getTransceivers()}
        watched = collect(tracks["video"], seconds, number_of)
        return await asyncio.gather(watched, collect(tracks["audio"], seconds, loudness))
    finally:
        await connection.close()


@pytest.fixture
def on_air(tmp_path):
    """A web output of a running show: (sink, its programme's length in s)."""
    path = write_programme(tmp_path / "programme.mp4", 8.0)
    sink, controls = sink_at(sound=True), Controls()
    show = ShowOptions(source=str(path), loop=True)
    pipeline = make_show([sink], show, True, None, target_delay_ms=500)
    thread = threading.Thread(target=runner.run, args=(pipeline, controls))
    thread.start()
    assert wait_until(lambda: sink.address and status_of(sink)["silent_s"] is not None)
    yield sink
    controls.ask(Wish.QUIT)
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("kinds", [("video", "audio"), ("audio", "video")])
def test_a_viewer_hears_the_programme_in_step_with_its_picture(on_air, kinds):
    assert status_of(on_air)["sound"] is True
    check_watched(*run_async(watch_and_listen(on_air, kinds, 4.5)))


def check_watched(pictures, sounds):
    """A viewer's beeps come with the first picture of a second."""
    loud_s = [came_s for came_s, level in sounds if level > 3000]
    beginnings_s = [each for before, each in zip([0.0, *loud_s], loud_s, strict=False) if each - before > 0.5]
    assert len(beginnings_s) >= 3
    off = []
    for begin_s in beginnings_s[1:]:
        # The picture that came last before a beep is one of the first of a second.
        number = next(number for came_s, number in reversed(pictures) if came_s <= begin_s)
        off.append(((number + FPS / 2) % FPS - FPS / 2) / FPS)
    # Sound that is not held back, as the picture is, would be half a second off; a busy machine is a little.
    assert abs(np.median(off)) < 0.35


def check_file(path):
    """Beeps of a recorded programme stand where its own seconds begin, as its pictures' numbers say."""
    pictures, sound = read_back(path)
    numbers = [read_number(image, 16, 16) for _, image in pictures]
    assert len(numbers) > 2 * FPS and -1 not in numbers
    times_s = np.array([time_s for time_s, _ in pictures])
    phases_s = np.array(numbers) / FPS - times_s
    # The programme begins anew after whole seconds.
    phases_s = phases_s[0] + (phases_s - phases_s[0] + 0.5) % 1 - 0.5
    heard_s = np.array([begin_s for begin_s in beginnings_s(sound) if begin_s > 0.1]) + np.median(phases_s)
    assert len(heard_s) >= 2 and np.abs(heard_s - np.round(heard_s)).max() < 2 / FPS, heard_s


@needs_nginx
def test_page_push_and_recording_at_once_have_picture_and_sound_in_step(tmp_path):
    port, web, controls = free_port(), sink_at(sound=True), Controls()
    push = PushSink(PushSink.Options(url=f"rtmp://127.0.0.1:{port}/live/{KEY}"), Context(sound=True))
    options = VideoFileSink.Options(path=tmp_path / "show.mp4", from_zero=True)
    show = ShowOptions(source=str(write_programme(tmp_path / "programme.mp4", 8.0)), loop=True)
    recording = VideoFileSink(options, Context(sound=True, composite=True))
    pipeline = make_show([web, push, recording], show, True, None, target_delay_ms=500)
    with nginx(tmp_path, port, extra=f"record all; record_path {tmp_path}/record;"):
        thread = threading.Thread(target=runner.run, args=(pipeline, controls))
        thread.start()
        try:
            assert wait_until(lambda: web.address and status_of(web)["silent_s"] is not None)
            assert wait_until(lambda: push.connections == 1)
            watched = run_async(watch_and_listen(web, ["video", "audio"], 4.5))
        finally:
            controls.ask(Wish.QUIT)
            thread.join(30)
        assert wait_until(lambda: list((tmp_path / "record").glob("*.flv")))
    check_watched(*watched)
    check_file(options.path)
    check_file(next((tmp_path / "record").glob("*.flv")))


def test_an_offer_without_sound_gets_the_picture_alone(on_air):
    async def watch():
        connection = await offer_with(["video"])
        try:
            code, _, sdp = await post_offer(on_air, connection)
            assert code == 201 and "m=audio" not in sdp
            assert await collect(connection.getTransceivers()[0].receiver.track, 0.2, number_of)
        finally:
            await connection.close()

    run_async(watch())


def test_where_there_is_no_sound_an_audio_section_is_left_empty():
    async def watch(sink):
        connection = await offer_with(["video", "audio"])
        try:
            code, _, sdp = await post_offer(sink, connection)
            assert code == 201 and "a=inactive" in sdp.split("m=audio")[1]
        finally:
            await connection.close()

    sink = sink_at()
    sink.open()
    try:
        assert status_of(sink)["sound"] is False and ask(sink.address)[0] == 200
        run_async(watch(sink))
    finally:
        sink.close()
