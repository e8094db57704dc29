"""The crew's door: who may come in, what can be asked for, what is told; and what a running pipeline makes of it."""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.ingest import TOKEN
from support.stages import Asking, Slow, make_pipeline
from support.web import ask_server as ask

from avatar_stream.broadcast.guard import Guard, TokenBucket
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Setting, Status, Wish
from avatar_stream.errors import ServerError
from avatar_stream.running import runner


def test_the_crew_must_show_the_token_and_the_network_is_told_nothing_without_it(opened):
    server = opened(token=TOKEN)
    for path, body in (("api/status", None), ("api/hold", {"on": True}), ("api/stop", {}), ("metrics", None)):
        for token in (None, "wrong", TOKEN[:-1], TOKEN + "x"):
            server.guard._wrong = TokenBucket(10, 1)
            code, headers, text = ask(server, path, body, token=token)
            assert code == 401 and headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in text.decode()
    assert server.api.controls.take() == []
    assert ask(server, "api/status", token=TOKEN)[0] == 200


def test_who_guesses_tokens_is_made_to_wait(opened):
    server = opened(token=TOKEN)
    codes = [ask(server, "api/status", token=f"guess {k}")[0] for k in range(14)]
    assert codes[0] == 401 and codes[-1] == 429
    assert ask(server, "api/status", token=TOKEN)[0] == 429, "the right one too, or guessing would be told"


def test_behind_a_proxy_each_guesser_waits_for_himself(opened):
    server = opened(token=TOKEN, proxies=("127.0.0.1",))
    guesser = {"X-Forwarded-For": "203.0.113.9"}
    codes = [ask(server, "api/status", token=f"guess {k}", **guesser)[0] for k in range(12)]
    assert codes[-1] == 429
    assert ask(server, "api/status", token=TOKEN, **{"X-Forwarded-For": "198.51.100.4"})[0] == 200
    forged = {"X-Forwarded-For": "198.51.100.4, 203.0.113.9"}
    assert ask(server, "api/status", token=TOKEN, **forged)[0] == 429, "only the proxy's own word counts"
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.address).netloc, timeout=20)
    connection.putrequest("GET", "/api/status")
    for value in ("198.51.100.4", "203.0.113.9"):  # the client's own line, then the proxy's
        connection.putheader("X-Forwarded-For", value)
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.endheaders()
    assert connection.getresponse().status == 429, "also where the proxy's word is a line of its own"
    connection.close()
    straight = opened(token=TOKEN)
    others = [{"X-Forwarded-For": f"192.0.2.{k}"} for k in range(12)]
    codes = [ask(straight, "api/status", token="guess", **headers)[0] for headers in others]
    assert codes[-1] == 429, "who is no proxy may not name itself"


def test_turn_credentials_of_a_private_broadcast_need_the_token(opened):
    turn = {"urls": "turn:turn.example.org", "username": "u", "credential": "secret"}
    server = opened(token=TOKEN, private=True, ice_servers=(turn,))
    code, headers, _ = ask(server, "whep", method="OPTIONS")
    assert code == 204 and headers["Link"] is None
    assert "secret" in ask(server, "whep", method="OPTIONS", token=TOKEN)[1]["Link"]


def test_tokens_are_made_where_strangers_can_reach_the_server():
    assert Guard(ServerOptions()).token is None
    made = [Guard(ServerOptions(host="0.0.0.0")) for _ in range(2)]
    assert made[0].made and len(made[0].token) >= 16 and made[0].token != made[1].token
    assert Guard(ServerOptions(private=True)).made, "private viewers need one here too"
    chosen = Guard(ServerOptions(host="0.0.0.0", token=TOKEN))
    assert chosen.token == TOKEN and not chosen.made, "one that somebody chose is not printed"


def test_a_certificate_that_cannot_be_used_is_told(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    secret = serialization.BestAvailableEncryption(b"a password")
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(*form, secret)
    (tmp_path / "locked.pem").write_bytes(locked)
    for name in ("locked.pem", "gone.pem"):
        with pytest.raises(ServerError, match=f"key .*{name}, which must have no password"):
            Server(ServerOptions(port=0, certificate=tmp_path / name, key=tmp_path / name)).open()


def test_wishes_arrive_as_they_were_asked(opened):
    server = opened()
    for name in ("hold", "human", "recording", "frozen", "skeleton"):
        code, _, text = ask(server, f"api/{name}", {"on": True})
        assert code == 202 and json.loads(text)["accepted"] is True
    for name in ("calibrate", "background", "stop"):
        assert ask(server, f"api/{name}", {})[0] == 202
    assert ask(server, "api/avatar", {"name": "mei"})[0] == 202
    wished = [Wish.HOLD, Wish.HUMAN, Wish.RECORD, Wish.FREEZE, Wish.SKELETON]
    expected = [Setting(each, True) for each in wished]
    expected += [Wish.CALIBRATE, Wish.NEXT_BACKGROUND, Wish.QUIT, Setting(Wish.AVATAR, "mei")]
    assert server.api.controls.take() == expected


@pytest.mark.parametrize(
    ("path", "body", "kind", "code"),
    [
        ("api/avatar", {"name": "nobody"}, "application/json", 404),
        ("api/avatar", {"name": "../../etc"}, "application/json", 404),
        ("api/avatar", {"name": 3}, "application/json", 422),
        ("api/avatar", {"name": "mei", "more": 1}, "application/json", 422),
        ("api/hold", {"on": "yes"}, "application/json", 422),
        ("api/hold", b"{", "application/json", 400),
        ("api/hold", b"\xff\xfe", "application/json", 400),
        ("api/hold", b"[" * 60_000, "application/json", 400),
        ("api/hold", b'{"on": true}', "text/plain", 415),
        ("api/hold", b" " * 200_000, "application/json", 413),
        ("api/none", {}, "application/json", 404),
    ],
)
def test_a_wrong_wish_is_told_and_nothing_is_done(opened, path, body, kind, code):
    server = opened()
    answer = ask(server, path, body, **{"Content-Type": kind})
    assert answer[0] == code
    if path != "api/none":
        assert json.loads(answer[2])["error"]
    assert server.api.controls.take() == []


def test_viewers_are_told_no_names_of_files(opened):
    server = opened()
    recorded = "recorded /home/crew/recordings/secret.mp4"
    dropped = {"render-/home/crew/secret.mp4": 1}
    told = Status(messages=(recorded,), notices=("Step back a little",), dropped=dropped)
    server.api.controls.tell(told)
    told = ask(server, "status")[2].decode()
    assert "Step back" in told and "secret" not in told and "/home" not in told
    assert recorded in json.loads(ask(server, "api/status")[2])["messages"]


def test_a_foreign_page_may_not_wish(opened):
    server = opened()
    assert ask(server, "api/stop", {}, Origin="https://evil.example")[0] == 403
    port = server.address.split(":")[2].strip("/")
    assert ask(server, "api/stop", {}, Host=f"evil.example:{port}")[0] == 403
    assert server.api.controls.take() == []


def test_every_answer_has_strict_headers_and_frames_are_for_those_named(opened):
    server = opened(origins=("https://friend.example",))
    for path in ("", "control", "overlay", "api/status", "nothing"):
        headers = ask(server, path)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert policy.endswith("frame-ancestors 'self' https://friend.example")
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_avatars_have_pictures(opened):
    server = opened()
    avatars = json.loads(ask(server, "api/avatars")[2])
    assert len(avatars) >= 6
    code, headers, picture = ask(server, avatars[0]["portrait"].lstrip("/"))
    assert code == 200 and headers.get_content_type() == "image/png" and picture.startswith(b"\x89PNG")
    for name in ("nobody", "%2e%2e%2fmei%2fportrait", "..%2f..%2f..%2fetc%2fpasswd"):
        assert ask(server, f"portraits/{name}.png")[0] == 404


def test_prometheus_reads_the_figures(opened):
    server = opened()
    more = {"dropped": {"capture-analyze": 3}, "stages": {"tracker": 26.0}}
    status = Status(fps=24.5, delay_ms=90, p95_ms=120, **more)
    server.api.controls.tell(status)
    code, headers, text = ask(server, "metrics")
    assert code == 200 and headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(text.decode())
    found = [sample for family in families for sample in family.samples]
    samples = {(sample.name, *sample.labels.values()): sample.value for sample in found}
    assert samples["avatar_stream_fps",] == 24.5
    assert samples["avatar_stream_delay_p95_milliseconds",] == 120
    assert samples["avatar_stream_dropped_frames_total", "capture-analyze"] == 3
    assert samples["avatar_stream_stage_milliseconds", "tracker"] == 26


def test_health_needs_no_token_and_tells_no_secret(opened):
    server = opened(token=TOKEN)
    code, _, text = ask(server, "healthz")
    assert code == 200 and set(json.loads(text)) == {"ok", "silent_s"}


def test_the_api_keeps_to_its_description(opened):
    """Thousands of strange requests made from the OpenAPI file: no 500, nothing that it does not say."""
    import hypothesis
    import schemathesis

    server = opened(token=TOKEN)
    server.guard._wrong = TokenBucket(100_000, 1)  # it tries wrong tokens too
    schema = schemathesis.openapi.from_dict(json.loads(ask(server, "openapi.json", token=TOKEN)[2]))
    schema.config.update(base_url=server.address.rstrip("/"))
    rules = hypothesis.settings(max_examples=10, deadline=None, database=None, derandomize=True)
    count = 0

    for result in schema.get_all_operations():
        operation = result.ok()

        @rules
        @hypothesis.given(case=operation.as_strategy())
        def check(case):
            nonlocal count
            count += 1
            case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"})

        check()
    assert count > 100
    assert ask(server, "healthz")[0] == 200


def test_a_running_pipeline_holds_cuts_and_comes_back():
    """Card and signer replace the avatar, in every output's picture; nothing claims that they are AI-generated."""
    sink = Asking({
        5: [Setting(Wish.HOLD, True), Setting(Wish.HOLD, True)],
        25: [Setting(Wish.HOLD, False), Setting(Wish.HUMAN, True)],
        45: [Setting(Wish.HUMAN, False)],
        70: [Wish.QUIT],
    })  # fmt: skip
    kept, write = [], sink.write

    def keep(frame):
        alpha = frame.person[..., 3].min()
        kept.append((frame.synthetic, frame.image.mean(axis=(0, 1)), alpha, frame.image.shape))
        write(frame)

    sink.write = keep
    runner.run(make_pipeline([sink], live=True, frames=None, fps=60, synthesizer=Slow(colour=200)))
    told = [(status.held, status.human) for status in sink.told]
    assert (True, False) in told and (False, True) in told and told[-1] == (False, False)
    synthetic = [each[0] for each in kept]
    assert synthetic[0] and synthetic[-1] and not all(synthetic)
    assert all(alpha == 255 for real, _, alpha, _ in kept if not real), "no avatar behind an overlay's card"
    assert len({shape for *_, shape in kept}) == 1, "an encoder need not begin anew"
    tones = [colour for real, colour, *_ in kept if not real]
    assert max(np.abs(tones[0] - tones[-1])) > 1, "the card, then the signer"


def test_another_avatar_by_name():
    from avatar_stream.running.pipeline import Cast

    synthesizers = {name: Slow(colour=10 + 50 * place) for place, name in enumerate(("one", "two", "three"))}
    sink = Asking({3: [Setting(Wish.AVATAR, "three")], 30: [Wish.QUIT]})
    retargeter = make_pipeline([]).cast.retargeter
    recast = lambda name, current: Cast(name, retargeter, synthesizers[name])  # noqa: E731
    more = {"synthesizer": synthesizers["one"], "recast": recast, "avatars": list(synthesizers)}
    pipeline = make_pipeline([sink], live=True, frames=None, fps=60, **more)
    runner.run(pipeline)
    assert sink.told[-1].avatar == "three"


def test_an_allowance_comes_back_with_time_and_strangers_fill_no_memory():
    pace = TokenBucket(2, 50.0, addresses=3)
    assert [pace.take("a") for _ in range(3)] == [True, True, False]
    time.sleep(0.05)
    assert pace.take("a")
    for k in range(10):
        pace.take(f"b{k}")
    assert len(pace._left) == 3
