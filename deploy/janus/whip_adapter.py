"""WHIP in front of Janus' VideoRoom, and a page to watch it: `python whip_adapter.py --token WORD`.

Janus speaks an interface of its own; this translates. Needs aiohttp only. The publisher sends its offer to `/whip`
(RFC 9725); viewers open `/`. Janus' interface stays on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import uuid
from collections.abc import Callable
from pathlib import Path

import aiohttp
from aiohttp import web

PAGE = Path(__file__).with_name("watch.html")
ANSWER_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 25.0
# What Janus says when the other side has gone, or when Janus itself was started anew and knows nothing of a session.
ENDS = ("hangup", "timeout", "error")


class Handle:
    """One session with Janus' VideoRoom plugin: a publisher's or a viewer's."""

    def __init__(self, http: aiohttp.ClientSession, janus: str):
        """Store how Janus is reached; `open` begins."""
        self._http, self._janus, self._address = http, janus, ""
        self._waiting: dict[str, asyncio.Future] = {}
        self._listening: asyncio.Task | None = None
        self._session = ""
        self.ended: Callable[[], None] = lambda: None  # called when Janus says that it is over

    async def open(self) -> None:
        """Make a session, attach to the plugin, and listen to what it says."""
        created = await self._send(self._janus, {"janus": "create"})
        self._session = f"{self._janus}/{created['data']['id']}"
        attached = await self._send(self._session, {"janus": "attach", "plugin": "janus.plugin.videoroom"})
        self._address = f"{self._session}/{attached['data']['id']}"
        self._listening = asyncio.create_task(self._listen())

    async def ask(self, body: dict, jsep: dict | None = None) -> dict:
        """Send a request of the plugin and return its event (or, for those that have none, the reply).

        Raises:
            web.HTTPBadGateway: Janus says that it failed, or nothing.
        """
        name = uuid.uuid4().hex
        self._waiting[name] = future = asyncio.get_running_loop().create_future()
        message = {"janus": "message", "body": body} | ({"jsep": jsep} if jsep else {})
        try:
            reply = await self._send(self._address, message, name)
            if reply["janus"] == "ack":
                reply = await asyncio.wait_for(future, ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            raise web.HTTPBadGateway(text="Janus does not answer") from error
        finally:
            self._waiting.pop(name, None)
        data = reply.get("plugindata", {}).get("data", {})
        if "error" in data:
            raise web.HTTPBadGateway(text=f"Janus: {data['error']}")
        return data | {"jsep": reply.get("jsep")}

    async def close(self) -> None:
        """End the session; Janus tells the other side."""
        if self._listening is not None:
            self._listening.cancel()
        if self._session:
            with contextlib.suppress(aiohttp.ClientError, web.HTTPException):
                await self._send(self._session, {"janus": "destroy"})

    async def _send(self, address: str, message: dict, name: str | None = None) -> dict:
        try:
            async with self._http.post(
                address, json=message | {"transaction": name or uuid.uuid4().hex}
            ) as response:
                reply = await response.json()
        except aiohttp.ClientError as error:
            raise web.HTTPBadGateway(text=f"Janus is not reached ({error})") from error
        if reply["janus"] == "error":
            raise web.HTTPBadGateway(text=f"Janus: {reply['error']['reason']}")
        return reply

    async def _listen(self) -> None:
        # Asking for news also keeps the session alive.
        while True:
            try:
                async with self._http.get(self._session, params={"maxev": 5}) as response:
                    news = await response.json()
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(1)
                continue
            for event in news if isinstance(news, list) else [news]:
                future = self._waiting.get(event.get("transaction", ""))
                if future is not None:
                    if event["janus"] in ("event", "error") and not future.done():
                        future.set_result(event)
                elif event["janus"] in ENDS:
                    return self.ended()


class Adapter:
    """The web server: one publisher, any number of viewers."""

    def __init__(self, janus: str, room: int, token: str | None):
        """Store where Janus is, which room, and what publishers must show."""
        self._janus, self._room, self._token = janus, room, token
        self._publishers: dict[str, Handle] = {}
        self._viewers: dict[str, Handle] = {}
        self._closing: set[asyncio.Task] = set()

    def application(self) -> web.Application:
        """Return what aiohttp serves."""
        application = web.Application(client_max_size=256 * 1024)
        application.router.add_post("/whip", self.publish)
        application.router.add_delete("/whip/{id}", self.unpublish)
        application.router.add_get("/", self.page)
        application.router.add_post("/watch", self.watch)
        application.router.add_post("/watch/{id}", self.start)
        application.router.add_delete("/watch/{id}", self.leave)
        application.cleanup_ctx.append(self._run)
        return application

    async def _run(self, _: web.Application):
        timeout = aiohttp.ClientTimeout(total=KEEP_ALIVE_S + 10)
        async with aiohttp.ClientSession(timeout=timeout) as self._http:
            yield
            for handle in [*self._publishers.values(), *self._viewers.values()]:
                await handle.close()

    async def publish(self, request: web.Request) -> web.Response:
        """POST /whip: the publisher's offer."""
        self._authorize(request)
        for name in list(self._publishers):  # a publisher that crashed comes back
            await self._publishers.pop(name).close()
        offer = {"type": "offer", "sdp": await request.text()}
        join = {"request": "joinandconfigure", "room": self._room, "ptype": "publisher", "display": "avatar"}
        name, done = await self._open(self._publishers, join, offer)
        return web.Response(
            status=201,
            text=done["jsep"]["sdp"],
            content_type="application/sdp",
            headers={"Location": f"/whip/{name}", "ETag": f'"{name[:8]}"'},
        )

    async def unpublish(self, request: web.Request) -> web.Response:
        """DELETE /whip/ID: the publisher goes."""
        self._authorize(request)
        return await self._close(self._publishers, request)

    async def page(self, _: web.Request) -> web.FileResponse:
        """GET /: for viewers."""
        return web.FileResponse(PAGE)

    async def watch(self, _: web.Request) -> web.Response:
        """POST /watch: Janus' offer to a new viewer; 404 while nobody publishes."""
        handle = Handle(self._http, self._janus)
        await handle.open()
        try:
            room = await handle.ask({"request": "listparticipants", "room": self._room})
            feeds = [each["id"] for each in room["participants"] if each.get("publisher")]
            if not feeds:
                raise web.HTTPNotFound(text="nobody publishes yet")
            join = {
                "request": "join",
                "room": self._room,
                "ptype": "subscriber",
                "streams": [{"feed": feeds[0]}],
            }
            done = await handle.ask(join)
        except BaseException:
            await handle.close()
            raise
        return web.json_response({"id": self._keep(self._viewers, handle), "sdp": done["jsep"]["sdp"]})

    async def start(self, request: web.Request) -> web.Response:
        """POST /watch/ID: the viewer's answer."""
        handle = self._viewers.get(request.match_info["id"])
        if handle is None:
            raise web.HTTPNotFound(text="no such viewer")
        await handle.ask({"request": "start"}, {"type": "answer", "sdp": await request.text()})
        return web.Response(status=204)

    async def leave(self, request: web.Request) -> web.Response:
        """DELETE /watch/ID: the viewer goes."""
        return await self._close(self._viewers, request)

    async def _open(self, handles: dict[str, Handle], join: dict, offer: dict) -> tuple[str, dict]:
        handle = Handle(self._http, self._janus)
        await handle.open()
        try:
            done = await handle.ask(join, offer)
        except BaseException:
            await handle.close()
            raise
        return self._keep(handles, handle), done

    def _keep(self, handles: dict[str, Handle], handle: Handle) -> str:
        # Until it is closed, or Janus says that the other side has gone: most viewers just close their browser.
        name = uuid.uuid4().hex
        handles[name] = handle

        def forget() -> None:
            if handles.pop(name, None) is not None:
                task = asyncio.get_running_loop().create_task(handle.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

        handle.ended = forget
        return name

    async def _close(self, handles: dict[str, Handle], request: web.Request) -> web.Response:
        handle = handles.pop(request.match_info["id"], None)
        if handle is None:
            raise web.HTTPNotFound(text="no such session")
        await handle.close()
        return web.Response()

    def _authorize(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if self._token is not None and not hmac.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPUnauthorized(
                text="the token is missing or wrong", headers={"WWW-Authenticate": "Bearer"}
            )


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--janus", default="http://127.0.0.1:8088/janus", help="Janus' HTTP interface")
    parser.add_argument("--room", type=int, default=1234)
    parser.add_argument("--token", help="what publishers must show")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    options = parser.parse_args()
    adapter = Adapter(options.janus, options.room, options.token)
    web.run_app(adapter.application(), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
