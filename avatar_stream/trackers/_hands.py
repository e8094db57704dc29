"""Follows both hands: where they were, where the body says they are, where a palm is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from avatar_stream.trackers._body import Body
from avatar_stream.trackers._detectors import Detector, Found
from avatar_stream.trackers._networks import Networks
from avatar_stream.trackers._regions import Region, angle_from_up, round_points
from avatar_stream.types import LEFT_ELBOW, LEFT_WRIST, RIGHT_ELBOW, RIGHT_WRIST

LEFT, RIGHT = 0, 1

_SIDE_PX, _RECROP_PX, _PALM_PX = 224, 256, 192
_DEPTH = 0.4  # the network's z in these parts of a crop's side
# Rows of the body: wrist, elbow, knuckle of the index and of the little finger.
_ARMS = ((LEFT_WRIST, LEFT_ELBOW, 19, 17), (RIGHT_WRIST, RIGHT_ELBOW, 20, 18))
_PALM = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])  # what moves least when fingers do
_ROOM, _RAISED = 2.0, 0.1  # region of a followed hand, in sizes of its palm points
_ROOM_BODY = 2.7  # the same where the body's points say where it is
_CLOSER = 0.8  # the same once more, without asking the recrop network
_ROOM_PALM, _RAISED_PALM = 2.6, 0.5
_KNUCKLES = slice(0, 5)  # of what the palm detector marks: wrist and knuckles
_STILL = 0.2  # movement in one frame, in hand sizes, below which a region hardly moves
_FAST = 0.25  # movement in one frame, in hand sizes, from which a region grows
_FIND, _KEEP = 0.5, 0.3  # the network's confidence to take a hand anew, and to go on with one just seen
_GOOD = 0.45  # quality from which no other look is needed
_MOST_FROM_WRIST = 1.0  # of a hand's wrist from the body's, in hand sizes
_SURE = 0.6  # confidence from which a hand may also lie oddly to its arm
_MOST_FROM_WRIST_UNSURE, _MOST_BENT = 0.8, -0.35  # the latter is the cosine of palm and forearm
_VISIBLE = 0.1  # the body's wrist must be, for a hand to be looked for
_SAME_HAND = 0.45  # mean distance of points, in hand sizes, below which two hands are one
_REMEMBERED_S = 0.6  # so long after it was lost a hand is looked for with everything there is
_PALM_OF_SHOULDERS = 0.27  # length of a palm, in widths of the shoulders
_SEARCH_SIDE, _SEARCH_AHEAD = (
    5.0,
    0.6,
)  # where palms are searched, in hand sizes, and how far beyond the wrist
_FIND_PALM, _SURE_PALM = 0.4, 0.6
_CARRIED_S = 0.6  # so long fingers are remembered while only the palm is seen
_CARRIED_TRUST = 0.5  # most confidence in them
_MOST_RESIZED = 1.6
_HIDDEN_S = 1.0  # so long a hand behind the other is remembered
_HIDDEN_FROM_OTHER = 1.0  # of the body's palm from the other hand's, in hand sizes, that it is hidden by it
_HIDDEN_TURNED = 0.7  # cosine of the body's palm then and now from which it has not turned
_HIDDEN_TRUST = 0.29  # most confidence in it: nothing of it is seen
_SEARCH_EVERY = 5  # frames between searches for a hand that was not there for long
# What the palm detector marks: wrist, four knuckles, two joints of the thumb.
_MARKED = np.array([0, 5, 9, 13, 17, 1, 2])


@dataclass
class Hand:
    """One hand as read.

    Attributes:
        points: (21, 3) float64 px, z from its wrist, smaller is nearer.
        confidence: 0..1, the network's.
        right: 0..1, how much the network takes it for a right hand.
        size_px: length of its palm.
    """

    points: np.ndarray
    confidence: float
    right: float
    size_px: float = field(init=False)

    def __post_init__(self):
        """Measure the palm."""
        flat = self.points[:, :2]
        self.size_px = float(np.linalg.norm(flat[[5, 9, 17]] - flat[0], axis=1).max())


@dataclass
class _Memory:
    hand: Hand | None = None  # of the frame before
    read: Hand | None = None  # the last one that the hand's network read
    seen_s: float = -np.inf  # when that was
    outside_s: float = -np.inf  # when it was out of the picture; it may come back at any time
    size_px: float = 0.0  # slowly forgotten length of the palm
    place: np.ndarray | None = None  # of the body's hand in the frame before
    read_palm: np.ndarray | None = None  # the body's wrist and knuckles when `read` was read, (2, 2) px
    missed: int = 0  # frames since a hand was there


class HandsReader:
    """Keeps a left and a right hand.

    Args:
        networks: all networks.
    """

    def __init__(self, networks: Networks):
        """Know no hands yet."""
        self._networks = networks
        self._palms = Detector(networks.palms, _PALM_PX, (8, 16, 16, 16))
        self.reset()

    def reset(self) -> None:
        """Forget both."""
        self._memories = (_Memory(), _Memory())
        self._shoulders_px = 0.0
        self._began_s = np.inf
        self.outside = [False, False]  # which hands cannot be seen, for they are out of the picture

    def read(self, image: np.ndarray, body: Body, time_s: float) -> tuple[Hand | None, Hand | None]:
        """Read both hands of a person.

        Args:
            image: (H, W, 3) uint8 RGB.
            body: the person's, in this picture.
            time_s: of the frame.

        Returns:
            Left and right hand; None where there is none.
        """
        width_px = float(np.linalg.norm(body.raw[11, :2] - body.raw[12, :2]))
        self._shoulders_px = max(width_px, 0.98 * self._shoulders_px)
        if time_s < self._began_s:
            self._began_s = time_s
        hands: list[Hand | None] = [None, None]
        # The one that is followed first: what it takes the other cannot be.
        for side in sorted((LEFT, RIGHT), key=lambda each: self._memories[each].hand is None):
            sure = self._memories[side].hand is None and self._memories[1 - side].hand is not None
            hands[side] = self._read_side(side, image, body, time_s, hands[1 - side] if sure else None)
        if hands[LEFT] is not None and hands[RIGHT] is not None:
            self._part(hands, image, body, time_s)
        for side, memory in enumerate(self._memories):
            memory.place = _place(body, side)
            memory.hand = hand = hands[side]
            memory.missed = 0 if hand is not None else memory.missed + 1
            if hand is not None and hand is memory.read:
                memory.read_palm = _palm(body, side)
            if hand is not None and hand is not memory.read:
                memory.size_px = max(hand.size_px, 0.97 * memory.size_px)
        # What is only remembered is told, and not looked for: the next frame looks as for any lost hand.
        left, right = (
            hand or self._hidden(side, hands[1 - side], body, time_s) for side, hand in enumerate(hands)
        )
        return left, right

    def _hidden(self, side: int, other: Hand | None, body: Body, time_s: float) -> Hand | None:
        """The last hand that was read, carried on the body's wrist, where the other hand hides it."""
        memory = self._memories[side]
        age = (time_s - memory.seen_s) / _HIDDEN_S
        if other is None or memory.read is None or memory.read_palm is None or not 0 <= age <= 1:
            return None
        if self.outside[side] or body.visibility[_ARMS[side][0]] < _VISIBLE:
            return None
        middle = other.points[[0, 0, 0, 0, 5, 9, 13, 17], :2].mean(axis=0)
        size_px = max(other.size_px, self._size_px(side))
        if float(np.linalg.norm(_middle(body, side) - middle)) > _HIDDEN_FROM_OTHER * size_px:
            return None
        before, now = memory.read_palm, _palm(body, side)
        # The body's points of a hidden hand tell its place, but not well how it is turned: a hand that turned is lost.
        ways = (before[1] - before[0], now[1] - now[0])
        if float(np.dot(*ways)) < _HIDDEN_TURNED * float(np.prod(np.linalg.norm(ways, axis=1))):
            return None
        points = memory.read.points + np.append(now[0] - before[0], 0.0)
        return Hand(points, _HIDDEN_TRUST * (1 - 0.6 * age), memory.read.right)

    def _part(self, hands: list[Hand | None], image: np.ndarray, body: Body, time_s: float) -> None:
        """Leave one of two hands that are the same to its owner, and look once more for the other, in place."""
        if not _same(hands[LEFT], hands[RIGHT]):
            return
        other = 1 - _whose(hands[LEFT], hands[RIGHT], body)
        self._memories[other].hand = None
        hands[other] = self._read_side(other, image, body, time_s, taken=hands[1 - other])

    def _read_side(
        self, side: int, image: np.ndarray, body: Body, time_s: float, taken: Hand | None = None
    ) -> Hand | None:
        """Look for a hand, from the cheapest look to the most thorough, until one is good."""
        memory = self._memories[side]
        self.outside[side] = not _inside(_middle(body, side), image)
        if self.outside[side]:
            memory.outside_s, memory.missed = time_s, 0
            return None
        recent = time_s - max(memory.seen_s, memory.outside_s, self._began_s) < _REMEMBERED_S
        best, quality = None, -np.inf
        for region in self._regions(side, image, body, recent):
            hand = self._run(image, region)
            if hand is None or hand.confidence < (_KEEP if recent else _FIND):
                continue
            if not self._fits(hand, side, image, body) or (taken is not None and _same(hand, taken)):
                continue
            made = self._quality(hand, side, body)
            if made > quality:
                best, quality = hand, made
            if quality >= _GOOD:
                break
        often = _SEARCH_EVERY if not recent else 1 if memory.missed < _SEARCH_EVERY else 2
        if best is None and memory.missed % often == 0:
            best = self._search(side, image, body, time_s, taken)
        elif best is not None:
            memory.read, memory.seen_s = best, time_s
        # A hand that hangs over the edge is not lost: there is nothing more to see of it.
        self.outside[side] = best is None and (
            self.outside[side] or not _inside(_knuckles(body, side), image)
        )
        return best

    def _regions(self, side: int, image: np.ndarray, body: Body, recent: bool) -> Iterator[Region]:
        memory = self._memories[side]
        if memory.hand is not None:
            yield _followed(memory, _place(body, side))
        if body.visibility[_ARMS[side][0]] >= _VISIBLE:
            around = _from_body(body, side)
            yield self._recropped(image, around)
            if recent and memory.missed % 2 == 0:
                yield around.scaled(_CLOSER)

    def _size_px(self, side: int, hand: Hand | None = None) -> float:
        # A palm that points at the camera is short: the larger of what is seen, remembered and usual counts.
        seen_px = hand.size_px if hand is not None else 0.0
        return max(seen_px, 0.8 * self._memories[side].size_px, _PALM_OF_SHOULDERS * self._shoulders_px)

    def _away(self, hand: Hand, side: int, body: Body) -> float:
        away_px = float(np.linalg.norm(hand.points[0, :2] - body.raw[_ARMS[side][0], :2]))
        return away_px / self._size_px(side, hand)

    def _fits(self, hand: Hand, side: int, image: np.ndarray, body: Body) -> bool:
        if not _inside(hand.points[[0, 0, 0, 0, 5, 9, 13, 17], :2].mean(axis=0), image):
            self.outside[side] = True  # what a network says of a hand outside is made up
            return False
        if hand.confidence >= _SURE:
            return self._away(hand, side, body) < _MOST_FROM_WRIST
        if not _inside(hand.points[[5, 9, 13, 17], :2].mean(axis=0), image):
            self.outside[side] = True
            return False
        wrist, elbow = body.raw[_ARMS[side][0], :2], body.raw[_ARMS[side][1], :2]
        along = np.dot(hand.points[9, :2] - hand.points[0, :2], wrist - elbow)
        bent = along < _MOST_BENT * hand.size_px * float(np.linalg.norm(wrist - elbow))
        return not bent and self._away(hand, side, body) < _MOST_FROM_WRIST_UNSURE

    def _quality(self, hand: Hand, side: int, body: Body) -> float:
        wrong = abs(hand.right - side)
        return hand.confidence - 0.3 * wrong - 0.4 * self._away(hand, side, body)

    def _recropped(self, image: np.ndarray, region: Region) -> Region:
        if not region.valid():
            return region
        made = self._networks.recrop(region.cut(image, _RECROP_PX))[0]
        centre, reach = region.put_back(made.reshape(2, 2).astype(np.float64), _RECROP_PX)
        side_px = 2 * float(np.linalg.norm(reach - centre))
        angle = angle_from_up(centre, reach) - np.pi
        return Region(float(centre[0]), float(centre[1]), side_px, angle).raised(_RAISED)

    def _search(
        self, side: int, image: np.ndarray, body: Body, time_s: float, taken: Hand | None
    ) -> Hand | None:
        """Look for a palm near the wrist; where only that is seen, the fingers are remembered."""
        memory, size_px = self._memories[side], self._size_px(side)
        wrist, elbow = body.raw[_ARMS[side][0], :2], body.raw[_ARMS[side][1], :2]
        way = (wrist - elbow) / max(float(np.linalg.norm(wrist - elbow)), 1e-6)
        centre = wrist + way * _SEARCH_AHEAD * size_px
        place = Region(float(centre[0]), float(centre[1]), _SEARCH_SIDE * size_px)
        if not place.valid():
            return None
        palms = self._palms.find(image, place, _FIND_PALM)
        palms = [palm for palm in palms if _inside(palm.points[_KNUCKLES].mean(axis=0), image)]
        if not palms:
            return None
        palm = min(palms, key=lambda each: float(np.linalg.norm(each.points[0] - wrist)))
        if float(np.linalg.norm(palm.points[0] - wrist)) > _MOST_FROM_WRIST * size_px:
            return None
        hand = self._run(image, _from_palm(palm))
        good = hand is not None and hand.confidence >= _KEEP and self._fits(hand, side, image, body)
        if good and (taken is None or not _same(hand, taken)):
            memory.read, memory.seen_s = hand, time_s
            return hand
        hand = _carried(memory, palm, time_s) if palm.score >= _SURE_PALM else None
        good = hand is not None and self._fits(hand, side, image, body)
        return hand if good and (taken is None or not _same(hand, taken)) else None

    def _run(self, image: np.ndarray, region: Region) -> Hand | None:
        if not region.valid():
            return None
        landmarks, presence, right = self._networks.hand(region.cut(image, _SIDE_PX))
        values = landmarks.reshape(21, 3).astype(np.float64)
        points = np.empty((21, 3))
        points[:, :2] = region.put_back(values, _SIDE_PX)
        points[:, 2] = values[:, 2] * region.side_px / (_SIDE_PX * _DEPTH)
        return Hand(points, float(presence[0, 0]), float(right[0, 0]))


def _carried(memory: _Memory, palm: Found, time_s: float) -> Hand | None:
    """The last hand that was read, moved, turned and sized so that its palm lies on a detected one."""
    age = (time_s - memory.seen_s) / _CARRIED_S
    if memory.read is None or not 0 <= age <= 1:
        return None
    old = memory.read.points[:, 0] + 1j * memory.read.points[:, 1]
    new = palm.points[:, 0] + 1j * palm.points[:, 1]
    middle, offset = old[_MARKED].mean(), new.mean()
    spread = old[_MARKED] - middle
    factor = np.vdot(spread, new - offset) / max(float(np.vdot(spread, spread).real), 1e-6)
    if abs(factor) < 1e-3:
        return None
    # A palm that turned towards the camera looks longer; the fingers do not grow as much.
    factor *= float(np.clip(abs(factor), 1 / _MOST_RESIZED, _MOST_RESIZED)) / abs(factor)
    moved = offset + factor * (old - middle)
    points = np.stack([moved.real, moved.imag, memory.read.points[:, 2] * abs(factor)], axis=1)
    return Hand(points, _CARRIED_TRUST * palm.score * (1 - 0.4 * age), memory.read.right)


def _palm(body: Body, side: int) -> np.ndarray:
    return np.stack([body.raw[_ARMS[side][0], :2], _knuckles(body, side)])


def _place(body: Body, side: int) -> np.ndarray:
    wrist, _, index, little = _ARMS[side]
    return body.raw[[wrist, index, little], :2].mean(axis=0)


def _middle(body: Body, side: int) -> np.ndarray:
    """Where the body says that the middle of the palm is."""
    wrist, _, index, little = _ARMS[side]
    return body.raw[[wrist, wrist, index, little], :2].mean(axis=0)


def _knuckles(body: Body, side: int) -> np.ndarray:
    _, _, index, little = _ARMS[side]
    return body.raw[[index, little], :2].mean(axis=0)


def _inside(place: np.ndarray, image: np.ndarray) -> bool:
    return bool(0 <= place[0] < image.shape[1] and 0 <= place[1] < image.shape[0])


def _followed(memory: _Memory, place: np.ndarray) -> Region:
    """Where a hand of the frame before is now: moved as the body's hand has moved."""
    flat = memory.hand.points[:, :2]
    moved = place - memory.place
    # The body trembles by itself: a hand that is nearly still is where it was.
    moved = moved * min(1.0, float(np.linalg.norm(moved)) / (_STILL * max(memory.hand.size_px, 1.0))) ** 2
    fast = float(np.linalg.norm(moved)) / max(memory.hand.size_px, 1.0)
    knuckles = (flat[5] + flat[13]) / 4 + flat[9] / 2
    region = round_points(flat[_PALM], angle_from_up(flat[0], knuckles)).raised(_RAISED)
    room = _ROOM * (1.0 if fast < _FAST else min(1.0 + 0.5 * (fast - _FAST), 1.3))
    return region.scaled(room).moved(*moved)


def _from_body(body: Body, side: int) -> Region:
    wrist, _, index, little = _ARMS[side]
    flat = body.raw[:, :2]
    middle = (2 * flat[index] + flat[little]) / 3
    side_px = 2 * float(np.linalg.norm(middle - flat[wrist]))
    region = Region(float(middle[0]), float(middle[1]), side_px, angle_from_up(flat[wrist], middle))
    return region.raised(0.1).scaled(_ROOM_BODY)


def _from_palm(palm: Found) -> Region:
    # The detector's box: its centre lies in the palm, between the wrist and the knuckle of the middle finger.
    angle = angle_from_up(palm.points[0], palm.points[2])
    centre = palm.points[[0, 1, 2, 5]].mean(axis=0)
    region = Region(float(centre[0]), float(centre[1]), palm.size_px, angle)
    return region.raised(_RAISED_PALM).scaled(_ROOM_PALM)


def _same(first: Hand, second: Hand) -> bool:
    away = np.linalg.norm(first.points[:, :2] - second.points[:, :2], axis=1).mean()
    return float(away) < _SAME_HAND * max(first.size_px, second.size_px)


def _whose(left: Hand, right: Hand, body: Body) -> int:
    """To whom a hand belongs that both sides found: by the body's wrists, and by how it looks."""
    looks = (left.right + right.right) / 2 - 0.5
    scores = []
    for side, hand in enumerate((left, right)):
        away = float(np.linalg.norm(hand.points[0, :2] - body.raw[_ARMS[side][0], :2])) / max(
            hand.size_px, 1.0
        )
        scores.append(hand.confidence - away + (looks if side == RIGHT else -looks))
    return RIGHT if scores[RIGHT] > scores[LEFT] else LEFT
