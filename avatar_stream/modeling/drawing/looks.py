"""Which of an avatar's pictures shows what a pose needs: the nearest face, left and right hand, left and right arm.

One portrait shows one side of each hand and arm, one mouth and one turn of the head. Where an avatar has more pictures,
each part is read from the one in which it looks most alike. The trunk stays with the portrait: its cloth never jumps.
"""

from __future__ import annotations

import numpy as np

from avatar_stream.modeling.drawing.figure import LEFT_EYE, LIPS, RIGHT_EYE
from avatar_stream.types import (
    FACE,
    LEFT_ELBOW,
    LEFT_HAND,
    LEFT_SHOULDER,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)

CHOSEN_PARTS = FACE_PART, LEFT_PART, RIGHT_PART, LEFT_ARM_PART, RIGHT_ARM_PART = range(5)
Shown = tuple[np.ndarray, ...]  # what `describe` says of one picture
_STAY = 0.8  # another picture is taken where it is nearer than this times the present one's distance
_NEAR, _FAR = 0.4, 0.8  # palm lengths apart: up to here a hand's texture is believed, from here on not at all
_DEPTH = 0.6  # how much depth counts: trackers guess it
_FEATURES = 3.0  # how much more lips and eyes count than the rest of the face
_TWIST = (
    0.5  # how much the turn of the hand, and so of the forearm, counts beside the bones, in shoulder widths
)
_STRETCH = (
    2.0  # how much it counts that an arm would be drawn longer than its picture shows it: that is a smear
)
_ARM_REACH = 0.25  # how near to the upper arm's axis a hand hides it, in shoulder widths
_KNUCKLES = [5, 9, 13, 17]
_FOREHEAD, _CHIN = 10, 152
_WEIGHTS = np.ones(468, np.float32)
_WEIGHTS[[*LIPS, *LEFT_EYE, *RIGHT_EYE]] = _FEATURES
_WEIGHTS /= _WEIGHTS.sum()


def describe(points: np.ndarray) -> Shown:
    """What `CHOSEN_PARTS` look like, apart from where they are and how they are rolled in the picture.

    Args:
        points: (553, 3) float32 landmarks, canvas px; NaN where not seen.

    Returns:
        (468, 3) of the face, in face heights; twice (21, 3) of a hand, in palm lengths; twice (4, 3) of an arm.
    """
    hands = (_hand(points[part]) for part in (LEFT_HAND, RIGHT_HAND))
    arms = (
        _arm(points, LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, LEFT_HAND),
        _arm(points, RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST, RIGHT_HAND),
    )
    return (_face(points[FACE]), *hands, *arms)


def _arm(points: np.ndarray, shoulder: int, elbow: int, wrist: int, hand: slice) -> np.ndarray:
    """Upper arm, forearm, the way across the palm, and the hand; rolled until the upper arm points up.

    In shoulder widths; the hand goes from the wrist to the middle finger's first joint.
    """
    width = float(np.linalg.norm(points[LEFT_SHOULDER, :2] - points[RIGHT_SHOULDER, :2])) + 1e-6
    across = points[hand][17] - points[hand][5]
    across = _TWIST * width / (float(np.linalg.norm(across)) + 1e-6) * across
    upper, fore = points[elbow] - points[shoulder], points[wrist] - points[elbow]
    fingers = points[hand][10] - points[hand][0]
    return _upright(np.stack([upper, fore, across, fingers]) / width, upper[:2])


def _hand(hand: np.ndarray) -> np.ndarray:
    """From the wrist, the middle knuckle upwards: a texture turns within the picture, so roll does not count."""
    from_wrist = hand - hand[0]
    palm = float(np.median(np.linalg.norm(from_wrist[_KNUCKLES], axis=1))) + 1e-6
    return _upright(from_wrist, from_wrist[9, :2]) / palm


def _face(face: np.ndarray) -> np.ndarray:
    up = face[_FOREHEAD, :2] - face[_CHIN, :2]
    centred = face[:468] - face[:468].mean(axis=0)
    return _upright(centred, up) / (float(np.linalg.norm(face[_FOREHEAD] - face[_CHIN])) + 1e-6)


def _upright(points: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Rolled within the picture so that `up` (2,) points upwards; short ones hardly count, for they say no roll."""
    length = float(np.linalg.norm(up)) + 1e-6
    cosine, sine = -up[1] / length, -up[0] / length
    turned = points * np.array([1.0, 1.0, _DEPTH], np.float32)
    turned[:, 0], turned[:, 1] = (
        cosine * points[:, 0] - sine * points[:, 1],
        sine * points[:, 0] + cosine * points[:, 1],
    )
    return turned


class LookChooser:
    """Chooses pictures for one pose after another, and stays with one where another is hardly nearer.

    Args:
        looks: what `describe` says of each picture's pose, the portrait's first.
    """

    def __init__(self, looks: list[Shown]):
        self._looks = [np.stack([look[part] for look in looks]) for part in CHOSEN_PARTS]
        for part in (LEFT_ARM_PART, RIGHT_ARM_PART):
            self._looks[part][_hidden(self._looks[part])] = np.nan
        self._chosen = [0] * len(CHOSEN_PARTS)

    def choose(self, points: np.ndarray) -> tuple[int, ...]:
        """Return the numbers of the pictures for `CHOSEN_PARTS`.

        Args:
            points: (553, 3) float32 target landmarks, canvas px, all finite.
        """
        if len(self._looks[0]) > 1:
            for part, wanted in enumerate(describe(points)):
                apart = _apart(part, self._looks[part], wanted)
                nearest = int(apart.argmin())
                if apart[nearest] < _STAY * apart[self._chosen[part]]:
                    self._chosen[part] = nearest
        return tuple(self._chosen)


def trust(shown: Shown, points: np.ndarray) -> np.ndarray:
    """How far the texture of `CHOSEN_PARTS` may be believed: (5,) float32, 0..1.

    An open hand moved onto a fist is a fist torn open: sharp, and harder to read than a soft one.

    Args:
        shown: what `describe` says of the picture's pose that each part is read from.
        points: (553, 3) float32 target landmarks, canvas px.
    """
    believed = np.ones(len(CHOSEN_PARTS), np.float32)
    for part, hand in ((LEFT_PART, LEFT_HAND), (RIGHT_PART, RIGHT_HAND)):
        apart = _distances(shown[part][None], _hand(points[hand]), None)[0]
        believed[part] = np.clip((_FAR - apart) / (_FAR - _NEAR), 0.0, 1.0)
    return believed


def _apart(part: int, looks: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(L,) how far a part in several pictures is from the one that is wanted."""
    if part not in (LEFT_ARM_PART, RIGHT_ARM_PART):
        return _distances(looks, wanted, _WEIGHTS if part == FACE_PART else None)
    lengths, needed = (np.linalg.norm(each[..., :2, :2], axis=-1) for each in (looks, wanted))
    stretch = np.maximum(needed - lengths, 0.0).sum(axis=1)
    return np.nan_to_num(_distances(looks[:, :3], wanted[:3], None) + _STRETCH * stretch, nan=np.inf)


def _hidden(arms: np.ndarray) -> np.ndarray:
    """(L,) bool: the hand lies before the upper arm there, which would show its picture; arms: (L, 4, 3)."""
    upper, wrist, fingers = arms[:, 0, :2], arms[:, :2, :2].sum(axis=1), arms[:, 3, :2]
    square = np.maximum((upper * upper).sum(axis=1), 1e-6)
    hidden = np.zeros(len(arms), bool)
    for along_hand in (0.0, 0.5, 1.0, 1.5):
        place = wrist + along_hand * fingers
        along = np.clip((place * upper).sum(axis=1) / square, 0.0, 1.0)
        hidden |= np.linalg.norm(place - along[:, None] * upper, axis=1) < _ARM_REACH
    return hidden


def _distances(looks: np.ndarray, wanted: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(L,) mean distances; a picture that does not show the part is infinitely far."""
    apart = np.linalg.norm(looks - wanted, axis=2)
    means = apart.mean(axis=1) if weights is None else apart @ weights
    return np.where(np.isfinite(means), means, np.inf)
