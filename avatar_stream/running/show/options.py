"""The pipeline file's `show:` section."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from PIL import ImageColor
from pydantic import Field, ValidationInfo, field_validator, model_validator

from avatar_stream.images.compose import Side
from avatar_stream.messages import shown_address
from avatar_stream.options import Options, find_input

SCHEMES = ("rtmp", "rtmps", "srt", "rtsp", "rtsps", "http", "https", "udp", "rtp", "tcp")
Corner = Literal["bottom-right", "bottom-left", "top-right", "top-left"]
# Ofcom's code on television access services, annex 4: a signer takes a sixth of the picture's area or more.
LEAST_AREA = 1 / 6
# Of an outgoing picture while neither the file nor the programme has said another one.
USUAL_SIZE = (1280, 720)
DEFAULT_TARGET_DELAY_MS = 1000
MOST_TARGET_DELAY_MS = 10_000  # what is on its way is kept in memory


class ShowOptions(Options):
    """Which programme, and where the signer stands in it."""

    source: int | str
    """The programme: a file, the number of a camera, or an address (rtmp, srt, rtsp, http, udp, rtp)."""
    corner: Corner = "bottom-right"
    """Where the signer stands."""
    size: Annotated[float, Field(ge=0.1, le=1)] | None = None
    """Side of the signer's square as a part of the picture's height; null: a sixth of the picture's
    area."""
    margin: Annotated[float, Field(ge=0, le=0.25)] = 0.0
    """Room between the square and the picture's edges, as a part of the picture's height."""
    plate: str | None = None
    """A colour behind the signer; null: the programme shows around the person."""
    width: Side | None = None
    """Width of the outgoing picture, px; another shape gets black bars. null: the programme's own, 1920 px at most;
    1280x720 where an address is silent for the first 5 s."""
    height: Side | None = None
    """Height of the outgoing picture, px; see `width`."""
    fps: Annotated[float, Field(ge=1, le=120)] | None = None
    """Pictures a second at most; null: each of the programme's."""
    sound: bool = True
    """Pass the programme's sound on: AAC in MP4 and push, Opus for browsers and WebM."""
    loop: bool = False
    """A file begins anew at its end; else its end ends the run."""

    @field_validator("plate")
    @classmethod
    def _is_a_colour(cls, plate: str | None) -> str | None:
        if plate is not None:
            try:
                ImageColor.getrgb(plate)
            except ValueError as error:
                raise ValueError("a colour like white or #dde4ec, or null") from error
        return plate

    @field_validator("source")
    @classmethod
    def _is_known(cls, source: int | str, info: ValidationInfo) -> int | str:
        wrong = source < 0 if isinstance(source, int) else not source
        if wrong or ("://" in str(source) and not _is_address(source)):
            raise ValueError(f"a file, a camera's number, or an address with one of {', '.join(SCHEMES)}")
        if isinstance(source, int) or "://" in source:
            return source
        try:
            return str(find_input(Path(source), info))
        except ValueError as error:
            expected = "a file that exists, the number of a camera, or an address like rtmp://HOST/live"
            raise ValueError(expected) from error

    @model_validator(mode="after")
    def _has_both_sides(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height: give both or none")
        return self

    @property
    def picture_size(self) -> tuple[int, int] | None:
        """(width, height) of the outgoing picture, px, or None where the programme decides."""
        return None if self.width is None or self.height is None else (self.width, self.height)

    @property
    def camera(self) -> int | str | None:
        """The camera's number or path, or None where the programme is none."""
        return self.source if isinstance(self.source, int) or self.source.startswith("/dev/") else None

    @property
    def path(self) -> Path | None:
        """The file, or None where the programme is none."""
        return None if self.camera is not None or "://" in str(self.source) else Path(str(self.source))

    @property
    def name(self) -> str:
        """What messages call it; an address without its secrets."""
        if self.camera is not None:
            return f"camera {self.camera}"
        if self.path is not None:
            return str(self.path)
        return shown_address(str(self.source))


def _is_address(source: int | str) -> bool:
    try:
        address = urlsplit(str(source))
        return address.scheme in SCHEMES and (address.port is None or address.port > 0)
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def signer_side_px(options: ShowOptions, width_px: int, height_px: int) -> int:
    """Return the side of the signer's square in a picture of that size, px."""
    if options.size is None:
        side_px = math.ceil(math.sqrt(width_px * height_px * LEAST_AREA))
    else:
        side_px = round(options.size * height_px)
    return max(16, min(side_px, width_px, height_px))
