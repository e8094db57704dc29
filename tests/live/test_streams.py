"""Streams: one encode for all takers; nobody waits for anybody."""

import asyncio
import threading
import time

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from support.waiting import run_async

from avatar_stream.broadcast.outgoing import streams
from avatar_stream.broadcast.outgoing.encoder import TICKS_PER_S
from avatar_stream.broadcast.outgoing.streams import VideoStream
from avatar_stream.broadcast.settings import EncodingOptions
from avatar_stream.errors import SinkError

PATIENCE_S = 20
OPTIONS = EncodingOptions(keyframe_interval_s=60)


def grey(level, size=(64, 48)):
    return np.full((size[1], size[0], 3), level, np.uint8)


def run(body, *arguments, **options):
    """Run `body(stream, *arguments)` on a loop, with a stream that is closed afterwards."""
    stream = VideoStream("h264", OPTIONS, **options)

    async def inside():
        try:
            return await asyncio.wait_for(body(stream, *arguments), PATIENCE_S)
        finally:
            await asyncio.to_thread(stream.close)

    return run_async(inside())


async def feed(stream, stopped, apart_s=0.02):
    """Put pictures with the clock's time until told to stop."""
    start_s = time.monotonic()
    while not stopped.is_set():
        now_s = time.monotonic() - start_s
        stream.put(grey(int(now_s * 50) % 200), round(now_s * TICKS_PER_S))
        await asyncio.sleep(apart_s)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_nothing_is_encoded_without_a_taker():
    worked = []

    async def body(stream):
        threads = threading.active_count()
        for index in range(5):
            stream.put(lambda: worked.append(1) or grey(90), index * 3000)
            await asyncio.sleep(0.02)
        stream.track()
        await asyncio.sleep(0.1)
        assert not worked and threading.active_count() == threads, "a track alone, nobody asked it yet"

    run(body)


def test_all_takers_get_the_same_pictures_encoded_once():
    async def body(stream):
        encodes, encode = [], stream._encoder.encode
        stream._encoder.encode = lambda *given: encodes.append(given[1]) or encode(*given)
        stopped = asyncio.Event()
        feeding = asyncio.create_task(feed(stream, stopped))
        tracks = [stream.track() for _ in range(5)]
        await asyncio.gather(*(track.recv() for track in tracks))
        await until(lambda: stream.takers == 5)
        got = await asyncio.gather(*(collect(track, 10) for track in tracks))
        stopped.set()
        await feeding
        common = set.intersection(*({shared.encoded.pts for shared in each} for each in got))
        assert len(common) >= 5
        pictures = {id(shared) for each in got for shared in each if shared.encoded.pts in common}
        assert len(pictures) == len(common), "one object, packetised once"
        assert len(encodes) == len(set(encodes)), "no picture twice"

    async def collect(track, count):
        return [await track.next() for _ in range(count)]

    run(body)


def test_a_newcomer_begins_with_a_keyframe_also_in_silence():
    async def body(stream):
        stream.put(grey(120), 0)
        for _ in range(2):
            begun_s = time.monotonic()
            track = stream.track()
            packet = await track.recv()
            assert packet.is_keyframe and time.monotonic() - begun_s < 1.0
            frame = av.CodecContext.create("h264", "r")
            frames = frame.decode(packet) + frame.decode(None)
            assert abs(frames[0].to_ndarray(format="rgb24").mean() - 120) < 4

    run(body)


def test_a_silent_source_is_told_again_later():
    async def body(stream):
        stream.put(grey(120), 1000)
        track = stream.track()
        begun_s = time.monotonic()
        times = [(await track.recv()).pts for _ in range(5)]
        passed_s = time.monotonic() - begun_s
        assert np.diff(times).min() > 0.05 * TICKS_PER_S and times[0] >= 1000
        assert (times[-1] - times[0]) / TICKS_PER_S == pytest.approx(passed_s, abs=0.3), "its times go on"

    run(body)


def test_keyframe_requests_are_gathered():
    async def body(stream):
        stopped = asyncio.Event()
        feeding = asyncio.create_task(feed(stream, stopped))
        tracks = [stream.track() for _ in range(6)]
        await asyncio.gather(*(track.recv() for track in tracks))
        keyframes = []
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < 1.5:
            for track in tracks:
                track.request_keyframe()
            stream.request_keyframe()
            packet = await tracks[0].recv()
            keyframes += [packet.pts] if packet.is_keyframe else []
        stopped.set()
        await feeding
        assert 1 <= len(keyframes) <= 5, "six viewers that ask all the time"
        if len(keyframes) > 1:
            assert np.diff(keyframes).min() >= 0.9 * streams._KEYFRAMES_APART_S * TICKS_PER_S

    run(body)


def test_one_that_asks_again_and_again_waits_longer():
    async def body(stream):
        asked = []
        track = stream.track()
        stream.request_keyframe = lambda: asked.append(time.monotonic())
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < 2.2:
            track.request_keyframe()
            await asyncio.sleep(0.01)
        assert 1 <= len(asked) <= 3, "at once, after 0.4 s and 0.8 s more; the next would be 1.6 s later"

    run(body)


def test_one_that_falls_behind_skips_to_a_keyframe_and_holds_up_nobody():
    async def body(stream):
        stopped = asyncio.Event()
        feeding = asyncio.create_task(feed(stream, stopped, apart_s=0.005))
        slow, quick = stream.track(), stream.track()
        await asyncio.gather(slow.recv(), quick.recv())
        last_pts = slow.pts
        for _ in range(60):
            await quick.recv()
        assert quick.behind_s < 1
        assert slow.behind_s > 0.2
        assert len(slow._queue) <= streams._QUEUE_PICTURES, "no queue grows"
        packet = await slow.recv()
        assert packet.is_keyframe and packet.pts > last_pts
        stopped.set()
        await feeding

    run(body)


def test_a_track_goes_over_to_another_rung_with_a_keyframe():
    async def body(stream):
        small = VideoStream("h264", OPTIONS, half=True)
        stopped = asyncio.Event()

        class Both:
            def put(self, picture, pts):
                stream.put(picture, pts)
                small.put(picture, pts)

        feeding = asyncio.create_task(feed(Both(), stopped))
        try:
            track = stream.track()
            await track.recv()
            track.switch(small)
            assert track.stream is small
            got = []
            while not got or got[-1].encoded.width == 64:
                got.append(await track.next())
            assert got[-1].encoded.keyframe and (got[-1].encoded.width, got[-1].encoded.height) == (32, 24)
            await until(lambda: stream.takers == 0 and small.takers == 1)
            first_pts = track.pts
            track.switch(stream)
            track.switch(small)
            assert stream.takers == 0, "changed its mind"
            assert (await track.recv()).pts > first_pts
        finally:
            stopped.set()
            await feeding
            await asyncio.to_thread(small.close)

    run(body)


def test_times_only_go_forward():
    async def body(stream):
        track, times = stream.track(), []
        for pts in (5000, 5000, 100, 9000):
            stream.put(grey(50), pts)
            times.append((await track.recv()).pts)
        assert times == sorted(set(times)) and times[-1] == 9000

    run(body)


def test_the_end_reaches_every_taker():
    async def body(stream):
        stream.put(grey(50), 0)
        tracks = [stream.track() for _ in range(3)]
        await asyncio.gather(*(track.recv() for track in tracks))
        tracks[0].stop()
        assert stream.takers == 2
        waiting = [asyncio.create_task(drain(track)) for track in tracks]
        await asyncio.to_thread(stream.close)
        await asyncio.gather(*waiting)
        with pytest.raises(MediaStreamError):
            await stream.track().recv()

    async def drain(track):
        with pytest.raises(MediaStreamError):
            while True:
                await track.recv()

    run(body)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_is_told_to_whoever_puts():
    async def body(stream):
        def broken():
            raise RuntimeError("no picture here")

        stream.put(broken, 0)
        with pytest.raises(MediaStreamError):
            await stream.track().recv()
        with pytest.raises(SinkError, match="no picture here"):
            stream.put(grey(0), 1)

    run(body)
