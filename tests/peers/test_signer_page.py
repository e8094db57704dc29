"""The signer's page in headless Chromium, whose camera plays the bundled clip, through to the source's frames."""

import contextlib
import dataclasses

import numpy as np
import pytest
from support.camera_clip import CORNER_PX
from support.certificates import make_certificate
from support.ingest import TOKEN, receiving
from support.pages import launched, visiting, wait_for
from support.stages import opened
from support.waiting import wait_until
from support.web import ask

from avatar_stream.broadcast.listening import reachable_host
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Controls, Setting, Status, Wish
from avatar_stream.places import bundled
from avatar_stream.sinks.web import WebSink
from avatar_stream.stages import Context

FAKE_DEVICE, FAKE_YES = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
PHONE, DESKTOP = (390, 844), (1280, 800)


@pytest.fixture(scope="module")
def launch(playwright, camera):
    with contextlib.ExitStack() as running:

        def start(*arguments):
            clip = f"--use-file-for-fake-video-capture={camera}"
            return running.enter_context(launched(playwright, clip, *arguments))

        yield start


def signing(browser, server, fragment="", size=DESKTOP, **options):
    return visiting(browser, f"{server.address}signer{fragment}", size, **options)


def start_sending(page):
    # The fake user has allowed the camera before, so that the page opens it by itself.
    page.get_by_role("button", name="Start sending").click()


def shows_the_clip(frame):
    """The green block is on the left: what is sent is no mirror's picture."""
    height_px, width_px = frame.image.shape[:2]
    part = (height_px * CORNER_PX // 480, width_px * CORNER_PX // 640)
    left = frame.image[: part[0] // 2, : part[1] // 2].mean(axis=(0, 1))
    right = frame.image[: part[0] // 2, -part[1] // 2 :].mean(axis=(0, 1))
    return np.abs(left - (0, 200, 0)).max() < 60 and np.abs(right - (0, 200, 0)).max() > 80


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_signer_sends_from_the_page(browser, size):
    controls = Controls()
    controls.tell(Status(avatar="mei", notices=("Your left hand leaves the picture",)))
    with (
        receiving(controls) as (server, reader),
        signing(browser, server, size=size) as page,
    ):
        assert "AI-generated" in page.inner_text("#notice") and "human signer" in page.inner_text("#notice")
        start_sending(page)
        frame = reader.wait_for(shows_the_clip)
        assert frame.image.shape[2] == 3 and frame.image.shape[1] > frame.image.shape[0]
        page.locator("#badge").wait_for()
        page.get_by_text("Your left hand leaves the picture").wait_for()
        wait_for(page, "document.getElementById('quality').textContent.length > 1")
        assert " × " in page.inner_text("#sent") and " ms" in page.inner_text("#way")
        assert "mirrored" in page.locator("#own").get_attribute("class")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        for name in ("#own", "#send", "#avatar", "#advice"):
            box = page.locator(name).bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= size[1], f"{name}: first screen"
        page.get_by_role("button", name="Stop sending").click()
        assert wait_until(lambda: server.ingest.state == "nobody")
        page.get_by_text("Only you see this").wait_for()
        before = len(reader.frames)
        page.keyboard.press("s")
        reader.wait_for(shows_the_clip, after=before)


AVATAR_CORNER = """() => {
  const video = document.getElementById("avatar");
  if (!video.videoWidth) return [0, 0, 0];
  const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
  pen.drawImage(video, 0, 0, video.videoWidth / 16, video.videoHeight / 16, 0, 0, 1, 1);
  return Array.from(pen.getImageData(0, 0, 1, 1).data.slice(0, 3));
}"""


def test_the_signer_sees_the_avatar_and_its_delay(browser):
    """From the camera to the page, through source and web output; negatives stand for the avatar."""
    controls, server = Controls(), Server(ServerOptions(port=0))
    controls.tell(Status(fps=25.0, avatar="mei"))
    sink = WebSink(context=Context(server=server))

    def answer(frame):
        sink.write(dataclasses.replace(frame, image=255 - frame.image))

    with opened(sink, controls), receiving(server=server, on_frame=answer), signing(browser, server) as page:
        assert page.inner_text("#delay") == "–"
        start_sending(page)
        green = np.array((255, 55, 255))
        assert wait_until(lambda: np.abs(page.evaluate(AVATAR_CORNER) - green).max() < 60)
        wait_for(page, "document.getElementById('delay').textContent.endsWith(' ms')")
        page.get_by_text("You are seen well").wait_for()
        controls.tell(Status(fps=25.0, notices=("Step back a little",)))
        page.get_by_text("Step back a little").wait_for()
        controls.tell(Status(fps=25.0, human=True))
        page.get_by_text("Viewers see your own picture now").wait_for()
        assert page.get_by_text("You are seen well").count() == 0


def test_the_page_sends_late_candidates(browser):
    """As it would those of a TURN server, which come after the offer."""
    patch = """async ([etag, address]) => {
      const { fragment } = await import("/session.js");
      const { sender } = avatarStream;
      const candidate = { candidate: `candidate:9 1 udp 1 ${address} 9 typ relay raddr 0.0.0.0 rport 0` };
      const body = fragment(sender.connection.localDescription.sdp, [candidate]);
      return (await sender.trickle(sender.resource, etag, body)).status;
    }"""
    with receiving() as (server, reader), signing(browser, server) as page:
        start_sending(page)
        reader.wait_for(shows_the_clip)
        session = page.evaluate("avatarStream.sender.resource").rpartition("/")[2]
        assert page.evaluate(patch, [f'"{session[:8]}"', "192.0.2.7"]) == 204
        assert page.evaluate(patch, ['"another"', "192.0.2.7"]) == 412


def test_the_signer_comes_back_by_itself(browser):
    """The connection dies; later the page is loaded again. Nobody presses anything."""
    with receiving() as (server, reader), signing(browser, server) as page:
        start_sending(page)
        reader.wait_for(shows_the_clip)
        session = page.evaluate("avatarStream.sender.resource")
        assert ask(session, "DELETE")[0] == 200
        before = len(reader.frames)
        reader.wait_for(shows_the_clip, after=before + 1)
        assert page.evaluate("avatarStream.sender.resource") != session
        page.reload()
        before = len(reader.frames)
        reader.wait_for(shows_the_clip, after=before + 1)


def test_a_camera_that_went_comes_back_also_before_anything_is_sent(browser):
    with receiving() as (server, _), signing(browser, server) as page:
        wait_for(page, "avatarStream.state.stream !== null")
        page.evaluate("avatarStream.state.stream.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
        page.get_by_text("The camera is gone. Connect it again: this goes on by itself.").wait_for()
        page.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
        wait_for(page, "avatarStream.state.stream !== null && document.getElementById('trouble').hidden")


def test_who_leaves_the_page_has_left(browser):
    with receiving() as (server, reader):
        with signing(browser, server) as page:
            start_sending(page)
            reader.wait_for(shows_the_clip)
            page.goto("about:blank")
            assert wait_until(lambda: server.ingest.state == "nobody")
        reader.wait_for(lambda frame: frame.index > 1 and frame.image.std() == 0)


def test_the_signer_picks_an_avatar(browser):
    controls = Controls()
    controls.tell(Status(avatar="mei"))
    folder = bundled("assets") / "avatars"
    with receiving(controls) as (server, _):
        server.api.portraits = {name: folder / name / "portrait.png" for name in ("mei", "ben", "elena")}
        with signing(browser, server) as page:
            wait_for(page, "document.querySelector('input[value=mei]')?.checked")
            wait_for(page, "document.querySelector('.face img').naturalWidth >= 512")
            controls.take()
            page.get_by_text("elena").click()
            asked = []
            assert wait_until(lambda: asked.extend(controls.take()) or asked)
            assert asked == [Setting(Wish.AVATAR, "elena")]
            assert page.evaluate("document.querySelector('input[value=elena]').checked"), "before it is there"
            page.locator("input[value=elena]").press("ArrowLeft")
            assert wait_until(lambda: Setting(Wish.AVATAR, "ben") in controls.take())


def test_the_token_is_asked_for_and_kept(browser):
    with receiving(token=TOKEN) as (server, reader):
        with signing(browser, server) as page:
            page.get_by_label("Token").fill("a-wrong-token")
            page.get_by_role("button", name="Use it").click()
            page.get_by_text("The token is wrong").wait_for()
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Use it").click()
            start_sending(page)
            reader.wait_for(shows_the_clip)
            assert page.locator("#token-form").is_hidden()
        with signing(browser, server, f"#token={TOKEN}") as page:
            start_sending(page)
            reader.wait_for(shows_the_clip, after=len(reader.frames))
            assert TOKEN not in page.url, "not left standing in the address"


def test_a_second_page_may_take_over(browser):
    with receiving() as (server, reader), signing(browser, server) as first:
        start_sending(first)
        reader.wait_for(shows_the_clip)
        with signing(browser, server) as second:
            start_sending(second)
            second.get_by_text("Another signer is sending").wait_for()
            assert server.ingest.state == "sending"
            second.get_by_role("button", name="Take over").click()
            second.locator("#badge").wait_for()
            first.get_by_text("Another signer is sending").wait_for()
            assert first.locator("#badge").is_hidden() and second.locator("#badge").is_visible()


def test_words_where_there_is_no_camera(launch):
    with receiving() as (server, _):
        for arguments, word in (([FAKE_DEVICE], "refused"), ([FAKE_YES], "No camera was found")):
            with signing(launch(*arguments), server) as page:
                page.get_by_role("button", name="Turn on the camera").click()
                page.get_by_text(word).wait_for()
                assert page.get_by_role("button", name="Turn on the camera").is_enabled()


def test_words_where_nobody_waits_for_a_signer(browser):
    """A pipeline with a camera of its own; once it takes signers, the page sends by itself."""
    with opened(Server(ServerOptions(port=0))) as server, signing(browser, server) as page:
        start_sending(page)
        page.get_by_text("must be {type: whip}").wait_for()
        with receiving(server=server) as (_, reader):
            reader.wait_for(shows_the_clip)
            page.locator("#badge").wait_for()
            wait_for(page, "document.getElementById('trouble').hidden")


def test_words_where_the_page_is_not_secure(browser):
    with receiving(host="0.0.0.0", token=TOKEN) as (server, _):
        if "127.0.0.1" in server.address:
            pytest.skip("this machine has no other address")
        with signing(browser, server, f"#token={TOKEN}") as page:
            page.get_by_text("only on pages by https").wait_for()


def test_a_signer_on_another_machine_sends_by_https(browser, tmp_path):
    """By the address that others see; there browsers open cameras only on pages by HTTPS."""
    host = reachable_host("0.0.0.0")
    if host == "127.0.0.1":
        pytest.skip("this machine has no other address")
    certificate, key = make_certificate(tmp_path, host)
    secure = {"host": "0.0.0.0", "token": TOKEN, "certificate": certificate, "key": key}
    with receiving(**secure) as (server, reader):
        assert server.address.startswith(f"https://{host}:")
        with signing(browser, server, f"#token={TOKEN}", PHONE, ignore_https_errors=True) as page:
            start_sending(page)
            reader.wait_for(shows_the_clip)
