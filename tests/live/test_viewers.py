"""One encode for all viewers: what each gets, and what one costs the others."""

import asyncio
import contextlib
import json
import random

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from support.stages import opened
from support.waiting import run_async
from support.web import Feeder, drawn, offering, post_offer, sink_at, status_of

from avatar_stream.broadcast.outgoing.rung import Rung
from avatar_stream.cli import main
from avatar_stream.types import Frame

PATIENCE_S = 30


@contextlib.asynccontextmanager
async def viewing(sink, picture="avatar", codecs=None):
    """A real receiver: its connection and its tracks."""
    async with offering(codecs=codecs) as connection:
        code, _, sdp = await post_offer(sink, connection, picture)
        tracks = [transceiver.receiver.track for transceiver in connection.getTransceivers()]
        yield code, sdp, tracks, connection


async def picture_of(track):
    return await asyncio.wait_for(track.recv(), PATIENCE_S)


def codec_of(sdp):
    """Name of the codec that an answer gives first."""
    first = sdp.split("m=video ")[1].split()[2]
    return sdp.split(f"a=rtpmap:{first} ")[1].split("/")[0]


@pytest.mark.parametrize(
    ("offered", "got"), [(("VP8", "H264"), "H264"), (("H264",), "H264"), (("VP8",), "VP8")]
)
def test_h264_for_those_who_have_it_and_vp8_for_the_others(offered, got):
    async def watch(sink):
        async with viewing(sink, codecs=offered) as (code, sdp, tracks, _):
            assert code == 201 and codec_of(sdp) == got
            frame = await picture_of(tracks[0])
            assert (frame.width, frame.height) == (320, 256)

    with opened(sink_at(keyframe_interval_s=60)) as sink, Feeder(sink):
        run_async(watch(sink))


def test_an_offer_without_the_wanted_codec_is_told_why():
    async def watch(sink):
        async with viewing(sink, codecs=("VP8",)) as (code, text, *_):
            assert code == 400 and "h264" in text

    with opened(sink_at(codec="h264")) as sink:
        run_async(watch(sink))
        assert status_of(sink)["viewers"] == 0


@pytest.mark.parametrize(("picture", "word"), [("driver", "option driver"), ("nothing", "avatar, overlay")])
def test_a_picture_that_is_not_sent_is_told(picture, word):
    async def watch(sink):
        async with viewing(sink, picture) as (code, text, *_):
            assert code == 400 and word in text

    with opened(sink_at()) as sink:
        run_async(watch(sink))


@pytest.mark.parametrize("side_px", [512, 1024])
def test_the_picture_the_driver_alone_and_the_overlay_with_its_matte(side_px):
    """Also at the largest size, whole: 1024 x 1024, and an overlay of 1024 x 2048."""
    person, at = np.zeros((side_px, side_px, 4), np.uint8), side_px // 2
    person[side_px // 5 : 4 * side_px // 5, side_px // 3 : 2 * side_px // 3] = (200, 40, 40, 255)

    async def watch(sink):
        found = []
        for picture in ("overlay", "driver", "avatar"):
            async with viewing(sink, picture) as (_, _, tracks, _):
                found.append((await picture_of(tracks[0])).to_ndarray(format="rgb24").astype(int))
        return found

    with opened(sink_at(driver=True)) as sink:
        driver = np.full((60, 80, 3), (20, 200, 20), np.uint8)
        image = person[..., :3].copy()
        sink.write(Frame(image=image, time_s=5.0, index=0, person=person, driver=driver))
        packed, driver, plain = run_async(watch(sink))
    assert packed.shape == (2 * side_px, side_px, 3) and plain.shape == (side_px, side_px, 3)
    assert np.abs(packed[at, at] - (200, 40, 40)).max() < 12, "colour above"
    assert packed[side_px + at, at].min() > 240 and packed[side_px + 50, 50].max() < 15, "matte below"
    assert np.abs(driver[30, 30] - (20, 200, 20)).max() < 25


def test_viewers_are_encoded_for_once():
    async def watch(sink):
        async with contextlib.AsyncExitStack() as stack:
            crowd = [await stack.enter_async_context(viewing(sink)) for _ in range(6)]
            for _, _, tracks, _ in crowd:
                await picture_of(tracks[0])
            begin = sink._audience.status("")
            counts = await asyncio.gather(*(count(tracks[0], 1.0) for _, _, tracks, _ in crowd))
            end = sink._audience.status("")
        encoded = end["encoded"] - begin["encoded"]
        assert end["connected"] == 6 and end["bitrate_kbps"] > 0
        assert sum(counts) > 3 * encoded, "each picture was encoded once and seen by most"
        assert end["keyframes"] <= 8, "six that came at their own times"

    async def count(track, seconds):
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await track.recv()
                    seen += 1
        return seen

    with opened(sink_at(keyframe_interval_s=60)) as sink, Feeder(sink):
        run_async(watch(sink))


def test_nobody_there_nothing_encoded():
    with opened(sink_at()) as sink:
        for index in range(5):
            sink.write(Frame(image=drawn(index), time_s=index / 25, index=index))
        assert sink._audience.status("")["encoded"] == 0


def test_a_viewer_that_takes_nothing_is_dropped_and_holds_up_nobody():
    async def watch(sink):
        async with viewing(sink) as (_, _, tracks, _), viewing(sink) as (_, _, others, _):
            await asyncio.gather(picture_of(tracks[0]), picture_of(others[0]))
            sink._server.thread.call(hang, list(sink._audience.viewers.values())[0])
            for _ in range(10_000):
                await picture_of(others[0])
                if len(sink._audience.viewers) == 1:
                    break
            assert len(sink._audience.viewers) == 1
            for _ in range(5):
                await picture_of(others[0])

    def hang(viewer):
        # As into a connection that takes nothing more; it goes on reporting that it is well.
        viewer.videos[0].waiting_bytes = lambda: 10**6

    with opened(sink_at(viewer_timeout_s=2)) as sink, Feeder(sink):
        run_async(watch(sink))


def test_a_poor_network_gets_half_the_side_and_only_that_one():
    chance = random.Random(5)

    async def watch(sink):
        async with viewing(sink) as (_, _, tracks, connection), viewing(sink) as (_, _, others, _):
            await asyncio.gather(picture_of(tracks[0]), picture_of(others[0]))
            transport = connection.getTransceivers()[0].receiver.transport
            handle = transport._handle_rtp_data

            async def lossy(data, **given):
                if chance.random() > 0.3:
                    await handle(data, **given)

            transport._handle_rtp_data = lossy
            draining = asyncio.create_task(drain(others[0]))
            widths = []
            async with asyncio.timeout(PATIENCE_S):
                while not widths or widths[-1] == 320:
                    widths.append((await tracks[0].recv()).width)
            assert widths[-1] == 160
            assert (await asyncio.wait_for(others[0].recv(), PATIENCE_S)).width == 320
            draining.cancel()

    async def drain(track):
        with contextlib.suppress(MediaStreamError):
            while True:
                assert (await track.recv()).width == 320

    with opened(sink_at()) as sink, Feeder(sink):
        run_async(watch(sink))


def test_what_viewers_report_is_heard():
    async def watch(sink):
        async with viewing(sink) as (_, _, tracks, _):
            told = {"heard_s": None, "estimate_bps": None, "round_trip_s": None}
            async with asyncio.timeout(PATIENCE_S):
                while None in told.values():
                    await tracks[0].recv()
                    (viewer,) = sink._audience.viewers.values()
                    sending = viewer.videos[0]
                    told |= {key: getattr(sending, key) for key in told if told[key] is None}
        assert told["estimate_bps"] > 1000 and 0 <= told["round_trip_s"] < 5
        assert sending.loss < 0.5 and sending.waiting_bytes() == 0

    with opened(sink_at()) as sink, Feeder(sink):
        run_async(watch(sink))


# ---- what decides about the rung ----


def judged(rung, reports, from_s=0):
    """`half` after each second's report (loss, estimate, sent)."""
    return [rung.judge(from_s + second, *report) for second, report in enumerate(reports)]


GOOD, LOSSY = (0.0, None, 1e6), (0.2, None, 1e6)


def test_loss_for_some_seconds_is_poor_and_a_moment_of_it_is_not():
    assert not any(judged(Rung(), [LOSSY, LOSSY, GOOD] * 10))
    assert judged(Rung(), [LOSSY] * 6) == [False] * 3 + [True] * 3


def test_back_after_calm_and_longer_calm_when_that_did_not_hold():
    rung, second, waits = Rung(), 0, []
    for _ in range(6):
        while not rung.judge(second, *LOSSY):
            second += 1
        begun = second
        while rung.judge(second, *GOOD):
            second += 1
        waits.append(second - begun)
    assert waits[0] == pytest.approx(10, abs=2)
    assert waits[1] >= 1.8 * waits[0] and waits[2] >= 1.8 * waits[1]
    assert max(waits) < 170
    while second < begun + 2000:
        rung.judge(second, *GOOD)
        second += 1
    while not rung.judge(second, *LOSSY):
        second += 1
    begun = second
    while rung.judge(second, *GOOD):
        second += 1
    assert second - begun == pytest.approx(10, abs=2), "long good, then as at the first time"


def test_an_estimate_counts_only_where_it_falls_short_and_packets_wait():
    sent_bps, at_rest_s, waiting_s = 1e6, 0.02, 0.4
    good = [(0.0, 3e6, sent_bps, at_rest_s)] * 3
    growing = [(0.0, 2e5 * 1.08**second, sent_bps, at_rest_s) for second in range(25)]
    assert not any(judged(Rung(), growing)), "they begin low and grow: no news about the network"
    falling = [6e5 - 4e4 * second for second in range(8)]
    assert judged(Rung(), good + [(0.0, each, sent_bps, waiting_s) for each in falling])[-1]
    assert not any(judged(Rung(), good + [(0.0, each, sent_bps, at_rest_s) for each in falling]))
    assert not any(judged(Rung(), good + [(0.0, 3 * each, sent_bps, waiting_s) for each in falling[:3]]))


def test_bench_viewers(tmp_path, capsys):
    path = tmp_path / "viewers.json"
    words = "bench viewers --viewers 3 --plain-viewers 1 --seconds 1 --size 128 --json".split()
    assert main([*words, str(path)]) == 0
    figures = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == figures
    assert figures["viewers"] == 3 and figures["plain"]["viewers"] == 1
    assert figures["fps_min"] > 1 and figures["kbps_per_viewer"] > 0
    per_viewer = figures["cpu_cores_per_viewer"]
    assert per_viewer == pytest.approx(figures["cpu_cores_server"] / 3, rel=0.05)
    assert figures["ratio"] == pytest.approx(per_viewer / figures["plain"]["cpu_cores_per_viewer"], rel=0.1)
    assert main(["bench", "viewers", "--viewers", "0"]) == 1
