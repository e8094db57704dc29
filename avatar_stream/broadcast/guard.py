"""Who may come in: pages of our own origin, and those who show the token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web

from avatar_stream.broadcast.settings import ServerOptions

_CORS = {
    "Vary": "Origin",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, PATCH, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization, If-Match, If-None-Match",
    "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Post, Accept-Patch",
    "Access-Control-Max-Age": "600",
}
# Burst, and how many a second come back. A crowd behind one address may come at once; who guesses tokens may not.
_OFFERS, _WRONG_TOKENS = (200, 10.0), (10, 0.1)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class TokenBucket:
    """Counts down an allowance for each address, which comes back with time."""

    def __init__(self, burst: int, per_s: float, addresses: int = 10_000):
        """Allow `burst` at once and `per_s` in the long run; of more addresses the oldest are forgotten."""
        self._burst, self._per_s, self._addresses = burst, per_s, addresses
        self._left: OrderedDict[str | None, tuple[float, float]] = OrderedDict()

    def take(self, address: str | None) -> bool:
        """Take one; False if none was left."""
        left = self._now(address)
        self._left[address] = (max(0.0, left - 1), time.monotonic())
        self._left.move_to_end(address)
        if len(self._left) > self._addresses:
            self._left.popitem(last=False)
        return left >= 1

    def spent(self, address: str | None) -> bool:
        """Whether none is left."""
        return self._now(address) < 1

    def _now(self, address: str | None) -> float:
        left, at_s = self._left.get(address, (self._burst, 0.0))
        return min(self._burst, left + self._per_s * (time.monotonic() - at_s))


class Guard:
    """Judges requests.

    Attributes:
        token: what signers and crews must show, or None where nobody but this machine can ask.
        made: whether the token was made here, since the options had none.
    """

    def __init__(self, options: ServerOptions):
        """Take the options; makes a token where one is needed and none was given."""
        self._private = options.private
        self._proxies = frozenset(map(str, options.proxies))
        self._offers, self._wrong = TokenBucket(*_OFFERS), TokenBucket(*_WRONG_TOKENS)
        self._headers = _HEADERS | {"Content-Security-Policy": _policy(options.origins)}
        self._origins = frozenset(origin.rstrip("/").lower() for origin in options.origins)
        self.made = options.token is None and (options.private or not options.local)
        self.token = secrets.token_urlsafe(12) if self.made else options.token

    def admit(self, request: web.Request) -> None:
        """Let our own page in, those that the user named, and programs; HTTPForbidden for others.

        The signer's browser shows other pages too, and each of them can reach this server. Programs send no origin.
        A name that anybody could have pointed at this machine ("DNS rebinding") makes no page our own.
        """
        origin = request.headers.get("Origin", "").lower()
        if origin in self._origins:
            return
        trusted = {urlsplit(trusted_origin).netloc for trusted_origin in self._origins}
        own = not origin or urlsplit(origin).netloc == request.host.lower()
        if not own or not (_is_near(request.host) or request.host.lower() in trusted):
            raise web.HTTPForbidden(
                text=f"a page of {origin or request.host} may not do this: name it under server.origins"
            )

    def authorize(self, request: web.Request) -> None:
        """`admit`, and ask for the token (RFC 6750); HTTPUnauthorized without it."""
        self.admit(request)
        if self.token is None:
            return
        address = self.address_of(request)
        if self._wrong.spent(address):
            raise _too_many("too many wrong tokens")
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        # In constant time: how long it takes must not tell how much of it was right.
        right = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self.token.encode())
        if kind.lower() != "bearer" or not right:
            if shown:  # asking without one is no guess
                self._wrong.take(address)
            raise web.HTTPUnauthorized(
                text="the token is missing or wrong: it was printed when the broadcast began, or stands in its file",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def address_of(self, request: web.Request) -> str | None:
        """Return who asks: behind a proxy that is trusted, the last address before it that is none."""
        address = request.remote
        # Some proxies add a line instead of lengthening the one that the client may have made up.
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        while address in self._proxies and forwarded and forwarded[-1].strip():
            address = forwarded.pop().strip()
        return address

    def known(self, request: web.Request) -> web.Request:
        """Return the request as coming from `address_of` it."""
        address = self.address_of(request)
        return request if address in (None, request.remote) else request.clone(remote=str(address))

    def may_watch(self, request: web.Request) -> bool:
        """Whether `welcome` would let the request in."""
        try:
            self.welcome(request)
        except web.HTTPException:
            return False
        return True

    def welcome(self, request: web.Request) -> None:
        """`admit` viewers, or `authorize` them where the broadcast is private."""
        (self.authorize if self._private else self.admit)(request)

    def pace(self, request: web.Request) -> None:
        """HTTPTooManyRequests for an address that begins sessions faster than people do."""
        if not self._offers.take(self.address_of(request)):
            raise _too_many("too many sessions begun")

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell browsers what pages may do, and which other pages may read the answer."""
        response.headers.update(self._headers)
        origin = request.headers.get("Origin", "")
        if origin.lower() in self._origins:
            response.headers.update({"Access-Control-Allow-Origin": origin} | _CORS)


def _too_many(what: str) -> web.HTTPTooManyRequests:
    return web.HTTPTooManyRequests(
        text=f"{what} from your address: wait a little", headers={"Retry-After": "10"}
    )


def _policy(origins: Collection[str]) -> str:
    # Everything is ours and in files of its own. Frames of pages that the user named may hold ours; OBS needs none.
    frames = " ".join(("'self'", *origins))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        f"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {frames}"
    )


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
