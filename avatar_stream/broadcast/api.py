"""The crew's door: what the pipeline does now and what it is to do, as JSON, with its OpenAPI description.

Every answer is JSON, an error is `{"error": "..."}`. A wish is answered 202: the pipeline does it between two frames,
and `GET /api/status` shows when it has. Wishes say what is to be (`{"on": true}`), so that asking twice does no harm.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from avatar_stream import __version__
from avatar_stream.broadcast.guard import Guard
from avatar_stream.controls import Controls, Setting, Status, Wish

_Handler = Callable[[web.Request], Awaitable[web.Response]]
_SWITCHES = {
    "hold": (Wish.HOLD, "Show the hold card instead of the signer, or go on."),
    "human": (Wish.HUMAN, "Cut to the human signer's own picture, or back to the avatar."),
    "recording": (Wish.RECORD, "Start or end a recording."),
    "frozen": (Wish.FREEZE, "Hold the picture still, or go on."),
    "skeleton": (Wish.SKELETON, "Draw the pose over the avatar, or not."),
}
_DEEDS = {
    "calibrate": (Wish.CALIBRATE, "Measure the signer anew."),
    "background": (Wish.NEXT_BACKGROUND, "Take the next plain background."),
    "stop": (Wish.QUIT, "End the broadcast in order: files are finished."),
}


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Switch(_RequestBody):
    """What a switch is to be."""

    on: bool


class Choice(_RequestBody):
    """Which avatar is to sign."""

    name: str = Field(min_length=1, max_length=100)


class Api:
    """Routes under `/api`, all behind the guard's token."""

    def __init__(self, guard: Guard, status: Callable[[], dict[str, Any]]):
        """Take who may come in, and what gives the whole status."""
        self._guard, self._status = guard, status
        self.controls: Controls | None = None
        self.portraits: Mapping[str, Path] = {}  # of the avatars that may be chosen, by name

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add them to an application's router."""
        self._add(router, "GET", "/api/status", self._tell_status)
        self._add(router, "GET", "/api/avatars", self._tell_avatars)
        self._add(router, "POST", "/api/avatar", self._choose_avatar)
        for name, (wish, _) in _SWITCHES.items():
            self._add(router, "POST", f"/api/{name}", self._switch(wish))
        for name, (wish, _) in _DEEDS.items():
            self._add(router, "POST", f"/api/{name}", self._do(wish))
        # An <img> shows no token; what avatars look like is no secret.
        router.add_get("/portraits/{name}.png", self._send_portrait)
        router.add_get("/openapi.json", self._tell_openapi)

    def _add(self, router: web.UrlDispatcher, method: str, path: str, handler: _Handler) -> None:
        async def answer(request: web.Request) -> web.Response:
            try:
                self._guard.authorize(request)
                return await handler(request)
            except web.HTTPException as error:
                headers = {
                    key: error.headers[key]
                    for key in ("WWW-Authenticate", "Retry-After")
                    if key in error.headers
                }
                return web.json_response({"error": error.text}, status=error.status, headers=headers)

        router.add_route(method, path, answer)

    async def _tell_status(self, request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _tell_avatars(self, request: web.Request) -> web.Response:
        names = sorted(self.portraits)
        return web.json_response([{"name": name, "portrait": f"/portraits/{name}.png"} for name in names])

    async def _choose_avatar(self, request: web.Request) -> web.Response:
        name = (await _read(request, Choice)).name
        # Only names that were offered: elsewhere a name may also be the path of a folder.
        if name not in self.portraits:
            raise web.HTTPNotFound(
                text=f"there is no avatar {name!r}; here are: {', '.join(sorted(self.portraits))}"
            )
        return self._ask(Setting(Wish.AVATAR, name), {"avatar": name})

    def _switch(self, wish: Wish) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            on = (await _read(request, Switch)).on
            return self._ask(Setting(wish, on), {"on": on})

        return handle

    def _do(self, wish: Wish) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            return self._ask(wish, {})

        return handle

    def _ask(self, wish: Wish | Setting, details: dict[str, Any]) -> web.Response:
        if self.controls is None:
            raise web.HTTPServiceUnavailable(text="the pipeline does not run yet")
        self.controls.ask(wish)
        return web.json_response({"accepted": True} | details, status=202)

    async def _send_portrait(self, request: web.Request) -> web.Response:
        path = self.portraits.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound(text="no such avatar")
        picture = await asyncio.to_thread(path.read_bytes)
        return web.Response(body=picture, content_type="image/png", headers={"Cache-Control": "max-age=3600"})

    async def _tell_openapi(self, request: web.Request) -> web.Response:
        return web.json_response(describe())


async def _read(request: web.Request, model: type[_RequestBody]) -> Any:
    # The type is asked for because a foreign page's form cannot send it without the browser asking us first.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send the body as application/json")
    try:
        return model.model_validate(json.loads(await request.text()))
    except (json.JSONDecodeError, UnicodeDecodeError, LookupError, RecursionError) as error:
        raise web.HTTPBadRequest(text="the body is no JSON") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg'].lower()}" for p in error.errors()
        )
        raise web.HTTPUnprocessableEntity(text=problems) from error


def describe() -> dict[str, Any]:
    """The API as OpenAPI 3.1; `/openapi.json` is this."""
    paths: dict[str, Any] = {
        "/api/status": _get("How the pipeline does now.", {"$ref": "#/components/schemas/Status"}),
        "/api/avatars": _get("The avatars that may be chosen.", _AVATARS),
        "/api/avatar": _post("Let another avatar sign; the picture goes on without a gap.", "Choice", "404"),
    }
    paths |= {f"/api/{name}": _post(text, "Switch") for name, (_, text) in _SWITCHES.items()}
    paths |= {f"/api/{name}": _post(text, None) for name, (_, text) in _DEEDS.items()}
    schemas = {model.__name__: model.model_json_schema() for model in (Switch, Choice)}
    status = TypeAdapter(Status).json_schema()
    schemas["Status"] = status | {"required": list(status["properties"])}
    schemas["Error"] = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "avatar_stream control", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


_AVATARS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "portrait": {"type": "string"}},
        "required": ["name", "portrait"],
    },
}
_TEXTS = {
    "400": "no JSON",
    "401": "the token is missing or wrong",
    "403": "a foreign page asks",
    "404": "no such avatar",
    "413": "the body is too long",
    "415": "not application/json",
    "422": "not what is expected",
    "429": "too many requests",
    "503": "the pipeline does not run yet",
}


def _errors(*codes: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {code: {"description": _TEXTS[code], "content": content} for code in codes}


def _get(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    responses = {"200": {"description": "now", "content": {"application/json": {"schema": schema}}}}
    return {"get": {"summary": text, "responses": responses | _errors("401", "403", "429")}}


def _post(text: str, body: str | None, *codes: str) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": text}
    always = ("401", "403", "413", "429", "503", *codes)
    if body is not None:
        schema = {"schema": {"$ref": f"#/components/schemas/{body}"}}
        operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
        always = ("400", "415", "422", *always)
    accepted = {"type": "object", "properties": {"accepted": {"const": True}}, "required": ["accepted"]}
    done = {"description": "accepted", "content": {"application/json": {"schema": accepted}}}
    return {"post": operation | {"responses": {"202": done} | _errors(*sorted(always))}}
