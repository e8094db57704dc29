"""A preview window (OpenCV HighGUI) with hotkeys, a list of them, and a line of figures."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from avatar_stream import stages
from avatar_stream.controls import Controls, Status, Wish
from avatar_stream.errors import OutputClosed, SinkError
from avatar_stream.images.lettering import Patch, draw_lines
from avatar_stream.types import Frame

logger = logging.getLogger(__name__)

_WISHES = {
    "n": Wish.NEXT_AVATAR,
    "p": Wish.PREVIOUS_AVATAR,
    "b": Wish.NEXT_BACKGROUND,
    "s": Wish.SKELETON,
    "r": Wish.RECORD,
    "f": Wish.FREEZE,
    "c": Wish.CALIBRATE,
}
_HELP = (
    ("n  p", "next, previous avatar"),
    ("b", "next background"),
    ("s", "skeleton"),
    ("m", "mirror this window"),
    ("r", "record"),
    ("f", "freeze"),
    ("c", "measure me anew"),
    ("h", "this list"),
    ("q  Esc", "quit"),
)
_ESCAPE = 27
_WHITE, _GREY, _AMBER, _RED = (245, 246, 248), (178, 186, 198), (255, 205, 110), (255, 92, 92)
_BAR = (24, 27, 33, 255)
_GAP_PX = 14
_MOST_MESSAGES = 3


class WindowSink(stages.Sink):
    """Shows the newest frame; keys become wishes of the attached Controls.

    All its calls must come from the program's main thread: window systems ask for that.
    """

    class Options(stages.SinkOptions):
        """How it looks."""

        title: str = "avatar_stream"
        """Title of the window."""
        height_px: Annotated[int, Field(ge=120, le=4320)] = 720
        """The picture's height on the screen at the start; the window can be resized."""
        mirror: bool = False
        """Begin mirrored, as in a mirror (key m)."""
        help: bool = True
        """Begin with the list of hotkeys (key h)."""
        driver: bool = True
        """Show the source's own picture small in a corner."""

    options: Options
    on_main_thread = True

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options; `open()` makes the window."""
        super().__init__(options, context)
        self._controls: Controls | None = None
        self._mirror, self._help = self.options.mirror, self.options.help
        self._open = False
        self._patches: dict[object, tuple[object, Patch]] = {}

    def attach(self, controls: Controls) -> None:
        """Take what keys ask and the status line tells; called once before `open()`."""
        self._controls = controls

    def open(self) -> None:
        """Make the window.

        Raises:
            SinkError: no display can be reached, or this OpenCV has no windows.
        """
        check_display()
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        try:
            cv2.namedWindow(self.options.title, flags)
        except cv2.error as error:
            raise SinkError(
                "this OpenCV cannot open windows: pip uninstall every opencv-*-headless package, then "
                "pip install --force-reinstall opencv-contrib-python"
            ) from error
        cv2.resizeWindow(self.options.title, self.options.height_px, self.options.height_px)
        self._open = True
        self._shown_size: tuple[int, int] | None = None

    def write(self, frame: Frame) -> None:
        """Show a frame and act on the keys pressed since the last.

        Args:
            frame: image (H, W, 3) uint8 RGB; `driver` of any size, or None.

        Raises:
            OutputClosed: the window was closed, or q or Esc pressed.
            SinkError: the window is not open.
        """
        if not self._open:
            raise SinkError("the window is not open")
        canvas = self._picture(frame)
        status = self._controls.status if self._controls is not None else Status()
        self._draw_overlays(canvas, status)
        canvas = self._with_bar(canvas, status)
        height_px, width_px = canvas.shape[:2]
        if self._shown_size != (width_px, height_px):
            # Once per size: the user's own resizing stays until the picture gets another shape.
            cv2.resizeWindow(self.options.title, width_px, height_px)
            self._shown_size = (width_px, height_px)
        cv2.imshow(self.options.title, cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
        self.idle()

    def idle(self) -> None:
        """Act on keys and the window's cross; call it at least every 50 ms where no frame comes.

        Raises:
            OutputClosed: the window was closed, or q or Esc pressed.
        """
        if not self._open:
            return
        key = cv2.waitKeyEx(1)
        # Arrows and the like have bits above the letters', and letters' bits below; modifiers stand above both.
        if key != -1 and not key & 0xFF00:
            self._press(key & 0xFF)
        if cv2.getWindowProperty(self.options.title, cv2.WND_PROP_VISIBLE) < 1:
            self._ask(Wish.QUIT)
            raise OutputClosed

    def close(self) -> None:
        """Take the window away. May be called twice."""
        if not self._open:
            return
        self._open = False
        self._patches.clear()
        try:
            cv2.destroyWindow(self.options.title)
        except cv2.error:
            logger.debug("the window was gone already")
        cv2.waitKey(1)  # the window system takes it away only while events are read

    def _press(self, key: int) -> None:
        letter = chr(key).lower()
        if key == _ESCAPE or letter == "q":
            self._ask(Wish.QUIT)
            raise OutputClosed
        if letter == "m":
            self._mirror = not self._mirror
        elif letter == "h":
            self._help = not self._help
        elif letter in _WISHES:
            self._ask(_WISHES[letter])

    def _ask(self, wish: Wish) -> None:
        if self._controls is not None:
            self._controls.ask(wish)

    def _picture(self, frame: Frame) -> np.ndarray:
        # (H, W, 3) uint8 RGB, a picture of our own to draw on
        canvas = _scale_to_height(frame.image, self.options.height_px)
        if self._mirror:
            canvas = cv2.flip(canvas, 1)
        if self.options.driver and frame.driver is not None and frame.driver is not frame.image:
            small = _scale_to_height(frame.driver, round(0.2 * self.options.height_px))
            if self._mirror:
                small = cv2.flip(small, 1)
            _inset(canvas, small)
        return canvas

    def _draw_overlays(self, canvas: np.ndarray, status: Status) -> None:
        # What covers a part of the picture: only for a while, or only where something is to be said.
        height_px, width_px = canvas.shape[:2]
        size_px = _letters_px(height_px)
        if status.messages:
            texts = status.messages[-_MOST_MESSAGES:]
            rows = [(text, _AMBER) for text in texts]
            note = self._patch("messages", (texts, size_px), lambda: draw_lines(rows, size_px))
            note.blend(canvas, _GAP_PX, height_px - note.height_px - _GAP_PX)
        if self._help:
            rows = [(f"{keys}\t{what}", _WHITE) for keys, what in _HELP]
            help_ = self._patch("help", size_px, lambda: draw_lines(rows, size_px, columns=(4.2,)))
            help_.blend(canvas, _GAP_PX, round(0.09 * height_px))  # below a label in the picture's corner

    def _with_bar(self, canvas: np.ndarray, status: Status) -> np.ndarray:
        # The figures stand below the picture, where no hand is.
        size_px = _letters_px(canvas.shape[0])
        line = _status_line(status)
        left = self._patch("status", (line, size_px), lambda: draw_lines([(line, _GREY)], size_px, _BAR))
        hint = self._patch("hint", size_px, lambda: draw_lines([("h  keys", _GREY)], size_px, _BAR))
        bar = np.full((left.height_px, canvas.shape[1], 3), _BAR[:3], np.uint8)
        left.blend(bar, 0, 0)
        right_px = bar.shape[1] - hint.width_px
        if right_px > left.width_px:
            hint.blend(bar, right_px, 0)
        if status.recording:
            mark = self._patch("rec", size_px, lambda: draw_lines([("REC", _RED)], size_px, _BAR))
            mark.blend(bar, right_px - mark.width_px, 0)
            centre = (right_px - mark.width_px, bar.shape[0] // 2)
            cv2.circle(bar, centre, round(0.4 * size_px), _RED, -1, cv2.LINE_AA)
        return np.concatenate([canvas, bar])

    def _patch(self, name: str, key: object, draw: Callable[[], np.ndarray]) -> Patch:
        # Text is drawn when it changes, not at every frame.
        if name not in self._patches or self._patches[name][0] != key:
            self._patches[name] = (key, Patch(draw()))
        return self._patches[name][1]


def check_display() -> None:
    """Find out whether a window can be opened: OpenCV's window system ends the whole program where it cannot.

    Raises:
        SinkError: no display is named, or nobody answers there.
    """
    if not sys.platform.startswith("linux"):
        return
    # Wayland alone is none: OpenCV's wheels speak X11 only, which Wayland's desktops offer at DISPLAY.
    name = os.environ.get("DISPLAY", "")
    advice = "run it in a desktop session, use `ssh -X`, or take another output (web, video_file)"
    if not name:
        raise SinkError(f"cannot open a window: there is no display (DISPLAY is not set); {advice}")
    if not _display_answers(name):
        raise SinkError(f"cannot open a window: no display answers at DISPLAY={name}; {advice}")


def _display_answers(name: str) -> bool:
    host, _, number = name.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    if host not in ("", "unix"):
        try:
            socket.create_connection((host, 6000 + int(number)), timeout=2).close()
        except OSError:
            return False
        return True
    for address in (f"\0/tmp/.X11-unix/X{number}", f"/tmp/.X11-unix/X{number}"):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(address)
            except OSError:
                continue
            return True
    return False


def _scale_to_height(image: np.ndarray, height_px: int) -> np.ndarray:
    scale = height_px / image.shape[0]
    if scale == 1:
        return image.copy()
    size = (max(1, round(image.shape[1] * scale)), height_px)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _inset(canvas: np.ndarray, small: np.ndarray) -> None:
    # Top right, with a thin light frame; a picture too wide for the canvas is left out.
    height_px, width_px = small.shape[:2]
    left = canvas.shape[1] - width_px - _GAP_PX
    if left < 0 or height_px + 2 * _GAP_PX > canvas.shape[0]:
        return
    canvas[_GAP_PX - 2 : _GAP_PX + height_px + 2, left - 2 : left + width_px + 2] = _WHITE
    canvas[_GAP_PX : _GAP_PX + height_px, left : left + width_px] = small


def _letters_px(height_px: int) -> int:
    return max(13, round(height_px / 45))


def _status_line(status: Status) -> str:
    parts = [f"{status.fps:.0f} fps", f"{status.delay_ms:.0f} ms"] if status.fps > 0 else ["starting"]
    if status.avatar:
        parts.append(status.avatar)
    for on, word in ((status.frozen, "frozen"), (status.skeleton, "skeleton")):
        if on:
            parts.append(word)
    return "   ".join(parts)


STAGE = WindowSink
