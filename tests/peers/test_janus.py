"""Onwards into Janus (Debian's), with Chromium watching there: the set-up of deploy/janus, on other ports."""

import contextlib
import re
import shutil
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from support.ingest import TOKEN
from support.outward import STRIPES, Signer, answers, free_port, running
from support.pages import PATIENCE_MS
from support.places import ROOT
from support.waiting import until

from avatar_stream.sinks.whip import WhipSink

FOLDER = ROOT / "deploy" / "janus"

pytestmark = pytest.mark.skipif(shutil.which("janus") is None, reason="apt-get install janus")

# The colours in the middle of each third of the picture, where the white bar is not, and the picture's number.
_LOOK = """() => {
  const video = document.querySelector("#video");
  if (!video.videoWidth) return null;
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight), draw = canvas.getContext("2d");
  draw.drawImage(video, 0, 0);
  const { data } = draw.getImageData(0, 0, canvas.width, canvas.height), rows = [];
  for (const part of [1 / 6, 3 / 6, 5 / 6]) {
    const first = 4 * canvas.width * Math.round(part * canvas.height);
    const row = [...data.slice(first, first + 4 * canvas.width)];
    rows.push([0, 1, 2].map((channel) => row.filter((_, at) => at % 4 === channel).sort((a, b) => a - b)));
  }
  return { seen: video.getVideoPlaybackQuality().totalVideoFrames,
           colours: rows.map((row) => row.map((values) => values[values.length >> 1])) };
}"""


@pytest.fixture
def janus(tmp_path):
    """Janus and the adapter with the configuration that ships; the adapter's address."""
    ports = {"8088": str(free_port()), "20000-20200": "21000-21200"}
    for name in ("janus.jcfg", "janus.transport.http.jcfg", "janus.plugin.videoroom.jcfg"):
        text = (FOLDER / name).read_text()
        for before, after in ports.items():
            text = text.replace(before, after)
        (tmp_path / name).write_text(text)
    interface = f"http://127.0.0.1:{ports['8088']}/janus"
    port = free_port()
    adapter = [sys.executable, str(FOLDER / "whip_adapter.py"), "--janus", interface, "--token", TOKEN]
    with running(["janus", "-o", "-F", str(tmp_path), "-C", str(tmp_path / "janus.jcfg")]):
        until(lambda: answers(f"{interface}/info"))
        with running([*adapter, "--port", str(port)]):
            address = f"http://127.0.0.1:{port}/"
            until(lambda: answers(address))
            yield address


def test_chromium_watches_in_janus_what_is_published_there(browser, janus, tmp_path):
    sink = WhipSink(WhipSink.Options(url=f"{janus}whip", token=TOKEN))
    with contextlib.closing(browser.new_page()) as page:
        page.goto(janus)
        page.get_by_text("Nobody is signing yet").wait_for(timeout=PATIENCE_MS)
        with Signer(sink, size=(320, 240)):
            until(lambda: sink.connections == 1)
            page.wait_for_function(f"({_LOOK})()?.seen > 10", timeout=PATIENCE_MS)
            seen = page.evaluate(_LOOK)
            page.screenshot(path=tmp_path / "watch.png")
            before = seen["seen"]
            page.wait_for_function(f"({_LOOK})().seen > {before + 10}", timeout=PATIENCE_MS)
        assert sink.notice == ""
    assert np.abs(np.array(seen["colours"]) - STRIPES).max() < 30, seen


def test_a_viewer_who_closed_the_browser_is_forgotten(browser, janus):
    asked = []

    def known() -> bool:
        try:
            urllib.request.urlopen(asked[0], data=b"", timeout=20).close()
        except urllib.error.HTTPError as error:
            return error.code != 404
        return True

    with Signer(WhipSink(WhipSink.Options(url=f"{janus}whip", token=TOKEN)), size=(320, 240)):
        page = browser.new_page()
        page.on("request", lambda request: "/watch/" in request.url and asked.append(request.url))
        page.goto(janus)
        page.wait_for_function(f"({_LOOK})()?.seen > 3", timeout=PATIENCE_MS)
        assert known()
        page.close()
        until(lambda: not known())


def test_janus_behind_the_adapter_wants_the_token(janus):
    sink = WhipSink(WhipSink.Options(url=f"{janus}whip", token="not-this-one"))
    with Signer(sink):
        until(lambda: re.search("HTTP 401", sink.notice))
        assert sink.connections == 0
