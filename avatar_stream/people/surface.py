"""Where on a person a pixel lies, as two numbers that stay with the skin: the chart of the surface."""

from __future__ import annotations

import numpy as np

from avatar_stream.people.rig import HAIR, Rig
from avatar_stream.people.skeleton import INDEX

UNKNOWN = 65535  # in both numbers where nothing is seen
_ATLAS = 0.75  # the texture of body, eyes and teeth takes this part of the chart, from its origin
_HAIR_ORIGIN, _HAIR_SIDE = np.array([0.79, 0.0], np.float32), 0.2


def chart(rig: Rig) -> np.ndarray:
    """(V, 2) float32 in 0..1: every vertex's place in one chart of the whole surface.

    Body, eyes and teeth share one texture, in which left and right have places of their own (but for shoes), so
    its coordinates are the chart; one unit is 1 to 3 m. Sheets of hair share strips of their texture; they are told
    apart by their direction from the middle of the head.
    """
    places = rig.texcoords % 1.0 * _ATLAS
    hair = rig.kinds == HAIR
    middle = (rig.bind_m[INDEX["Head"]] + rig.bind_m[INDEX["HeadEnd"]]) / 2
    x, y, z = (rig.positions_m[hair] - middle).T
    around = np.arctan2(x, z) / (2 * np.pi) + 0.5  # the seam is at the back
    above = np.arctan2(y, np.hypot(x, z)) / np.pi + 0.5
    places[hair] = _HAIR_ORIGIN + _HAIR_SIDE * np.stack([around, above], 1)
    return places.astype(np.float32)
