"""The web output: WHEP over HTTP, and headless Chromium that plays the page and reads back its pixels."""

import asyncio
import contextlib
import gc
import os
import re
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import psutil
import pytest
from support.outward import free_port
from support.pages import CHROMIUM, visiting, wait_for, wait_for_pictures
from support.stages import opened
from support.waiting import run_async, wait_until
from support.web import CLOCK_MS, COLLECT, Feeder, ask, drawn, offering, post_offer, sink_at, status_of

from avatar_stream.controls import Controls, Status
from avatar_stream.errors import ServerError, SinkError
from avatar_stream.types import Frame


def watching(browser, sink, **options):
    return visiting(browser, sink.address, **options)


def count_objects():
    gc.collect()
    return len(gc.get_objects())


# ---- without a browser ----


def test_port_taken_says_whom_to_ask():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} .*taken.*--port"):
            sink_at(port).open()
        with opened(sink_at(port, port_search=True)) as sink:
            assert int(sink.address.split(":")[2].strip("/")) in range(port + 1, port + 21)
            assert ask(sink.address)[0] == 200


def test_a_host_of_another_machine_is_told():
    with pytest.raises(ServerError, match="192.0.2.1.*127.0.0.1 or 0.0.0.0"):
        sink_at(free_port(), host="192.0.2.1").open()


def test_page_and_its_files_are_served():
    with opened(sink_at()) as sink:
        for path, kind in (("", "text/html"), ("player.js", "text/javascript"), ("style.css", "text/css")):
            code, headers, text = ask(sink.address + path)
            assert code == 200 and headers.get_content_type() == kind and text
        assert "AI-generated" in ask(sink.address)[2]
        assert ask(sink.address + "../setup.cfg")[0] == 404


def test_whep_speaks_its_protocol():
    async def talk(sink):
        async with offering() as connection:
            code, headers, sdp = await post_offer(sink, connection)
            assert code == 201 and headers["Content-Type"].startswith("application/sdp")
            assert "a=sendonly" in sdp and "a=candidate" in sdp
            resource = sink.address.rstrip("/") + headers["Location"]
            assert status_of(sink)["viewers"] == 1
            late(sink, resource, headers["ETag"], connection)
            assert ask(resource, "DELETE")[0] == 200
            assert ask(resource, "DELETE")[0] == 404
            assert status_of(sink)["viewers"] == 0

    def late(sink, resource, etag, connection):
        """Candidates that come after the offer (RFC 8840)."""
        user = re.search(r"a=ice-ufrag:(\S+)", connection.localDescription.sdp)[1]
        fragment = f"a=ice-ufrag:{user}\r\nm=video 9 x 0\r\na=mid:0\r\n"
        candidate = "a=candidate:1 1 UDP 2130706431 127.0.0.1 40000 typ host\r\n"
        given = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": etag}

        def patch(body=fragment + candidate, **other):
            headers = {key: value for key, value in (given | other).items() if value}
            return ask(resource, "PATCH", body, **headers)[0]

        assert patch() == 204
        assert patch(fragment + candidate + "a=end-of-candidates\r\n") == 204
        assert patch("a=candidate:nonsense\r\n") == 400
        assert patch(**{"Content-Type": "application/sdp"}) == 415
        assert patch(**{"If-Match": '"another"'}) == 412
        assert patch(fragment.replace(user, "other") + candidate) == 422, "an ICE restart"
        assert ask(sink.address + "whep/nobody", "PATCH", candidate, **given)[0] == 404

    with opened(sink_at()) as sink:
        run_async(talk(sink))
        sdp = {"Content-Type": "application/sdp"}
        assert ask(sink.address + "whep", "OPTIONS")[0] == 204
        assert ask(sink.address + "whep", "GET")[0] == 405
        assert ask(sink.address + "whep", "POST", "{}", **{"Content-Type": "application/json"})[0] == 415
        for offer in ("nonsense", "v=0\r\nm=video 9 x\r\n", "v=0\r\n", "\x00\xff"):
            code, headers, text = ask(sink.address + "whep", "POST", offer, **sdp)
            assert code == 400 and text
        assert ask(sink.address + "whep", "POST", "m=video " * 20_000, **sdp)[0] == 413
        assert status_of(sink)["viewers"] == 0


def test_only_our_page_and_those_named_may_watch():
    """Every page open in the signer's browser can reach 127.0.0.1."""
    friend = "https://friend.example"

    async def post(sink, **headers):
        async with offering() as connection:
            code, told, text = await post_offer(sink, connection, **headers)
        return code, told.get("Access-Control-Allow-Origin"), text

    with opened(sink_at(origins=(friend,))) as sink:
        own, port = sink.address.rstrip("/"), sink.address.split(":")[2].strip("/")
        for origin in (own, None):
            code, allowed, _ = run_async(post(sink, **({"Origin": origin} if origin else {})))
            assert (code, allowed) == (201, None)
        assert run_async(post(sink, Origin=friend))[:2] == (201, friend)
        allowed = ask(sink.address + "whep", "OPTIONS", Origin=friend)[1]["Access-Control-Allow-Origin"]
        assert allowed == friend
        for origin in ("https://evil.example", "null", f"http://evil.example:{port}"):
            code, allowed, text = run_async(post(sink, Origin=origin))
            assert (code, allowed) == (403, None) and "origins" in text
            for path, method in (("status", "GET"), ("whep/x", "DELETE"), ("whep", "OPTIONS")):
                assert ask(sink.address + path, method, Origin=origin)[0] == 403
        rebound = f"evil.example:{port}"  # a name of the attacker's that leads to this machine
        assert ask(sink.address + "status", Host=rebound)[0] == 403
        assert run_async(post(sink, Host=rebound, Origin=f"http://{rebound}"))[0] == 403
        assert ask(sink.address + "status", Host=f"localhost:{port}")[0] == 200


def test_the_signer_is_sent_only_where_that_was_asked_for():
    async def sections(sink):
        async with offering("video", "video") as connection:
            return (await post_offer(sink, connection))[2].count("a=sendonly")

    with opened(sink_at()) as sink, Feeder(sink):
        assert not sink.options.driver and run_async(sections(sink)) == 1


def test_another_player_gets_both_pictures_at_their_capture_times():
    """WHEP without our page, as OBS would: true time stamps, the avatar first, the driver second."""

    async def watch(sink):
        async with offering("video", "video") as connection, asyncio.timeout(60):
            await post_offer(sink, connection)
            tracks = [transceiver.receiver.track for transceiver in connection.getTransceivers()]
            avatar, driver = await asyncio.gather(*(track.recv() for track in tracks))
            return avatar, driver, [(await tracks[0].recv()).time for _ in range(12)]

    with opened(sink_at(driver=True)) as sink, Feeder(sink):
        avatar, driver, times_s = run_async(watch(sink))
    assert (avatar.width, avatar.height) == (320, 256)
    assert (driver.width, driver.height) == (320, 120), "no wider than driver_width_px"
    assert abs(driver.to_ndarray(format="rgb24")[60, 160].astype(int) - (200, 40, 40)).max() < 25
    steps_s = np.diff(times_s)
    assert (steps_s > 0.03).all() and np.median(steps_s) < 1, "no counter: as far apart as captured"


def test_starts_and_stops_leave_nothing():
    process = psutil.Process()

    def once():
        async def visit(sink):
            async with offering() as connection:
                await post_offer(sink, connection)

        with opened(sink_at()) as sink:
            sink.write(Frame(image=drawn(1), time_s=time.monotonic(), index=0))
            run_async(visit(sink))

    once()
    objects = count_objects()
    threads, files = threading.active_count(), process.num_fds()
    for _ in range(8):
        once()
    assert threading.active_count() == threads and process.num_fds() <= files
    assert count_objects() < objects + 200, "some are kept at every start"


def test_a_server_that_died_ends_the_output_with_its_reason():
    sink = sink_at()
    sink.open()
    try:
        sink.context.server.thread.call(lambda: asyncio.get_running_loop().stop())
        assert wait_until(lambda: not any(each.name == "web-server" for each in threading.enumerate()), 10)
        with pytest.raises(ServerError, match="web server stopped"):
            sink.write(Frame(image=drawn(1), time_s=time.monotonic(), index=0))
    finally:
        with contextlib.suppress(ServerError):
            sink.close()


def test_a_sink_that_is_not_open_says_so():
    with pytest.raises(SinkError, match="not open"):
        sink_at().write(Frame(image=drawn(0), time_s=0, index=0))


# ---- with a browser ----


@pytest.mark.parametrize("capture_delay_s", [0.0, 0.3])
def test_page_plays_and_its_delay_is_true(browser, capture_delay_s):
    """The delay out of the pixels' clock and the delay shown, both from capture to screen."""
    with opened(sink_at()) as sink, Feeder(sink, capture_delay_s) as feeder, watching(browser, sink) as page:
        wait_for_pictures(page)
        wait_for(page, "avatarStream.clocks.length > 5 && avatarStream.exact")
        seen = page.evaluate(COLLECT, 30)
        # This process' clock against the page's, by the shortest of some exchanges.
        exchanges = []
        for _ in range(20):
            before_s = time.monotonic()
            page_ms = page.evaluate("performance.now()")
            after_s = time.monotonic()
            exchanges.append((after_s - before_s, (before_s + after_s) / 2 - page_ms / 1000))
        offset_s = min(exchanges)[1]
        shown_ms = float(page.inner_text("#delay").removesuffix(" ms"))
        shown_fps = float(page.inner_text("#fps"))
    numbers = [number for number, _ in seen]
    assert len(set(numbers)) > 20 and numbers == sorted(numbers), "decoded pictures change, in order"
    begun_ms = 1000 * (feeder.start_s - offset_s)
    delays_ms = [at_ms - begun_ms - number * CLOCK_MS for number, at_ms in seen]
    assert shown_ms == pytest.approx(np.median(delays_ms), abs=120)
    assert min(delays_ms) > capture_delay_s * 1000 - 30
    assert 0 < shown_fps < 35


def test_page_comes_back_after_a_server_restart(browser):
    port = free_port()
    with contextlib.ExitStack() as first:
        sink = first.enter_context(opened(sink_at(port)))
        feeder = first.enter_context(Feeder(sink))
        page = first.enter_context(watching(browser, sink))
        wait_for_pictures(page)
        page.evaluate("window.notReloaded = true")
        server = page.evaluate("avatarStream.serverId")
        feeder.__exit__()
        sink.close()
        wait_for(page, "document.getElementById('veil').textContent.length > 0")
        with opened(sink_at(port)) as again, Feeder(again):
            wait_for(page, f"avatarStream.serverId !== '{server}'")
            wait_for_pictures(page)
            numbers = [number for number, _ in page.evaluate(COLLECT, 8)]
            assert len(set(numbers)) > 3
            wait_for(page, "document.getElementById('veil').classList.contains('gone')")
            assert page.evaluate("window.notReloaded"), "by itself"


def test_a_viewer_that_says_goodbye_is_gone_at_once(browser):
    with opened(sink_at(viewer_timeout_s=600)) as sink, Feeder(sink):
        with watching(browser, sink) as page:
            wait_for_pictures(page)
            assert status_of(sink)["viewers"] == 1
            page.goto("about:blank")
            assert wait_until(lambda: status_of(sink)["viewers"] == 0)


def test_a_viewer_that_vanishes_is_let_go(tmp_path):
    """Killed: it closes nothing and says nothing."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    with opened(sink_at(viewer_timeout_s=3)) as sink, Feeder(sink):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        program = subprocess.Popen([CHROMIUM, *options, sink.address], start_new_session=True, **quiet)
        try:
            connected = wait_until(lambda: status_of(sink)["connected"] == 1)
        finally:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait(20)
        assert connected and wait_until(lambda: status_of(sink)["viewers"] == 0)


def test_a_viewer_who_finds_no_place_is_told_and_gets_the_next_one(browser):
    with opened(sink_at(max_viewers=1)) as sink, Feeder(sink):
        with watching(browser, sink) as first:
            wait_for_pictures(first)
            with watching(browser, sink) as second:
                second.get_by_text("All places are taken").wait_for()
                assert status_of(sink)["viewers"] == 1
                first.goto("about:blank")
                wait_for_pictures(second)


def test_a_viewer_who_comes_in_silence_sees_the_last_picture(browser):
    """The camera is unplugged: the page says so, and whoever comes now is not left in the dark."""
    with opened(sink_at()) as sink, Feeder(sink) as feeder:
        time.sleep(0.2)
        feeder.paused.set()
        with watching(browser, sink) as page:
            wait_for_pictures(page)
            wait_for(page, "document.getElementById('veil').textContent.includes('camera')")
            assert page.inner_text("#delay") == "–", "no delay is claimed for a picture that stands still"
            feeder.paused.clear()
            wait_for(page, "document.getElementById('veil').classList.contains('gone')")
            wait_for(page, "document.getElementById('delay').textContent.includes('ms')")


def test_a_viewer_before_the_first_picture_waits_for_it(browser):
    """The model loads for longer than a viewer's timeout; nobody is sent away or connects in circles."""
    with opened(sink_at(viewer_timeout_s=2)) as sink, watching(browser, sink) as page:
        wait_for(page, "document.getElementById('veil').textContent.includes('first picture')")
        resource = page.evaluate("avatarStream.resource")
        page.wait_for_timeout(2500)
        assert resource and page.evaluate("avatarStream.resource") == resource
        with Feeder(sink):
            wait_for_pictures(page)
            page.wait_for_timeout(1200)
            assert page.evaluate("avatarStream.resource") == resource


def test_page_shows_driver_messages_and_answers_to_keys(browser):
    controls = Controls()
    controls.tell(Status(fps=25, notices=("Your left hand leaves the picture",)))
    with opened(sink_at(driver=True), controls) as sink, Feeder(sink), watching(browser, sink) as page:
        wait_for_pictures(page)
        wait_for(page, "!document.getElementById('driver-figure').hidden")
        page.get_by_text("Your left hand leaves the picture").wait_for()
        page.keyboard.press("s")
        assert page.locator("#driver-figure").is_hidden()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "full"
        page.keyboard.press("f")
        wait_for(page, "document.fullscreenElement?.id === 'stage'")
        page.keyboard.press("f")
        wait_for(page, "document.fullscreenElement === null")


def test_without_a_driver_there_is_no_second_picture(browser):
    with opened(sink_at()) as sink, Feeder(sink), watching(browser, sink) as page:
        wait_for_pictures(page)
        wait_for(page, "avatarStream.clocks.length > 4")
        assert page.locator("#driver-figure").is_hidden() and page.locator("#signer").is_hidden()


def test_a_browser_plays_on_through_a_change_of_rung(browser):
    def switch(half):
        (video,) = next(iter(sink._audience.viewers.values())).videos
        video.track.switch(sink._audience.streams.stream("avatar", video.track.stream.codec, half))

    with opened(sink_at()) as sink, Feeder(sink), watching(browser, sink) as page:
        wait_for_pictures(page)
        resource = page.evaluate("avatarStream.resource")
        for half, width in ((True, 160), (False, 320)):
            sink._server.thread.call(switch, half)
            wait_for(page, f"document.getElementById('avatar').videoWidth === {width}")
            shown = page.evaluate("avatarStream.frameTimesMs.at(-1)")
            wait_for(page, f"avatarStream.frameTimesMs.at(-1) > {shown} + 400")
        assert page.evaluate("avatarStream.resource") == resource, "the same connection"
        wait_for(page, "avatarStream.exact && avatarStream.delayMs !== null")
        assert page.evaluate("avatarStream.delayMs") < 2000, "times are still those of the capture"
