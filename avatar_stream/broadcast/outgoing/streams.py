"""One encoding of one kind of picture, on a thread of its own, for as many takers as there are.

`VideoStream.put` may be called from any thread; tracks live on the event loop of those who take them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import cached_property

import av
import numpy as np
from aiortc import RTCRtpSender
from aiortc.codecs import get_encoder
from aiortc.codecs.base import Encoder as Packetizer
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from avatar_stream.broadcast.aiortc_inside import last_timestamp
from avatar_stream.broadcast.outgoing.encoder import (
    MOST_BLOCKS,
    MOST_KBPS,
    TIME_BASE,
    Encoded,
    Encoder,
    half_size,
    within_blocks,
)
from avatar_stream.broadcast.outgoing.tracks import Fanout, QueuedTrack
from avatar_stream.broadcast.settings import Codec, EncodingOptions
from avatar_stream.errors import SinkError
from avatar_stream.types import TICKS_PER_S

logger = logging.getLogger(__name__)

# (H, W, 3) uint8 RGB, or what gives it: called on the stream's thread, and only if somebody takes the stream.
PictureOrMaker = np.ndarray | Callable[[], np.ndarray]
# Of all viewers together: one keyframe serves everybody who asked meanwhile.
_KEYFRAMES_APART_S = 0.4
# A viewer whose network loses much must not make the others' pictures all keyframes: it waits longer each time.
_ASKS_APART_S, _ASKS_APART_MOST_S = 0.4, 2.0
# For so long a newcomer's keyframe waits for a fresh picture; then the last one must do.
_FRESH_WITHIN_S = 0.1
# A source that is silent leaves the last picture standing; what got lost on its way is told again.
_REPEAT_AFTER_S = 0.5
_BEGINNING_S = 0.25
_QUEUE_PICTURES = 12
_RATE_WINDOW_S = 2.0
_JOIN_TIMEOUT_S = 5.0


class SharedPicture:
    """An encoded picture, packetised once, when the first taker sends it."""

    def __init__(self, encoded: Encoded, packetizer: Packetizer):
        """Take the picture and what cuts it into RTP payloads (RFC 6184, RFC 7741)."""
        self.encoded, self._packetizer = encoded, packetizer

    @cached_property
    def payloads(self) -> list[bytes]:
        """RTP payloads, in order; the last one gets the marker."""
        return self._packetizer.pack(self.packet(self.encoded.pts))[0]

    def packet(self, pts: int) -> av.Packet:
        """Return it as aiortc's senders take it, at a time in ticks of 1/90000 s."""
        packet = av.Packet(self.encoded.data)
        packet.pts = packet.dts = pts
        packet.time_base, packet.is_keyframe = TIME_BASE, self.encoded.keyframe
        return packet


class VideoStream(Fanout):
    """Encodes the newest picture, once for all tracks; works only while there are any.

    Its slot for the newest picture is no `Handover`: a picture stays after it was taken, to be sent again.

    Attributes:
        codec: `h264` or `vp8`.
        half: pictures are sent at half the side: the rung for poor networks.
        encoded: number of pictures so far.
        keyframes: number of them that were keyframes.
    """

    def __init__(
        self,
        codec: Codec,
        options: EncodingOptions,
        half: bool = False,
        name: str = "avatar",
        most_blocks: int = MOST_BLOCKS,
    ):
        """Prepare; the thread starts with the first taker.

        Args:
            codec: `h264` or `vp8`.
            options: bitrate and keyframe interval.
            half: send half the side, and a third of the bitrate.
            name: of the kind of picture, for the thread's name and messages.
            most_blocks: larger pictures are made smaller, see `encoder.within_blocks`.
        """
        super().__init__()
        bitrate_kbps = max(100, options.bitrate_kbps // 3) if half else options.bitrate_kbps
        bitrate_kbps = min(bitrate_kbps, MOST_KBPS)
        self.codec, self.half, self._most_blocks = codec, half, most_blocks
        self.encoded = self.keyframes = 0
        self._encoder = Encoder(codec, options.model_copy(update={"bitrate_kbps": bitrate_kbps}))
        self._packetizer = get_encoder(RTCRtpCodecParameters(f"video/{codec.upper()}", clockRate=TICKS_PER_S))
        self._picture: PictureOrMaker | None = None
        self._pts, self._put_s, self._fresh = 0, 0.0, False
        self._sent_pts, self._sent_s, self._keyframe_s = -1, float("-inf"), float("-inf")
        self._keyframe_wanted = False
        self._error: BaseException | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=300)  # (when, bits), on the loop
        words = [name, codec, *(["half"] if half else [])]
        self._thread = threading.Thread(target=self._shell, name=f"encode-{'-'.join(words)}", daemon=True)

    def put(self, picture: PictureOrMaker, pts: int) -> None:
        """Replace the newest picture; from any thread, never waits and does no work on it.

        Args:
            picture: (H, W, 3) uint8 RGB that nobody changes any more, or a function that gives it.
            pts: ticks of 1/90000 s; where it does not go forward, the encoder's clock does by a tick.

        Raises:
            SinkError: encoding has failed.
        """
        with self._changed:
            if self._error is not None:
                raise SinkError(f"encoding for viewers failed: {self._error}") from self._error
            self._picture, self._pts, self._put_s, self._fresh = picture, pts, time.monotonic(), True
            if self._tracks:
                self._changed.notify_all()

    def track(self) -> PacketTrack:
        """Return a track for one sender: a keyframe first, from the moment at which it is asked for pictures."""
        return PacketTrack(self)

    def request_keyframe(self) -> None:
        """Make the next picture a keyframe, or a later one where the last keyframe was just now; from any thread."""
        with self._changed:
            self._keyframe_wanted = True
            self._changed.notify_all()

    @property
    def bitrate_bps(self) -> float:
        """What a taker has got in the last two seconds, bits a second; on the event loop."""
        now_s = time.monotonic()
        while self._recent and now_s - self._recent[0][0] > _RATE_WINDOW_S:
            self._recent.popleft()
        return sum(bits for _, bits in self._recent) / _RATE_WINDOW_S

    def close(self) -> None:
        """End the thread and all tracks. May be called twice; not from the stream's own thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_TIMEOUT_S)
            if self._thread.is_alive():
                raise SinkError(f"the thread '{self._thread.name}' does not stop")

    def join(self, track: PacketTrack) -> None:
        """Begin to give a track every picture, a keyframe first; on the event loop."""
        super().join(track)
        if not self._closed:
            self.request_keyframe()
            if self._thread.ident is None:
                self._thread.start()

    def _shell(self) -> None:
        try:
            self._work()
        except Exception as error:  # the thread's shell: told to whoever puts the next picture
            logger.exception("encoding for viewers failed")
            self._error = error
        finally:
            self._encoder.close()
            self.call(self.end_tracks)

    def _work(self) -> None:
        while True:
            with self._changed:
                due = self._wait()
                if due is None:
                    return
                picture, pts, keyframe = due
            image = picture() if callable(picture) else picture
            image = within_blocks(half_size(image) if self.half else image, self._most_blocks)
            for encoded in self._encoder.encode(image, pts, keyframe):
                if encoded.keyframe:
                    # Whoever asked or came while it was being made gets it too.
                    self._keyframe_s, self._keyframe_wanted = time.monotonic(), False
                self.call(self._deliver, SharedPicture(encoded, self._packetizer))

    def _wait(self) -> tuple[PictureOrMaker, int, bool] | None:
        # Holding the lock. What to encode next, as soon as it is time for it; None: the end.
        while not self._closed:
            now_s = time.monotonic()
            due_s = self._due_s(now_s)
            if self._picture is not None and due_s is not None and due_s <= now_s:
                return self._next(self._picture, now_s)
            if not self._tracks:
                # Encoders are few on some graphics cards, and a newcomer needs a keyframe anyway.
                self._encoder.close()
            self._changed.wait(None if due_s is None else due_s - now_s)
        return None

    def _due_s(self, now_s: float) -> float | None:
        if self._picture is None or not self._tracks:
            return None
        if self._fresh:
            return now_s
        if self._keyframe_wanted:
            return max(self._sent_s + _FRESH_WITHIN_S, self._keyframe_s + _KEYFRAMES_APART_S)
        # Decoders that work on several pictures at once show a keyframe only when more has come.
        begun = self._sent_s - self._keyframe_s < _BEGINNING_S
        return self._sent_s + (_FRESH_WITHIN_S if begun else _REPEAT_AFTER_S)

    def _next(self, picture: PictureOrMaker, now_s: float) -> tuple[PictureOrMaker, int, bool]:
        keyframe = self._keyframe_wanted and now_s - self._keyframe_s >= _KEYFRAMES_APART_S
        pts = self._pts if self._fresh else self._pts + round((now_s - self._put_s) * TICKS_PER_S)
        # After a repeated picture, or of a source whose clock jumped: RTP time only goes forward.
        self._sent_pts = max(pts, self._sent_pts + 1)
        self._sent_s, self._fresh = now_s, False
        return picture, self._sent_pts, keyframe

    def _deliver(self, shared: SharedPicture) -> None:
        self._recent.append((time.monotonic(), 8 * len(shared.encoded.data)))
        self.encoded += 1
        self.keyframes += shared.encoded.keyframe
        for track in list(self._tracks):
            track.take(self, shared)


class PacketTrack(QueuedTrack[SharedPicture]):
    """One taker's track of ready packets.

    Attributes:
        sender: the RTP sender that reads it, once known.
        origin: what the sender adds to `pts` to make RTP timestamps (mod 2^32); None until a picture was sent.
        pts: time of the picture given last, ticks of 1/90000 s.
    """

    kind = "video"

    def __init__(self, stream: VideoStream):
        """Take pictures of a stream, from the first `recv` on."""
        super().__init__(stream)
        self._skipping = True  # to the next keyframe
        self._asked_s, self._asks_apart_s = float("-inf"), _ASKS_APART_S
        self._is_asked, self._caught_up_s = False, float("inf")
        self.sender: RTCRtpSender | None = None
        self.origin: int | None = None
        self.pts = -1

    @property
    def stream(self) -> VideoStream:
        """The stream whose pictures it gives, or will give once their next keyframe comes."""
        stream: VideoStream = self._fans[-1]
        return stream

    @property
    def behind_s(self) -> float:
        """For how long its sender has not had the newest picture on its way; 0: it keeps up."""
        return 0.0 if self._is_asked else max(0.0, time.monotonic() - self._caught_up_s)

    async def recv(self) -> av.Packet:
        """Return the next picture for a sender; MediaStreamError when the track or its stream has ended."""
        shared = await self.next()
        return shared.packet(self.pts)

    async def next(self) -> SharedPicture:
        """Return the next picture; its time is `pts`. Raises like `recv`."""
        self._note_origin()
        if not self._queue:
            self._is_asked = True
        try:
            shared = await self.pull()
        finally:
            if self._is_asked:
                self._is_asked, self._caught_up_s = False, time.monotonic()
        # Two rungs may give the same moment's picture, and timestamps only go forward.
        self.pts = max(shared.encoded.pts, self.pts + 1)
        return shared

    def switch(self, stream: VideoStream) -> None:
        """Go over to another stream of the same codec with its next keyframe; until then nothing changes."""
        if stream is self.stream:
            return
        for coming in self._fans[1:]:
            coming.leave(self)
        self._fans = [self._fans[0]]
        if stream is not self._fans[0]:
            self._fans.append(stream)
            if self._joined:
                stream.join(self)

    def take(self, stream: VideoStream, shared: SharedPicture) -> None:
        """Queue a stream's picture; one that falls behind skips to the next keyframe."""
        keyframe = shared.encoded.keyframe
        if stream in self._fans[1:] and keyframe:
            self._fans.pop(0).leave(self)
        if stream is not self._fans[0]:
            return
        if keyframe:
            # Everything before it is of no use any more: newest wins.
            self._queue.clear()
            self._skipping = False
        elif not self._skipping and len(self._queue) >= _QUEUE_PICTURES:
            self._queue.clear()
            self._skipping = True
        if self._skipping:
            self.request_keyframe()
        else:
            self.push(shared)

    def request_keyframe(self) -> None:
        """Ask for a keyframe, less and less often the more this one taker asks."""
        now_s = time.monotonic()
        since_s = now_s - self._asked_s
        if since_s < self._asks_apart_s:
            return
        calm = since_s > 2 * _ASKS_APART_MOST_S
        self._asks_apart_s = _ASKS_APART_S if calm else min(2 * self._asks_apart_s, _ASKS_APART_MOST_S)
        self._asked_s = now_s
        self._fans[0].request_keyframe()

    def _note_origin(self) -> None:
        # aiortc begins its RTP timestamps at a random number that it shows nobody; yet with it a viewer can tell
        # the capture time of the very picture on its screen. Called before the next picture is asked for, all
        # packets of the last one have gone, so the sender's own note belongs to `self.pts`.
        sent = last_timestamp(self.sender) if self.sender is not None else None
        if sent is not None and self.pts >= 0 and self.origin is None:
            self.origin = (sent - self.pts) % 2**32
