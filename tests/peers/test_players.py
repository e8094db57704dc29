"""Clients that others wrote (npm), in Chromium: they watch by WHEP and send by WHIP, from a page elsewhere."""

import contextlib
import subprocess

import numpy as np
import pytest
from support.ingest import TOKEN
from support.outward import STRIPES, Signer, serving
from support.pages import PATIENCE_MS, visiting
from support.places import ROOT
from support.stages import opened
from support.waiting import until

from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.sinks.web import WebSink
from avatar_stream.stages import Context

NPM = ROOT / "tests" / "npm"

there = (NPM / "node_modules" / "whip-whep").is_dir()
pytestmark = pytest.mark.skipif(not there, reason="clients from npm are missing: make test-tools")

PAGE = "<!doctype html><meta charset='utf-8'><title>x</title><video id='video' autoplay muted></video>"
PAGE += "<script type='module' src='bundle.js'></script>"
# Each client behind the same two functions: watch(address) and send(address, token) give a function that ends it.
ENTRY = """
import { WHEPClient } from "whip-whep/whep.js";
import { WHIPClient } from "whip-whep/whip.js";
import { WebRTCPlayer } from "@eyevinn/webrtc-player";
import { WHIPClient as EyevinnWHIP } from "@eyevinn/whip-web-client";

const video = document.querySelector("#video");
const camera = () => navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 } });

const watch = {
  async medooze(address) {
    const peer = new RTCPeerConnection(), client = new WHEPClient();
    peer.addTransceiver("video", { direction: "recvonly" });
    peer.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); };
    await client.view(peer, address);
    return () => client.stop();
  },
  async eyevinn(address) {
    const player = new WebRTCPlayer({ video, type: "whep", mediaConstraints: { videoOnly: true } });
    await player.load(new URL(address));
    return () => player.unload();
  },
};
const send = {
  async medooze(address, token) {
    const peer = new RTCPeerConnection(), client = new WHIPClient();
    for (const track of (await camera()).getVideoTracks()) peer.addTransceiver(track, { direction: "sendonly" });
    await client.publish(peer, address, token);
    return () => client.stop();
  },
  async eyevinn(address, token) {
    const client = new EyevinnWHIP({ endpoint: address, opts: { authkey: token } });
    await client.setIceServersFromEndpoint();
    await client.ingest(await camera());
    return () => client.destroy();
  },
};
let end = null;
window.begin = async (what, who, ...rest) => { end = await { watch, send }[what][who](...rest); };
window.finish = () => end();
window.ready = true;
"""
_COLOURS = """() => {
  const video = document.querySelector("#video");
  if (!video.videoWidth || video.getVideoPlaybackQuality().totalVideoFrames < 5) return null;
  const canvas = new OffscreenCanvas(3, 3), draw = canvas.getContext("2d");
  // The left edge, where the bar seldom is.
  draw.drawImage(video, 0, 0, 12, video.videoHeight, 0, 0, 3, 3);
  return [0, 1, 2].map((row) => [...draw.getImageData(1, row, 1, 1).data.slice(0, 3)]);
}"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A web page on an origin of its own with the clients in it; its address."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "index.html").write_text(PAGE)
    entry = NPM / "node_modules" / "entry.js"  # where names of packages are looked for
    bundle = [NPM / "node_modules/.bin/esbuild", "--bundle", "--format=esm", "--log-level=error"]
    with serving(folder) as address:
        command = [*map(str, bundle), f"--outfile={folder / 'bundle.js'}"]
        given = {"input": ENTRY, "cwd": entry.parent.parent, "text": True}
        done = subprocess.run(command, capture_output=True, **given)
        assert done.returncode == 0, done.stderr
        yield address


@contextlib.contextmanager
def ready(browser, elsewhere):
    with visiting(browser, elsewhere) as page:
        page.wait_for_function("window.ready", timeout=PATIENCE_MS)
        yield page


@pytest.mark.parametrize("player", ["medooze", "eyevinn"])
def test_a_player_from_npm_watches(browser, elsewhere, player):
    server = Server(ServerOptions(port=0, origins=(elsewhere,)))
    sink = WebSink(context=Context(server=server))
    with ready(browser, elsewhere) as page, Signer(sink, size=(320, 240)):
        page.evaluate("(rest) => begin('watch', ...rest)", [player, f"{sink.address}whep"])
        page.wait_for_function(f"({_COLOURS})()", timeout=PATIENCE_MS)
        colours = [page.evaluate(_COLOURS) for _ in range(5) if not page.wait_for_timeout(150)]
        assert server.audience.connected == 1
        page.evaluate("finish()")
        until(lambda: server.audience.connected == 0)
    assert np.abs(np.median(colours, axis=0) - STRIPES).max() < 30, colours


@pytest.mark.parametrize("client", ["medooze", "eyevinn"])
def test_a_whip_client_from_npm_is_the_camera(browser, elsewhere, client):
    server = Server(ServerOptions(port=0, origins=(elsewhere,), token=TOKEN))
    with opened(server), ready(browser, elsewhere) as page:
        server.ingest.opened = True
        page.evaluate("(rest) => begin('send', ...rest)", [client, f"{server.address}whip", TOKEN])
        until(lambda: server.ingest.state == "sending", timeout_s=30)
        arrival = server.ingest.arrivals.get(10)
        assert (arrival.picture.width, arrival.picture.height) == (320, 240)
        assert arrival.picture.to_ndarray(format="rgb24").std() > 20, "Chromium's camera plays a clip"
        page.evaluate("finish()")
        until(lambda: server.ingest.state == "nobody")
