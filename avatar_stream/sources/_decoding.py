"""What all who read video by PyAV do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import av

READ_ERRORS = (av.error.FFmpegError, OSError)


def decode(
    container: av.container.InputContainer,
    streams: Sequence[Any],
    on_broken: Callable[[Exception], None],
    on_end: Callable[[Exception], None],
) -> Iterator[tuple[av.Packet, list[Any]]]:
    """Yield packets with their frames until the end.

    Args:
        container: open.
        streams: which of its streams.
        on_broken: called for a packet that cannot be decoded; it does not cost the good ones after it.
        on_end: called where the end is an error.
    """
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except READ_ERRORS as error:
            on_end(error)
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except READ_ERRORS as error:
            on_broken(error)
            continue
        yield packet, frames


def pixel_shape_of(stream: av.VideoStream) -> float:
    """Return how much wider than high a stream's pixels are to be shown; 1 where what it says cannot be."""
    shape = float(stream.sample_aspect_ratio or 1)
    return shape if 0.2 < shape < 5 else 1.0


def reason(error: Exception) -> str:
    """Return why reading failed, in FFmpeg's words or the system's."""
    text: str = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
