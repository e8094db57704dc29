"""What WHEP and WHIP share: offers and answers over HTTP (RFC 9725), late candidates (RFC 8840)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from aiohttp import web
from aiortc import RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.sdp import candidate_from_sdp

from avatar_stream.broadcast.settings import IceServer

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_MAX_CANDIDATES = 50
# What aiortc raises on SDP that it cannot read; RuntimeError is a StopIteration inside a coroutine.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_REFUSED = (InternalError, InvalidAccessError, InvalidStateError, OperationError)


class OfferError(web.HTTPBadRequest):
    """The offer cannot be answered; the text says why."""

    def __init__(self, reason: str):
        """Answer 400 with the reason."""
        super().__init__(text=reason)


def rtc_servers(servers: Iterable[IceServer]) -> list[RTCIceServer]:
    """Return ICE servers as aiortc takes them."""
    return [RTCIceServer(list(server.addresses), server.username, server.credential) for server in servers]


async def read_body(request: web.Request, content_type: str) -> str:
    """Return a request's text; HTTPUnsupportedMediaType where it is another kind, HTTPBadRequest where no text."""
    if request.content_type != content_type:
        raise web.HTTPUnsupportedMediaType(text=f"send it as {content_type}, not as {request.content_type}")
    try:
        return await request.text()
    except (UnicodeDecodeError, LookupError) as error:
        raise web.HTTPBadRequest(text="what was sent is not text") from error


async def take_offer(connection: RTCPeerConnection, sdp: str, address: str | None) -> None:
    """Give a connection the other side's offer.

    Args:
        connection: a new one.
        sdp: the offer.
        address: the IP address that asked.

    Raises:
        OfferError: it is no SDP, or nothing in it can be answered.
    """
    try:
        description = RTCSessionDescription(sdp=reachable(sdp, address), type="offer")
        await connection.setRemoteDescription(description)
    except _UNREADABLE as error:
        raise OfferError(f"the offer is not SDP that can be answered ({error})") from error
    except _REFUSED as error:
        raise OfferError(str(error)) from error


async def answer(connection: RTCPeerConnection) -> str:
    """Return the answer's SDP with all candidates; OfferError where the offer leaves nothing to answer."""
    try:
        await connection.setLocalDescription(await connection.createAnswer())
    except (*_UNREADABLE, *_REFUSED) as error:
        raise OfferError(f"the offer cannot be answered ({error})") from error
    return connection.localDescription.sdp


def created(sdp: str, location: str, etag: str) -> web.Response:
    """Return the response 201 with the answer, the session's address and its tag."""
    headers = {"Location": location, "ETag": etag}
    return web.Response(status=201, text=sdp, content_type=SDP, headers=headers)


async def trickle(
    request: web.Request, connection: RTCPeerConnection, etag: str, lenient: bool = False
) -> web.Response:
    """Answer a PATCH with candidates that were found after the offer (RFC 9725, 4.3).

    Args:
        request: the PATCH.
        connection: the session's.
        etag: the session's.
        lenient: do without If-Match; WHEP players in use send none.

    Raises:
        HTTPPreconditionRequired, HTTPPreconditionFailed: If-Match is missing, or names an older session.
        HTTPUnprocessableEntity: it asks for an ICE restart, which aioice cannot do.
        HTTPUnsupportedMediaType, HTTPBadRequest: another kind of body, or one that cannot be read.
    """
    body = await read_body(request, FRAGMENT)
    match = request.headers.get("If-Match", "").strip()
    if not match and not lenient:
        raise web.HTTPPreconditionRequired(text="name the session's ETag in If-Match")
    if match not in ("", "*") and etag not in (tag.strip() for tag in match.split(",")):
        raise web.HTTPPreconditionFailed(text="the ETag in If-Match is not this session's")
    if match == "*" or _restarts(body, connection):
        raise web.HTTPUnprocessableEntity(text="ICE restarts are not offered: make a new offer")
    for candidate in _candidates(body, request.remote):
        await connection.addIceCandidate(candidate)
    return web.Response(status=204)


def reachable(sdp: str, address: str | None) -> str:
    """Return SDP whose candidates name addresses only.

    Browsers hide their address behind a name ending with .local, which many networks do not resolve and which costs
    seconds. The address that asked is where the browser is; a wrong guess is corrected by its own checks.
    """
    lines = [_with_address(line, address) for line in re.split(r"\r?\n", sdp)]
    return "\r\n".join(line for line in lines if line is not None)


def _with_address(line: str, address: str | None) -> str | None:
    # A candidate's line with an address in the place of a name, None where that cannot be; other lines as they are.
    candidate = re.match(r"(a=candidate:(?:\S+ ){4})(\S+)( .*)$", line)
    if candidate is None:
        return line
    host = candidate[2]
    try:
        if host.endswith(".local") and address is not None:
            asker = ipaddress.ip_address(address.partition("%")[0])
            host = str(getattr(asker, "ipv4_mapped", None) or asker)
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return f"{candidate[1]}{host}{candidate[3]}"


def _restarts(body: str, connection: RTCPeerConnection) -> bool:
    # Other credentials than the offer's mean a new start.
    now = set(re.findall(r"^a=ice-ufrag:(\S+)", body, re.MULTILINE))
    of_offer = set(re.findall(r"^a=ice-ufrag:(\S+)", connection.remoteDescription.sdp, re.MULTILINE))
    return bool(now - of_offer)


def _candidates(body: str, address: str | None) -> list:
    # All sections of ours share one transport: what names no section is the first one's.
    section, candidates = None, []
    for line in re.split(r"\r?\n", body):
        if line.startswith("a=mid:"):
            section = line.removeprefix("a=mid:").strip()
        reachable_line = _with_address(line, address)
        if not line.startswith("a=candidate:") or reachable_line is None:
            continue
        try:
            candidate = candidate_from_sdp(reachable_line.removeprefix("a=candidate:"))
        except _UNREADABLE as error:
            raise web.HTTPBadRequest(text=f"this is no candidate: {line[:100]}") from error
        candidate.sdpMid, candidate.sdpMLineIndex = section, 0 if section is None else None
        candidates.append(candidate)
    if not re.search(r"^a=(candidate:|end-of-candidates|ice-ufrag:)", body, re.MULTILINE):
        raise web.HTTPBadRequest(text="the fragment holds no candidates")
    return candidates[:_MAX_CANDIDATES]
