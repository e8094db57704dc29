"""The web server of a broadcast: the page, the WHEP endpoint and the status, on one event-loop thread."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from avatar_stream.broadcast.whep import TICKS_PER_S, Audience, CrowdError, OfferError, Pictures
from avatar_stream.errors import SinkError

logger = logging.getLogger(__name__)

PAGE_FOLDER = Path(__file__).resolve().parents[1] / "web"
_PAGE_FILES = {
    "/": "index.html",
    "/player.js": "player.js",
    "/style.css": "style.css",
    "/icon.svg": "icon.svg",
}
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_MAX_OFFER_BYTES = 64 * 1024
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 10.0, 15.0
_CORS = {
    "Vary": "Origin",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, PATCH, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization, If-Match",
    "Access-Control-Expose-Headers": "Location",
}


class Server:
    """Serves one broadcast between `start()` and `stop()`.

    Attributes:
        audience: the viewers; touch it only on the event loop.
        count: number of viewers, readable from every thread.
    """

    def __init__(
        self,
        listening: socket.socket,
        status: Callable[[], dict],
        audience: dict,
        origins: Collection[str] = (),
    ):
        """Prepare.

        Args:
            listening: a listening socket.
            status: gives the pipeline's part of `/status`.
            audience: Audience's arguments.
            origins: of other pages that may watch, `https://example.org`.
        """
        self._socket, self._status, self._audience_options = listening, status, audience
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._id = uuid.uuid4().hex[:8]  # a page that sees another one knows that the server was started anew
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="web-broadcast", daemon=True)
        self.audience: Audience | None = None

    @property
    def count(self) -> int:
        """Number of viewers."""
        return len(self.audience.viewers) if self.audience is not None else 0

    def start(self) -> None:
        """Start the thread; SinkError where the server does not come up."""
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S) or self._error is not None:
            raise SinkError(f"the web server did not start: {self._error or 'no answer'}") from self._error

    def put(self, pictures: Pictures) -> None:
        """Hand pictures to the viewers; from any thread, never waits. SinkError if the server has died."""
        if self._error is not None:
            raise SinkError(f"the web server stopped: {self._error}") from self._error
        try:
            self._loop.call_soon_threadsafe(self.audience.put, pictures)
        except RuntimeError as error:  # the loop has just been closed
            raise SinkError("the web server has stopped") from error

    def stop(self) -> None:
        """Say goodbye to all viewers and join the thread. May be called twice."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT_S)
            if self._thread.is_alive():
                raise SinkError(f"the web server's thread '{self._thread.name}' does not stop")
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # the thread's shell: told to whoever calls next
            logger.exception("the web server failed")
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.audience = Audience(**self._audience_options)
        application = web.Application(client_max_size=_MAX_OFFER_BYTES)
        # Not a middleware: aiohttp keeps every application that has one in a cache, for ever.
        application.on_response_prepare.append(self._add_cors)
        self._add_routes(application)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        watching = asyncio.create_task(self.audience.watch())
        try:
            await runner.setup()
            await web.SockSite(runner, self._socket).start()
            self._ready.set()
            stopping = asyncio.create_task(self._stop.wait())
            done, _ = await asyncio.wait({stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if watching in done:
                watching.result()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self.audience.close()
            await runner.cleanup()

    def _add_routes(self, application: web.Application) -> None:
        for route, name in _PAGE_FILES.items():
            application.router.add_get(route, _page(PAGE_FOLDER / name))
        application.router.add_get("/status", self._tell_status)
        application.router.add_post("/whep", self._answer)
        application.router.add_delete("/whep/{viewer}", self._leave)
        for route in ("/whep", "/whep/{viewer}"):
            application.router.add_options(route, self._tell_options)

    def _admit(self, request: web.Request) -> None:
        # The signer's browser shows other pages too, and each of them can reach this server: only our own page may
        # watch, and those that the user named. Programs send no origin. A name that anybody could have pointed at
        # this machine ("DNS rebinding") makes no page our own.
        origin = request.headers.get("Origin", "").lower()
        if origin in self._origins:
            return
        trusted = {urlsplit(each).netloc for each in self._origins}
        own = not origin or urlsplit(origin).netloc == request.host.lower()
        if not own or not (_is_near(request.host) or request.host.lower() in trusted):
            raise web.HTTPForbidden(
                text=f"a page of {origin or request.host} may not watch: name it in the output's option origins"
            )

    async def _tell_options(self, request: web.Request) -> web.Response:
        self._admit(request)
        return web.Response(status=204, headers={"Accept-Post": "application/sdp"})

    async def _add_cors(self, request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin", "")
        if origin.lower() in self._origins:
            response.headers.update({"Access-Control-Allow-Origin": origin} | _CORS)

    async def _answer(self, request: web.Request) -> web.Response:
        self._admit(request)
        if request.content_type != "application/sdp":
            raise web.HTTPUnsupportedMediaType(text="send the offer as application/sdp")
        try:
            viewer, sdp = await self.audience.answer(await request.text(), request.remote)
        except UnicodeDecodeError as error:
            raise web.HTTPBadRequest(text="the offer is not text") from error
        except OfferError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        except CrowdError as error:
            raise web.HTTPServiceUnavailable(text=str(error), headers={"Retry-After": "5"}) from error
        return web.Response(
            status=201,
            text=sdp,
            content_type="application/sdp",
            headers={"Location": f"/whep/{viewer.id}", "ETag": f'"{viewer.id[:8]}"'},
        )

    async def _leave(self, request: web.Request) -> web.Response:
        self._admit(request)
        if not await self.audience.leave(request.match_info["viewer"]):
            raise web.HTTPNotFound(text="no such viewer")
        return web.Response(text="bye")

    async def _tell_status(self, request: web.Request) -> web.Response:
        self._admit(request)
        viewer = self.audience.viewers.get(request.query.get("viewer", ""))
        status = {
            "server": self._id,
            "viewers": len(self.audience.viewers),
            "connected": self.audience.connected,
            "known": viewer is not None,
            "ticks_per_s": TICKS_PER_S,
            "rtp_origin": viewer.track.origin if viewer is not None else None,
        }
        # The clock last: the less lies between it and the wire, the truer is the delay that the page shows.
        return web.json_response(status | self._status() | {"now_s": time.monotonic()})


def listen(host: str, port: int, search: int = 0) -> socket.socket:
    """Listen at the first free port of `port` ... `port + search`.

    Raises:
        SinkError: all are taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + search + 1):
        try:
            return socket.create_server((host, candidate), family=family)
        except OverflowError:
            break
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno != errno.EADDRINUSE:
                raise SinkError(
                    f"cannot serve at {host}:{candidate} ({error.strerror or error}): host must be an address of "
                    "this machine, 127.0.0.1 or 0.0.0.0, and ports below 1024 need rights"
                ) from error
    if search:
        raise SinkError(
            f"the ports {port} to {port + search} of {host} are all taken: give another with --port"
        )
    raise SinkError(f"port {port} of {host} is taken by another program: give another with --port {port + 1}")


def reachable_host(host: str) -> str:
    """Return what stands in an address that leads to a server at `host`, also where that is 0.0.0.0 or ::."""
    if host == "0.0.0.0":
        # The address by which this machine is known in its network; nothing is sent to find it out.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
                return probe.getsockname()[0]
            except OSError:
                return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _is_near(host: str) -> bool:
    # An address, or a name that only this machine or its own network gives: not one of the wide world.
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return (
            "." not in name or name.endswith((".local", ".localhost")) or name == socket.gethostname().lower()
        )
    return True


def _page(path: Path):
    async def send(request: web.Request) -> web.Response:
        # Small files, and a page that is open for days must not run an old script after an update.
        content = await asyncio.to_thread(path.read_bytes)
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=content, content_type=_TYPES[path.suffix], charset="utf-8", headers=headers)

    return send
