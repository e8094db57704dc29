"""What pipeline files say about the network: the section `server`, and how pictures are encoded."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyAddress, field_validator, model_validator

from avatar_stream.options import InputPath, Options

# What browsers send as Origin; it goes into headers, so nothing else may.
Origin = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+/?$")]
Codec = Literal["h264", "vp8"]
# Kinds of picture.
AVATAR, DRIVER, OVERLAY = "avatar", "driver", "overlay"
Port = Annotated[int, Field(ge=0, le=65535)]
# What aiortc takes (RFC 7064, RFC 7065); another one would end every connection with an error.
ICE_URL = re.compile(r'(stuns?:[^?:\s<>"]+(:\d{1,5})?|turns?:[^?:\s<>"]+(:\d{1,5})?(\?transport=(udp|tcp))?)')


class IceServer(Options):
    """A STUN or TURN server, as browsers' RTCIceServer (W3C WebRTC 1.0, 4.2.4)."""

    urls: str | tuple[str, ...]
    """`stun:host:port`, `turn:host:port?transport=udp`, `turns:...`; one or several."""
    username: str | None = None
    """For TURN."""
    credential: str | None = None
    """For TURN."""

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, urls: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not all(ICE_URL.fullmatch(url) for url in ((urls,) if isinstance(urls, str) else urls)):
            raise ValueError("addresses like stun:HOST:3478 or turn:HOST:3478?transport=udp")
        return urls

    @property
    def addresses(self) -> tuple[str, ...]:
        """`urls`, also where it is one."""
        return (self.urls,) if isinstance(self.urls, str) else self.urls

    def links(self) -> list[str]:
        """Values of HTTP's `Link` header, as WHIP has them for ICE servers (RFC 9725, 4.6)."""
        secret = ""
        if self.username is not None and self.credential is not None:
            quoted = [word.replace("\\", "").replace('"', "") for word in (self.username, self.credential)]
            secret = f'; username="{quoted[0]}"; credential="{quoted[1]}"; credential-type="password"'
        return [f'<{url}>; rel="ice-server"{secret}' for url in self.addresses]


class ServerOptions(Options):
    """The one web server of a pipeline, for viewers, the overlay and the signer's page."""

    host: str = "127.0.0.1"
    """127.0.0.1 for this machine only, 0.0.0.0 for everybody in the network."""
    port: Port = 8080
    """Port of the pages; 0 takes any free one."""
    port_search: bool = False
    """Try the next 20 ports where it is taken."""
    origins: tuple[Origin, ...] = ()
    """Other pages that may show the broadcast (CORS and frames), `https://example.org` each; else only its own may."""
    token: Annotated[str, Field(min_length=8, max_length=200, pattern=r"^[!-~]+$")] | None = None
    """What signers and crews must show (HTTP: `Authorization: Bearer ...`). null: nothing is asked for on
    this machine alone; elsewhere one is made at the start and printed."""
    private: bool = False
    """Viewers must show the token too: they open `/#token=...` once in their browser."""
    sessions_per_address: Annotated[int, Field(ge=1, le=1000)] = 50
    """Viewers from one address at most; others are answered 429."""
    proxies: tuple[IPvAnyAddress, ...] = ()
    """Addresses of web servers before this one, whose word on who asks (`X-Forwarded-For`) is believed;
    else all their clients count as one."""
    certificate: InputPath | None = None
    """PEM file; with it pages are served by HTTPS, which browsers on other machines ask for before they
    open a camera."""
    key: InputPath | None = None
    """PEM file of the certificate's key, without a password."""
    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN for viewers and signers behind NAT: `{urls: stun:HOST:3478}`, for TURN with `username` and
    `credential`."""
    udp_ports: (
        tuple[Annotated[int, Field(ge=1024, le=65535)], Annotated[int, Field(ge=1024, le=65535)]] | None
    ) = None
    """First and last local port for media; null: whichever is free."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or none")
        if self.udp_ports is not None and self.udp_ports[0] > self.udp_ports[1]:
            raise ValueError("udp_ports: the first must not be above the last")
        return self

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class EncodingOptions(Options):
    """How pictures are encoded for the network."""

    codec: Literal["auto", "h264", "vp8"] = "auto"
    """`auto` is H.264, on the graphics card where that works, and VP8 for viewers that lack it."""
    bitrate_kbps: Annotated[int, Field(ge=100, le=50_000)] = 4000
    """Bit rate at most; fast hands blur first where it is too low."""
    keyframe_interval_s: Annotated[float, Field(ge=0.2, le=60)] = 4.0
    """Longest time between keyframes; a new viewer asks for one and does not wait for it."""

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Those that may be sent, the best first."""
        return ("h264", "vp8") if self.codec == "auto" else (self.codec,)
