"""The programme's sound in a real WebRTC receiver, in step with its picture."""

import asyncio
import contextlib
import threading
import time

import numpy as np
import pytest
from support.outward import free_port
from support.programmes import FPS, SIZE, beginnings_s, read_back, read_number, write_programme
from support.rtmp import KEY, needs_nginx, recording
from support.shows import make_show
from support.stages import opened
from support.waiting import run_async, until
from support.web import ask, offering, post_offer, sink_at, status_of

from avatar_stream.controls import Controls, Wish
from avatar_stream.running import runner
from avatar_stream.running.show.options import ShowOptions
from avatar_stream.sinks.push import PushSink
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.stages import Context

PATIENCE_S = 30.0


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
    async with offering(*kinds) as connection:
        code, _, sdp = await post_offer(sink, connection)
        assert code == 201 and "opus/48000/2" in sdp
        tracks = {each.receiver.track.kind: each.receiver.track for each in connection.getTransceivers()}
        watched = collect(tracks["video"], seconds, number_of)
        return await asyncio.gather(watched, collect(tracks["audio"], seconds, loudness))


@contextlib.contextmanager
def showing(folder, *sinks):
    """A running show beside a programme that begins again and again; its first output is a page's."""
    show = ShowOptions(source=str(write_programme(folder / "programme.mp4", 8.0)), loop=True)
    pipeline, controls = make_show(sinks, show, True, None, target_delay_ms=500), Controls()
    thread = threading.Thread(target=runner.run, args=(pipeline, controls))
    thread.start()
    try:
        until(lambda: sinks[0].address and status_of(sinks[0])["silent_s"] is not None)
        yield
    finally:
        controls.ask(Wish.QUIT)
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def on_air(tmp_path):
    sink = sink_at(sound=True)
    with showing(tmp_path, sink):
        yield sink


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
    port, web = free_port(), sink_at(sound=True)
    push = PushSink(PushSink.Options(url=f"rtmp://127.0.0.1:{port}/live/{KEY}"), Context(sound=True))
    options = VideoFileSink.Options(path=tmp_path / "show.mp4", from_zero=True)
    kept = VideoFileSink(options, Context(sound=True, composite=True))
    with recording(tmp_path, port) as recorded:
        with showing(tmp_path, web, push, kept):
            until(lambda: push.connections == 1)
            watched = run_async(watch_and_listen(web, ["video", "audio"], 4.5))
        check_file(recorded())
    check_watched(*watched)
    check_file(options.path)


def test_an_offer_without_sound_gets_the_picture_alone(on_air):
    async def watch():
        async with offering("video") as connection:
            code, _, sdp = await post_offer(on_air, connection)
            assert code == 201 and "m=audio" not in sdp
            assert await collect(connection.getTransceivers()[0].receiver.track, 0.2, number_of)

    run_async(watch())


def test_where_there_is_no_sound_an_audio_section_is_left_empty():
    async def watch(sink):
        async with offering("video", "audio") as connection:
            code, _, sdp = await post_offer(sink, connection)
            assert code == 201 and "a=inactive" in sdp.split("m=audio")[1]

    with opened(sink_at()) as sink:
        assert status_of(sink)["sound"] is False and ask(sink.address)[0] == 200
        run_async(watch(sink))
