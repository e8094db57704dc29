"""What viewers see instead of the avatar: a card while the signer is away, or the signer's own picture."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from avatar_stream.images.fitting import fit
from avatar_stream.images.lettering import Patch, draw_lines
from avatar_stream.running.pipeline import RenderedFrame
from avatar_stream.types import Frame

HOLD_TEXT = "The signer is coming back"
_CARD, _INK = (51, 56, 63), (248, 249, 250)
_LETTERS_PART = 1 / 18  # of the picture's shorter side


class StandIn:
    """Makes them in the sizes of the frame, and of the person, that they stand in for."""

    def card(self, rendered: RenderedFrame) -> RenderedFrame:
        """Return the hold card at this frame's time."""
        size, square = _sizes(rendered)
        image, person = _draw_card(*size), _draw_card(*square)
        return in_place_of(rendered, _frame(rendered, image, person))

    def signer(self, rendered: RenderedFrame) -> RenderedFrame:
        """Return the source's own picture, whole, on a plain ground."""
        size, square = _sizes(rendered)
        image, person = fit(rendered.frame.image, size, _CARD), fit(rendered.frame.image, square, _CARD)
        return in_place_of(rendered, _frame(rendered, image, person))


def in_place_of(rendered: RenderedFrame, shown: Frame) -> RenderedFrame:
    """Return `rendered` with another picture, at its own time."""
    frame = rendered.shown
    shown = dataclasses.replace(shown, time_s=frame.time_s, index=frame.index, driver=frame.driver)
    return dataclasses.replace(rendered, shown=shown)


def _sizes(rendered: RenderedFrame) -> tuple[tuple[int, int], tuple[int, int]]:
    # (width, height) of the picture and of the person, px
    image, person = rendered.shown.image, rendered.shown.person
    person = image if person is None else person
    return (image.shape[1], image.shape[0]), (person.shape[1], person.shape[0])


def _frame(rendered: RenderedFrame, image: np.ndarray, person: np.ndarray) -> Frame:
    opaque = np.full(image.shape[:2], 255, np.uint8)
    person = np.dstack([person, np.full(person.shape[:2], 255, np.uint8)])
    return dataclasses.replace(rendered.shown, image=image, alpha=opaque, person=person, synthetic=False)


@cache
def _draw_card(width_px: int, height_px: int) -> np.ndarray:
    card = np.full((height_px, width_px, 3), _CARD, np.uint8)
    size_px = max(10, round(_LETTERS_PART * min(width_px, height_px)))
    text = draw_lines([(HOLD_TEXT, _INK)], size_px, (0, 0, 0, 0))
    top, left = max(0, (height_px - text.shape[0]) // 2), max(0, (width_px - text.shape[1]) // 2)
    Patch(text).blend(card, left, top)
    card.flags.writeable = False  # one for all frames
    return card
