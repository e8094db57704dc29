"""Hands and ends of arms in a picture, and regions round them.

A place in a picture is a complex number here, x + 1j * y px: it costs a tenth of an array of two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from avatar_stream.trackers._body import BodyLandmarks
from avatar_stream.trackers._detectors import Detection
from avatar_stream.trackers._regions import Region, angle_from_up, round_points
from avatar_stream.types import LEFT_ELBOW, LEFT_WRIST, RIGHT_ELBOW, RIGHT_WRIST

LEFT, RIGHT = 0, 1
RAISED = 0.1  # a region of a hand, by a part of its side

# Rows of the body: wrist, elbow, knuckle of the index and of the little finger.
_ARMS = ((LEFT_WRIST, LEFT_ELBOW, 19, 17), (RIGHT_WRIST, RIGHT_ELBOW, 20, 18))
_PALM = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])  # what moves least when fingers do
_ROOM = 2.0  # region of a followed hand, in sizes of its palm points
_ROOM_BODY = 2.7  # the same where the body's points say where it is
_ROOM_PALM, _RAISED_PALM = 2.6, 0.5
_STILL = 0.2  # movement in one frame, in hand sizes, below which a region hardly moves
_FAST = 0.25  # movement in one frame, in hand sizes, from which a region grows
_SAME_HAND = 0.45  # mean distance of points, in hand sizes, below which two hands are one


@dataclass
class HandLandmarks:
    """One hand as read.

    Attributes:
        points: (21, 3) float64 px, z from its wrist, smaller is nearer.
        confidence: 0..1, the network's.
        right: 0..1, how much the network takes it for a right hand.
        flat: (21,) complex128, the points as places.
        wrist: its place.
        knuckles: the place in their middle.
        middle: of the palm.
        size_px: length of its palm.
    """

    points: np.ndarray
    confidence: float
    right: float
    flat: np.ndarray = field(init=False)
    wrist: complex = field(init=False)
    knuckles: complex = field(init=False)
    middle: complex = field(init=False)
    size_px: float = field(init=False)

    def __post_init__(self) -> None:
        """Measure the palm."""
        self.flat = places(self.points)
        self.wrist, index, middle, ring, little = self.flat[[0, 5, 9, 13, 17]].tolist()
        self.knuckles = (index + middle + ring + little) / 4
        self.middle = (self.wrist + self.knuckles) / 2
        self.size_px = max(abs(each - self.wrist) for each in (index, middle, little))


@dataclass(frozen=True)
class ArmEnd:
    """Where the body has the end of an arm.

    Attributes:
        wrist: its place, like those of the elbow and of the index and little finger's knuckles.
        seen: 0..1, how visible the wrist is.
    """

    wrist: complex
    elbow: complex
    index: complex
    little: complex
    seen: float

    @property
    def knuckles(self) -> complex:
        """The place between them."""
        return (self.index + self.little) / 2

    @property
    def middle(self) -> complex:
        """Where the middle of the palm must be."""
        return (self.wrist + self.knuckles) / 2

    @property
    def centre(self) -> complex:
        """What trembles least."""
        return (self.wrist + self.index + self.little) / 3


def places(points: np.ndarray) -> np.ndarray:
    """(N,) complex128 of points (N, 2 or more) px."""
    return points[:, 0] + 1j * points[:, 1]


def arm_of(body: BodyLandmarks, side: int) -> ArmEnd:
    """The end of a body's left or right arm in this very picture."""
    rows = _ARMS[side]
    wrist, elbow, index, little = places(body.raw[rows, :]).tolist()
    return ArmEnd(wrist, elbow, index, little, float(body.visibility[rows[0]]))


def inside(place: complex, image: np.ndarray, beyond_px: float = 0.0) -> bool:
    """Whether a picture (H, W, 3) has this place, or is not further than `beyond_px` from it."""
    height_px, width_px = image.shape[:2]
    return (
        -beyond_px <= place.real < width_px + beyond_px and -beyond_px <= place.imag < height_px + beyond_px
    )


def dot(first: complex, second: complex) -> float:
    """Two ways' product: their lengths and the cosine between them."""
    return first.real * second.real + first.imag * second.imag


def region_followed(hand: HandLandmarks, before: ArmEnd, now: ArmEnd) -> Region:
    """Where a hand of the frame before is now: moved as the body's hand has moved."""
    size_px = max(hand.size_px, 1.0)
    moved = now.centre - before.centre
    # The body trembles by itself: a hand that is nearly still is where it was.
    moved *= min(1.0, abs(moved) / (_STILL * size_px)) ** 2
    fast = abs(moved) / size_px
    index, middle, ring = hand.flat[[5, 9, 13]].tolist()
    angle = angle_from_up((index + ring) / 4 + middle / 2 - hand.wrist)
    region = round_points(hand.points[_PALM, :2], angle).raised(RAISED)
    room = _ROOM * (1.0 if fast < _FAST else min(1.0 + 0.5 * (fast - _FAST), 1.3))
    return region.scaled(room).moved(moved.real, moved.imag)


def region_of_arm(arm: ArmEnd) -> Region:
    """Where the body says that the hand is."""
    middle = (2 * arm.index + arm.little) / 3
    way = middle - arm.wrist
    region = Region(middle.real, middle.imag, 2 * abs(way), angle_from_up(way))
    return region.raised(0.1).scaled(_ROOM_BODY)


def region_of_palm(palm: Detection) -> Region:
    """Round a hand of which the detector found the palm."""
    # The detector's box: its centre lies in the palm, between the wrist and the knuckle of the middle finger.
    wrist, index, middle, _, _, thumb, _ = places(palm.points).tolist()
    centre = (wrist + index + middle + thumb) / 4
    region = Region(centre.real, centre.imag, palm.size_px, angle_from_up(middle - wrist))
    return region.raised(_RAISED_PALM).scaled(_ROOM_PALM)


def same_hand(first: HandLandmarks, second: HandLandmarks) -> bool:
    """Whether two hands lie on each other."""
    away_px = float(np.abs(first.flat - second.flat).mean())
    return away_px < _SAME_HAND * max(first.size_px, second.size_px)


def owner(hands: list[HandLandmarks], arms: tuple[ArmEnd, ...]) -> int:
    """To whom a hand belongs that both sides found: by the body's wrists, and by how it looks."""
    looks = (hands[LEFT].right + hands[RIGHT].right) / 2 - 0.5
    scores = []
    for hand, arm, own in zip(hands, arms, (-looks, looks), strict=True):
        away = abs(hand.wrist - arm.wrist) / max(hand.size_px, 1.0)
        scores.append(hand.confidence - away + own)
    return RIGHT if scores[RIGHT] > scores[LEFT] else LEFT
