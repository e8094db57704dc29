"""Programme and signer in one picture."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import ImageColor

from avatar_stream.images.compose import TRANSPARENT, Composer
from avatar_stream.running.show.options import ShowOptions, signer_side_px
from avatar_stream.types import Frame


class InVision:
    """Puts the signer into the programme's picture.

    Attributes:
        size: (width, height) of the picture, px.
        square: (left, top, side) of the signer's square in it, px.
    """

    def __init__(self, options: ShowOptions, size: tuple[int, int], compose: Composer.Options):
        """Work out where the signer stands.

        Args:
            options: corner, size, margin, plate.
            size: (width, height) of the outgoing picture, px, even numbers.
            compose: of the pipeline: its label, and what is seen before there was any programme.
        """
        self.size, width_px, height_px = size, *size
        side_px = signer_side_px(options, width_px, height_px)
        gap_px = round(options.margin * height_px)
        across, down = width_px - side_px, height_px - side_px
        left = across - gap_px if options.corner.endswith("right") else gap_px
        top = down - gap_px if options.corner.startswith("bottom") else gap_px
        left, top = min(max(left, 0), across), min(max(top, 0), down)
        self.square = left, top, side_px
        self._plate = ImageColor.getrgb(options.plate)[:3] if options.plate else None
        background = (
            Composer.Options().background if compose.background == TRANSPARENT else compose.background
        )
        settings = compose.model_copy(
            update={
                "size": size,
                "background": background,
                "scale": side_px / min(size),
                "place": (left / across if across else 0.0, top / down if down else 0.0),
            }
        )
        self._composer = Composer(settings)
        # No picture of a person was generated where a card or the human signer stands: no label then.
        self._unlabelled = Composer(settings.model_copy(update={"label": None}))

    def compose(self, signer: Frame, programme: np.ndarray | None, time_s: float, index: int) -> Frame:
        """Return the outgoing frame.

        Args:
            signer: with `person`; its pose and driver are kept.
            programme: (height, width, 3) uint8 RGB in the outgoing size, may be drawn on; None: there was none yet.
            time_s: of the programme's picture.
            index: of the outgoing frame.

        Returns:
            A Frame with image (height, width, 3) uint8 RGB, without alpha: nothing of it is transparent.
        """
        composer = self._composer if signer.synthetic else self._unlabelled
        if programme is not None:
            if self._plate is not None:
                left, top, side_px = self.square
                programme[top : top + side_px, left : left + side_px] = self._plate
            composer.set_picture(programme)
        shown = composer.compose(signer, signer.image if signer.person is None else signer.person)
        return dataclasses.replace(shown, alpha=None, time_s=time_s, index=index)
