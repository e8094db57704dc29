"""The programme beside which the signer stands: read ahead or followed live, each part of it at its capture time."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from avatar_stream.clocks import ArrivalClock, PlayingClock
from avatar_stream.errors import SourceError
from avatar_stream.running.show.feed import CameraFeed, Feed, PacketMemory, ProgrammePicture
from avatar_stream.running.show.options import USUAL_SIZE, ShowOptions
from avatar_stream.types import Sound

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
# A file is read so far ahead: pictures and sound of one moment do not lie beside each other in it.
_AHEAD_S = 0.3
_LATEST_S = 0.5  # a file that fell this far behind (a suspended laptop, a slow disk) goes on from now
_SILENT_S = 1.0  # then it is told
_KEPT_LONGER_S = 1.0  # than until it is due
_FIRST_PICTURE_S = 5.0  # `open` waits so long for an address
_LARGEST_SIDE_PX = 1920
_LEAST_FPS, _USUAL_FPS = 20.0, 25.0  # slides must not make the signer one of them
_STOP_S = 5.0


class Programme:
    """Reads on a thread of its own and keeps what is not yet due, and no more.

    A file's moments count from `begin`, at its own pace. What comes live is captured when it arrives, steadied by its
    own times (`ArrivalClock`); what comes in pieces of seconds (HLS) is played, from the first one on (`PlayingClock`).
    A live programme that is lost is tried again each second.

    Attributes:
        live: it is a camera or an address.
        size: (width, height) of the outgoing picture, px, known after `open`; 1280x720 where an address gave nothing
            by then and none was asked for.
        fps: of the outgoing picture, at least: where the programme has fewer pictures, its last one is shown again.
        has_sound: known after `open` for a file; of an address only what was asked for.
        ended: a file has come to its end, or reading has failed: nothing more will be added.
        error: why it has failed.
    """

    def __init__(
        self, options: ShowOptions, delay_s: float = 0.0, changed: threading.Condition | None = None
    ):
        """Store the options.

        Args:
            options: which programme.
            delay_s: how long after its capture everything is taken.
            changed: told where something new is here; its lock guards what is kept.
        """
        self.options, self.live = options, options.path is None
        self.size, self.fps = options.picture_size or USUAL_SIZE, options.fps or _USUAL_FPS
        self.has_sound, self.ended = options.sound and options.camera is None, False
        self._latest_s = max(_LATEST_S, delay_s)  # later than this, playback restarts from now
        self._kept_s = delay_s + _KEPT_LONGER_S + _AHEAD_S
        self._changed = changed or threading.Condition()
        self._pictures: deque[ProgrammePicture] = deque()
        self._sounds: deque[Sound] = deque()
        self._feed: Feed | CameraFeed | None = None
        self._memory = PacketMemory()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self.error: Exception | None = None
        self._trouble, self._came_s, self._seen = "", time.monotonic(), False
        self._grid_s: float | None = None
        self._settled = False  # `open` is over: the size stays, whatever comes then

    # Opening and closing -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Open a file or camera, or begin to look for an address and wait a little for its first picture.

        Raises:
            SourceError: a file or camera cannot be opened. An address that gives nothing yet is no error: see `notice`.
        """
        self._stopped.clear()
        if not self.live or self.options.camera is not None:
            self._know(self._connect())
        if self.live:
            self._start(self._follow)
            with self._changed:
                self._changed.wait_for(lambda: self._seen or self._stopped.is_set(), _FIRST_PICTURE_S)
                self._settled = True

    def begin(self, now_s: float) -> None:
        """Play a file, its first picture at `now_s` (`time.monotonic()`); nothing to do for what is live."""
        if not self.live and self._thread is None:
            self._start(self._play, now_s)

    def close(self) -> None:
        """Stop reading and give everything back. May be called twice."""
        self._stopped.set()
        thread, self._thread = self._thread, None
        feed = self._feed
        if feed is not None:
            feed.stop()
        if thread is not None:
            thread.join(_STOP_S)
        if self._feed is not None and (thread is None or not thread.is_alive()):
            self._feed.close()
            self._feed = None

    # What is here, asked while holding the lock of `changed` ------------------------------------------------

    def next_picture_s(self) -> float | None:
        """When the oldest picture kept here was captured; None where none is."""
        return self._pictures[0].time_s if self._pictures else None

    def next_but_one_s(self) -> float | None:
        """When the oldest picture but one was captured; None where there are not two."""
        return self._pictures[1].time_s if len(self._pictures) > 1 else None

    def take_picture(self) -> ProgrammePicture:
        """Take the oldest picture."""
        return self._pictures.popleft()

    def take_sounds(self, until_s: float) -> list[Sound]:
        """Take the blocks that begin before `until_s`, oldest first."""
        sounds = []
        while self._sounds and self._sounds[0].time_s < until_s:
            sounds.append(self._sounds.popleft())
        return sounds

    @property
    def notice(self) -> str:
        """Why nothing comes, or empty; from any thread."""
        silent_s = time.monotonic() - self._came_s
        if not self.live or self._stopped.is_set() or silent_s < _SILENT_S:
            return ""
        what = "its last picture stays" if self._seen else "the signer stands alone"
        camera = self._feed.source.notice if isinstance(self._feed, CameraFeed) else ""
        trouble = self._trouble or camera or f"nothing from {self.options.name}"
        return f"programme: {trouble}, for {silent_s:.0f} s; {what} until it comes"

    # Offline ------------------------------------------------------------------------------------------------

    def moments(self) -> Iterator[ProgrammePicture | Sound]:
        """Yield a file's pictures and sound at their media times; again and again where it loops."""
        passed_s = 0.0
        while True:
            last_s = 0.0
            for item in self._feed:
                last_s = max(
                    last_s, item.time_s + (1 / self._feed.fps if isinstance(item, ProgrammePicture) else 0.0)
                )
                item = dataclasses.replace(item, time_s=passed_s + item.time_s)
                if isinstance(item, Sound) or self._is_wanted(item.time_s):
                    yield item
            self._feed.close()
            if not self.options.loop or last_s == 0.0:
                return
            passed_s += last_s
            self._connect()

    # The thread ---------------------------------------------------------------------------------------------

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        self._thread = threading.Thread(
            target=self._shell, args=(work, *arguments), name="avatar-programme", daemon=True
        )
        self._thread.start()

    def _shell(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # the thread's shell: raised by whoever takes what is here
            self.error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _play(self, begun_s: float) -> None:
        clock = PlayingClock(self._latest_s, begun_s)
        for item in self.moments():
            if not self._add_when_due(item, clock):
                return

    def _add_when_due(self, item: ProgrammePicture | Sound, clock: ArrivalClock | PlayingClock) -> bool:
        # False where nothing more is wanted.
        time_s = clock.capture_s(item.time_s)
        if self._stopped.wait(max(0.0, time_s - time.monotonic() - _AHEAD_S)):
            return False
        self._add(dataclasses.replace(item, time_s=time_s))
        return True

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                feed = self._feed
                if feed is None:
                    feed = self._connect()
                    logger.info("the programme %s is here", self.options.name)
                self._trouble = ""
                self._follow_feed(feed)
            except SourceError as error:
                if not self._trouble:
                    logger.warning("%s", error)
                self._trouble = str(error)
            if isinstance(self._feed, Feed):
                self._feed.close()
                self._feed = None
            self._stopped.wait(_RETRY_S)

    def _follow_feed(self, feed: Feed | CameraFeed) -> None:
        in_pieces = isinstance(feed, Feed) and feed.in_pieces
        clock = PlayingClock(self._latest_s) if in_pieces else ArrivalClock()
        for item in feed:
            if self._stopped.is_set():
                return
            if not self._seen:
                self._know(feed)
            if isinstance(item, ProgrammePicture) and not self._is_wanted(item.time_s):
                continue
            if isinstance(feed, CameraFeed):
                self._add(item)
            else:
                self._add_when_due(item, clock)

    def _connect(self) -> Feed | CameraFeed:
        # Known before it is open: who waits for an address must be able to be stopped.
        camera = self.options.camera is not None
        self._feed = feed = CameraFeed(self.options) if camera else Feed(self.options, self._memory)
        feed.open()
        return feed

    def _know(self, feed: Feed | CameraFeed) -> None:
        scale = min(1.0, _LARGEST_SIDE_PX / max(feed.size))
        width_px, height_px = (max(64, 2 * round(side * scale / 2)) for side in feed.size)
        size = self.options.picture_size or (width_px, height_px)
        with self._changed:
            self.size = self.size if self._settled else size
        self.fps = self.options.fps or (feed.fps if feed.fps >= _LEAST_FPS else _USUAL_FPS)
        if not self.live:
            self.has_sound = self.has_sound and feed.has_sound

    def _is_wanted(self, time_s: float) -> bool:
        # So many pictures a second as are asked for, as even as the programme's own allow.
        if self.options.fps is None:
            return True
        step_s = 1 / self.options.fps
        if self._grid_s is not None and -1 < time_s - self._grid_s < -0.5 / self._feed.fps:
            return False
        grid_s = time_s if self._grid_s is None else self._grid_s
        self._grid_s = (grid_s if abs(time_s - grid_s) < step_s else time_s) + step_s
        return True

    def _add(self, item: ProgrammePicture | Sound) -> None:
        with self._changed:
            kept: deque[Any] = self._pictures if isinstance(item, ProgrammePicture) else self._sounds
            if kept and item.time_s <= kept[-1].time_s:
                return  # a stream that was found again may begin with what is known
            if isinstance(item, ProgrammePicture):
                item = dataclasses.replace(item, came_s=time.monotonic())
            kept.append(item)
            while item.time_s - kept[0].time_s > self._kept_s:
                kept.popleft()
            if isinstance(item, ProgrammePicture):
                self._came_s, self._seen = time.monotonic(), True
            self._changed.notify_all()
