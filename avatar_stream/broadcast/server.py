"""The one web server of a pipeline: pages, WHEP for viewers, WHIP for the signer, on one event-loop thread."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from avatar_stream.broadcast.api import Api
from avatar_stream.broadcast.exchange import rtc_servers
from avatar_stream.broadcast.guard import Guard
from avatar_stream.broadcast.incoming.whip import Ingest
from avatar_stream.broadcast.listening import listen, reachable_host
from avatar_stream.broadcast.loop_thread import LoopThread
from avatar_stream.broadcast.metrics import Metrics
from avatar_stream.broadcast.outgoing.whep import Audience
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Controls, Status
from avatar_stream.errors import ConfigError, ServerError

PAGE_FOLDER = Path(__file__).resolve().parent / "pages"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_PORTS_SEARCHED = 20
_MAX_BODY_BYTES = 64 * 1024
_TLS_GOODBYE_S = 0.25  # a TLS connection is closed by both sides; asyncio gives no way to wait for that
_SILENT_S = 10.0
_FOR_THE_CREW = {"dropped", "stages", "recording", "skeleton"}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
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
        self._status: Callable[[], dict[str, Any]] = dict
        self._lock, self._holders = threading.Lock(), 0
        self._thread: LoopThread | None = None
        self._id = ""  # a page that sees another one knows that the server was started anew

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
            if self._thread is None:
                self._start()
            self._holders += 1

    def close(self) -> None:
        """Let go; the last one stops the server. Once for each `open`."""
        with self._lock:
            self._holders = max(0, self._holders - 1)
            if self._holders == 0 and self._thread is not None:
                thread, self._thread = self._thread, None
                thread.stop()

    @property
    def thread(self) -> LoopThread:
        """The event loop's thread, where everything of the web runs; ServerError while the server is not open."""
        if self._thread is None:
            raise ServerError("the web server is not open")
        return self._thread

    def admit_viewers(self, make: Callable[[], Audience], status: Callable[[], dict[str, Any]]) -> Audience:
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
            return self.audience

        return self.thread.wait_for(begin())

    def dismiss_viewers(self) -> None:
        """Say goodbye to all viewers."""
        audience, self.audience, self._status = self.audience, None, dict
        if audience is not None and self._thread is not None:
            self._thread.wait_for(audience.close())

    def _start(self) -> None:
        options = self.options
        secure = self._load_certificate()
        listening = listen(options.host, options.port, _PORTS_SEARCHED if options.port_search else 0)
        scheme = "https" if secure else "http"
        self.address = f"{scheme}://{reachable_host(options.host)}:{listening.getsockname()[1]}/"
        thread = LoopThread(
            "web server", partial(self._serve, listening, secure), ServerError, options.udp_ports
        )
        try:
            thread.start()
        except ServerError:
            listening.close()
            raise
        self._thread, self._id = thread, uuid.uuid4().hex[:8]

    async def _serve(
        self,
        listening: socket.socket,
        secure: ssl.SSLContext | None,
        ready: Callable[[], None],
        stop: asyncio.Event,
    ) -> None:
        runner = web.AppRunner(
            self._application(), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        try:
            await runner.setup()
            await web.SockSite(runner, listening, ssl_context=secure).start()
            ready()
            await stop.wait()
        finally:
            await self.ingest.close()
            await runner.cleanup()
            if secure is not None:
                await asyncio.sleep(_TLS_GOODBYE_S)
            listening.close()

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
        router.add_patch("/whep/{viewer}", self._viewers("patch"))
        router.add_delete("/whep/{viewer}", self._viewers("delete"))
        router.add_post("/whip", self._signer(self.ingest.post))
        router.add_patch("/whip/{session}", self._signer(self.ingest.patch))
        router.add_delete("/whip/{session}", self._signer(self.ingest.delete))
        self.api.add_routes(router)
        router.add_get("/metrics", self._tell_metrics)
        router.add_get("/healthz", self._tell_health)
        for route in ("/whep", "/whep/{viewer}", "/whip", "/whip/{session}"):
            router.add_options(route, self._tell_options)
        return application

    async def _begin_viewing(self, request: web.Request) -> web.StreamResponse:
        self.guard.pace(request)
        there = self.audience.count_from(self.guard.address_of(request)) if self.audience is not None else 0
        if there >= self.options.sessions_per_address:
            raise web.HTTPTooManyRequests(
                text=f"{there} viewers from your address are the most: raise server.sessions_per_address",
                headers={"Retry-After": "10"},
            )
        return await self._viewers("post")(request)

    def _viewers(self, method: str) -> _Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.guard.welcome(request)
            if self.audience is None:
                raise web.HTTPServiceUnavailable(text=_NO_VIEWERS)
            handler: _Handler = getattr(self.audience, method)
            return await handler(self.guard.known(request))

        return answer

    def _signer(self, handler: _Handler) -> _Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
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
        status = self._whole_status(request.query.get("viewer", ""))
        # Viewers are told nothing that names files or servers, or what the crew is at.
        status["messages"] = status.pop("notices")
        status = {key: value for key, value in status.items() if key not in _FOR_THE_CREW}
        return web.json_response(status | {"now_s": time.monotonic()})

    def _whole_status(self, viewer: str = "") -> dict[str, Any]:
        # On the event loop. The clock is added last: the less lies between it and the wire, the truer the delay.
        status = self.api.controls.status if self.api.controls is not None else Status()
        whole = {"server": self._id} | dataclasses.asdict(status)
        if self.audience is not None:
            whole |= self.audience.status(viewer)
        if self.ingest.opened:
            whole["signer"] = self.ingest.status()
        return whole | self._status()

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        self.guard.authorize(request)
        figures = generate_latest(self._metrics)
        return web.Response(body=figures, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _tell_health(self, request: web.Request) -> web.Response:
        # For supervisors and load balancers: pictures come, or the pipeline is only starting.
        silent_s = self._whole_status().get("silent_s")
        well = silent_s is None or silent_s < _SILENT_S
        return web.json_response({"ok": well, "silent_s": silent_s}, status=200 if well else 503)


def _page(path: Path) -> _Handler:
    async def send(request: web.Request) -> web.Response:
        # Small files, and a page that is open for days must not run an old script after an update.
        content = await asyncio.to_thread(path.read_bytes)
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=content, content_type=_TYPES[path.suffix], charset="utf-8", headers=headers)

    return send
