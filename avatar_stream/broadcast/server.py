"""The one web server of a pipeline: pages, WHEP for viewers, WHIP for the signer, on one event-loop thread."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration
from prometheus_client import CONTENT_TYPE_LATEST

from avatar_stream.broadcast.api import Api
from avatar_stream.broadcast.exchange import rtc_servers
from avatar_stream.broadcast.guard import Guard
from avatar_stream.broadcast.incoming.whip import Ingest
from avatar_stream.broadcast.listening import listen, reachable_host
from avatar_stream.broadcast.metrics import Metrics
from avatar_stream.broadcast.outgoing.whep import Audience
from avatar_stream.broadcast.ports import make_loop
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Controls, Status
from avatar_stream.errors import ConfigError, ServerError

logger = logging.getLogger(__name__)

PAGE_FOLDER = Path(__file__).resolve().parent / "pages"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_PORTS_SEARCHED = 20
_MAX_BODY_BYTES = 64 * 1024
_TLS_GOODBYE_S = 0.25  # a TLS connection is closed by both sides; asyncio gives no way to wait for that
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 10.0, 15.0
_SILENT_S = 10.0
_FOR_THE_CREW = {"dropped", "stages", "recording", "skeleton"}
_NO_VIEWERS = "this pipeline has no output for viewers: add {type: web} to its outputs"


class Server:
    """Serves a pipeline while at least one of its stages holds it open.

    Attributes:
        address: what to open in a browser; known once open.
        guard: who may come in, and the token.
        api: what crews ask and tell; takes the avatars that may be chosen.
        audience: the viewers; only where there is an output for them. Touch it only on the event loop.
        ingest: the signer who sends by WHIP.
    """

    def __init__(self, options: ServerOptions | None = None):
        """Store the options; nothing is opened."""
        self.options = options or ServerOptions()
        self.guard = Guard(self.options)
        self.address = ""
        self.audience: Audience | None = None
        self.ingest = Ingest(self.configuration)
        self.api = Api(self.guard, self._whole_status)
        self._metrics = Metrics(self._whole_status)
        self._status: Callable[[], dict] = dict
        self._lock, self._holders = threading.Lock(), 0
        self._running: _Running | None = None

    def configuration(self) -> RTCConfiguration:
        """The ICE servers, as aiortc takes them; asked for every connection."""
        return RTCConfiguration(iceServers=rtc_servers(self.options.ice_servers))

    def attach(self, controls: Controls) -> None:
        """Take what pages tell about the pipeline, and ask of it."""
        self.api.controls = controls

    def open(self) -> None:
        """Take the port and start the thread, unless another stage has; from any thread.

        Raises:
            ServerError: the port is taken, the host is none of this machine's, or the certificate cannot be read.
        """
        with self._lock:
            if self._running is None:
                self._start()
            self._holders += 1

    def close(self) -> None:
        """Let go; the last one stops the server. Once for each `open`."""
        with self._lock:
            self._holders = max(0, self._holders - 1)
            if self._holders == 0 and self._running is not None:
                running, self._running = self._running, None
                running.stop()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function on the event loop, soon; from any thread, never waits. ServerError if the server has died."""
        self._alive().call(function, *arguments)

    def check(self) -> None:
        """ServerError if the server has died; from any thread, costs nothing."""
        self._alive().check()

    def wait_for(self, coroutine: Coroutine) -> Any:
        """Run a coroutine on the event loop and return its result; not from the loop itself. ServerError: no answer."""
        return self._alive().wait_for(coroutine)

    def admit_viewers(self, make: Callable[[], Audience], status: Callable[[], dict]) -> Audience:
        """Begin to serve viewers.

        Args:
            make: makes the audience, on the event loop.
            status: gives the output's part of `/status`; called on the event loop.

        Raises:
            ConfigError: another output does so already.
        """
        if self.audience is not None:
            raise ConfigError(
                "a pipeline has one output 'web': any number of viewers, players and overlays share it"
            )

        async def begin() -> Audience:
            self.audience, self._status = make(), status
            self.audience.start()
            return self.audience

        return self.wait_for(begin())

    def dismiss_viewers(self) -> None:
        """Say goodbye to all viewers."""
        audience, self.audience, self._status = self.audience, None, dict
        if audience is not None and self._running is not None:
            self._running.wait_for(audience.close())

    def _start(self) -> None:
        options = self.options
        secure = self._load_certificate()
        listening = listen(options.host, options.port, _PORTS_SEARCHED if options.port_search else 0)
        scheme = "https" if secure else "http"
        self.address = f"{scheme}://{reachable_host(options.host)}:{listening.getsockname()[1]}/"
        running = _Running(
            self._application, listening, secure, self.ingest.close, partial(make_loop, options.udp_ports)
        )
        try:
            running.start()
        except ServerError:
            listening.close()
            raise
        self._running = running

    def _alive(self) -> _Running:
        running = self._running
        if running is None:
            raise ServerError("the web server is not open")
        return running

    def _load_certificate(self) -> ssl.SSLContext | None:
        if self.options.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # A password, though none: else OpenSSL asks for one at the terminal, and everything waits for it.
            context.load_cert_chain(self.options.certificate, self.options.key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ServerError(
                f"cannot use the certificate {self.options.certificate} with the key {self.options.key}, which must "
                f"have no password: {error}"
            ) from error
        return context

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        # Not a middleware: aiohttp keeps every application that has one in a cache, for ever.
        application.on_response_prepare.append(self.guard.add_headers)
        router = application.router
        for file in sorted(PAGE_FOLDER.iterdir()):
            router.add_get(f"/{file.name}", _page(file))
            if file.suffix == ".html":
                router.add_get("/" if file.stem == "index" else f"/{file.stem}", _page(file))
        router.add_get("/status", self._tell_status)
        router.add_post("/whep", self._begin_viewing)
        router.add_patch("/whep/{viewer}", self._viewers("change"))
        router.add_delete("/whep/{viewer}", self._viewers("leave"))
        router.add_post("/whip", self._signer(self.ingest.offer))
        router.add_patch("/whip/{session}", self._signer(self.ingest.change))
        router.add_delete("/whip/{session}", self._signer(self.ingest.leave))
        self.api.add_routes(router)
        router.add_get("/metrics", self._tell_metrics)
        router.add_get("/healthz", self._tell_health)
        for route in ("/whep", "/whep/{viewer}", "/whip", "/whip/{session}"):
            router.add_options(route, self._tell_options)
        return application

    async def _begin_viewing(self, request: web.Request) -> web.Response:
        self.guard.pace(request)
        there = self.audience.count_from(self.guard.address_of(request)) if self.audience is not None else 0
        if there >= self.options.sessions_per_address:
            raise web.HTTPTooManyRequests(
                text=f"{there} viewers from your address are the most: raise server.sessions_per_address",
                headers={"Retry-After": "10"},
            )
        return await self._viewers("offer")(request)

    def _viewers(self, verb: str):
        async def answer(request: web.Request) -> web.Response:
            self.guard.welcome(request)
            if self.audience is None:
                raise web.HTTPServiceUnavailable(text=_NO_VIEWERS)
            return await getattr(self.audience, verb)(self.guard.known(request))

        return answer

    def _signer(self, handler: Callable[[web.Request], Coroutine]):
        async def answer(request: web.Request) -> web.Response:
            self.guard.authorize(request)
            return await handler(self.guard.known(request))

        return answer

    async def _tell_options(self, request: web.Request) -> web.Response:
        self.guard.admit(request)
        accepted = {"Accept-Post": "application/sdp", "Accept-Patch": "application/trickle-ice-sdpfrag"}
        response = web.Response(status=204, headers=accepted)
        # A browser's own question before a request shows no token, and needs no credentials of TURN servers.
        if self.guard.may_watch(request):
            for server in self.options.ice_servers:
                for link in server.links():
                    response.headers.add("Link", link)
        return response

    async def _tell_status(self, request: web.Request) -> web.Response:
        self.guard.welcome(request)
        told = self._whole_status(request.query.get("viewer", ""))
        # Viewers are told nothing that names files or servers, or what the crew is at.
        told["messages"] = told.pop("notices")
        told = {key: value for key, value in told.items() if key not in _FOR_THE_CREW}
        return web.json_response(told | {"now_s": time.monotonic()})

    def _whole_status(self, viewer: str = "") -> dict[str, Any]:
        # On the event loop. The clock is added last: the less lies between it and the wire, the truer the delay.
        status = self.api.controls.status if self.api.controls is not None else Status()
        told = {"server": self._alive().id} | dataclasses.asdict(status)
        if self.audience is not None:
            told |= self.audience.tell(viewer)
        if self.ingest.opened:
            told["signer"] = self.ingest.tell()
        return told | self._status()

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        self.guard.authorize(request)
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _tell_health(self, request: web.Request) -> web.Response:
        # For supervisors and load balancers: pictures come, or the pipeline is only starting.
        silent_s = self._whole_status().get("silent_s")
        well = silent_s is None or silent_s < _SILENT_S
        return web.json_response({"ok": well, "silent_s": silent_s}, status=200 if well else 503)


class _Running:
    """The event loop's thread, from start to stop."""

    def __init__(self, make_application, listening, secure, finish, make_loop):
        self.id = uuid.uuid4().hex[:8]  # a page that sees another one knows that the server was started anew
        self._make_application, self._socket, self._secure = make_application, listening, secure
        self._finish, self._make_loop = finish, make_loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="web-server", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S) or self._error is not None:
            raise ServerError(f"the web server did not start: {self._error or 'no answer'}") from self._error

    def check(self) -> None:
        if self._error is not None:
            raise ServerError(f"the web server stopped: {self._error}") from self._error

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.check()
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:  # the loop has just been closed
            raise ServerError("the web server has stopped") from error

    def wait_for(self, coroutine: Coroutine) -> Any:
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:
            coroutine.close()
            raise ServerError("the web server has stopped") from error
        try:
            return future.result(_STOP_TIMEOUT_S)
        except TimeoutError as error:
            raise ServerError(f"the web server does not answer in {_STOP_TIMEOUT_S:.0f} s") from error

    def stop(self) -> None:
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise ServerError(f"the web server's thread '{self._thread.name}' does not stop")
        self._socket.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._make_loop) as runner:
                runner.run(self._serve())
        except Exception as error:  # the thread's shell: told to whoever calls next
            logger.exception("the web server failed")
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(
            self._make_application(), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        try:
            await runner.setup()
            await web.SockSite(runner, self._socket, ssl_context=self._secure).start()
            self._ready.set()
            await self._stop.wait()
        finally:
            await self._finish()
            await runner.cleanup()
            if self._secure is not None:
                await asyncio.sleep(_TLS_GOODBYE_S)


def _page(path: Path):
    async def send(request: web.Request) -> web.Response:
        # Small files, and a page that is open for days must not run an old script after an update.
        content = await asyncio.to_thread(path.read_bytes)
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=content, content_type=_TYPES[path.suffix], charset="utf-8", headers=headers)

    return send
