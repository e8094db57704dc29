"""Offers that nobody sane would send: clear answers, never a 500, nobody left behind, the show goes on."""

import json
import random

import pytest
from support.stages import opened
from support.waiting import run_async, wait_until
from support.web import ask_server as ask
from support.web import offering

from avatar_stream.broadcast.outgoing.whep import Audience
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import EncodingOptions, ServerOptions

SDP = "application/sdp"
CLEAR = {201, 400, 406, 409, 413, 415, 422, 429, 503}
FRAGMENT = "application/trickle-ice-sdpfrag"


@pytest.fixture(scope="module")
def offer():
    async def make():
        async with offering() as connection:
            return connection.localDescription.sdp

    return run_async(make())


@pytest.fixture
def server():
    server = Server(ServerOptions(port=0, sessions_per_address=1000))
    server.guard._offers._burst = 100_000
    with opened(server):
        server.ingest.opened = True
        server.admit_viewers(lambda: Audience(server.configuration, EncodingOptions(), max_viewers=400), dict)
        yield server
        server.dismiss_viewers()


def spoiled(sdp, chance):
    """The offer with lines gone, doubled, swapped, cut, or with numbers and letters that nobody expects."""
    lines = sdp.split("\r\n")
    for _ in range(chance.randint(1, 4)):
        place, deed = chance.randrange(len(lines)), chance.randrange(6)
        line = lines[place]
        if deed == 0:
            del lines[place : place + chance.randint(1, 5)]
        elif deed == 1:
            lines[place:place] = [line] * chance.randint(1, 50)
        elif deed == 2:
            lines[place] = line[: chance.randint(0, len(line))]
        elif deed == 3:
            lines[place] = "".join(str(chance.randint(0, 10**9)) if each.isdigit() else each for each in line)
        elif deed == 4:
            strange = chr(chance.choice([0, 9, 0x7F, 0xE9, 0x2028, 0x1F600]))
            lines[place] = line + strange * chance.randint(1, 300)
        else:
            chance.shuffle(lines)
        lines = lines or [""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("path", ["whep", "whip"])
def test_spoiled_offers_are_answered_and_nothing_stays(server, offer, path):
    chance, codes = random.Random(7), []
    for _ in range(150):
        code, headers, text = ask(server, path, spoiled(offer, chance), **{"Content-Type": SDP})
        codes.append(code)
        assert code in CLEAR, text[:200]
        assert b"Traceback" not in text
        if code == 201:
            place = headers["Location"].lstrip("/")
            junk = bytes(chance.randrange(256) for _ in range(chance.randint(0, 200)))
            given = {"Content-Type": FRAGMENT, "If-Match": headers["ETag"]}
            assert 200 <= ask(server, place, junk, "PATCH", **given)[0] < 500
            assert ask(server, place, method="DELETE")[0] == 200
        else:
            assert text, "says why"
    assert codes.count(400) > 20
    assert json.loads(ask(server, "status")[2])["viewers"] == 0
    assert ask(server, "healthz")[0] == 200


def test_hundreds_of_half_open_sessions_do_not_keep_a_real_viewer_out_for_long(server, offer, monkeypatch):
    """They take places until they are let go; whoever asks meanwhile is told when to come again."""
    monkeypatch.setattr("avatar_stream.broadcast.outgoing.whep._CONNECT_TIMEOUT_S", 2.0)
    lonely = "\r\n".join(line for line in offer.split("\r\n") if not line.startswith("a=candidate:")).encode()
    codes = [ask(server, "whep", lonely, **{"Content-Type": SDP})[0] for _ in range(120)]
    assert set(codes) <= {201, 503, 429}
    assert wait_until(lambda: json.loads(ask(server, "status")[2])["viewers"] == 0, 30)
    code, headers, _ = ask(server, "whep", offer.encode(), **{"Content-Type": SDP})
    assert code == 201 and ask(server, headers["Location"].lstrip("/"), method="DELETE")[0] == 200
