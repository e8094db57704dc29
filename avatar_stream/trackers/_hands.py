"""Follows both hands: where they were, where the body says they are, where a palm is seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from avatar_stream.trackers._arms import (
    LEFT,
    RAISED,
    RIGHT,
    ArmEnd,
    HandLandmarks,
    arm_of,
    dot,
    inside,
    owner,
    places,
    region_followed,
    region_of_arm,
    region_of_palm,
    same_hand,
)
from avatar_stream.trackers._body import BodyLandmarks
from avatar_stream.trackers._detectors import Detection, Detector
from avatar_stream.trackers._networks import Networks
from avatar_stream.trackers._regions import Region, angle_from_up
from avatar_stream.types import LEFT_SHOULDER, RIGHT_SHOULDER

_SIDE_PX, _RECROP_PX, _PALM_PX = 224, 256, 192
_DEPTH = 0.4  # the network's z in these parts of a crop's side
_CLOSER = 0.8  # the same once more, without asking the recrop network
_KNUCKLES = slice(0, 5)  # of what the palm detector marks: wrist and knuckles
_FIND, _KEEP = 0.5, 0.3  # the network's confidence to take a hand anew, and to go on with one just seen
_GOOD = 0.45  # quality from which no other look is needed
_MOST_FROM_WRIST = 1.0  # of a hand's wrist from the body's, in hand sizes
_SURE = 0.6  # confidence from which a hand may also lie oddly to its arm
_MOST_FROM_WRIST_UNSURE, _MOST_BENT = 0.8, -0.35  # the latter is the cosine of palm and forearm
_LIKELY = 0.03  # confidence that some look must have before a closer one, which never found a hand below it
_HANGS = 0.2  # of the knuckles beyond the picture's edge, in hand sizes, from which a lost hand hangs over it
_VISIBLE = 0.1  # the body's wrist must be, for a hand to be looked for
_REMEMBERED_S = 0.6  # so long after it was lost a hand is looked for with everything there is
_PALM_OF_SHOULDERS = 0.27  # length of a palm, in widths of the shoulders
_SEARCH_SIDE, _SEARCH_AHEAD = 5.0, 0.6  # where palms are searched, in hand sizes; the latter beyond the wrist
_SAME_PALM = 0.4  # mean distance of a detected palm from a hand's own, in hand sizes, below which it is its
_FIND_PALM, _SURE_PALM = 0.4, 0.6
_CARRIED_S = 0.6  # so long fingers are remembered while only the palm is seen
_CARRIED_TRUST = 0.5  # most confidence in them
_MOST_RESIZED = 1.6
_HIDDEN_S = 1.0  # so long a hand behind the other is remembered
_HIDDEN_FROM_OTHER = 1.0  # of the body's palm from the other hand's, in hand sizes, that it is hidden by it
_HIDDEN_TURNED = 0.7  # cosine of the body's palm then and now from which it has not turned
_HIDDEN_TRUST = 0.29  # most confidence in it: nothing of it is seen
_SEARCH_ALWAYS = 3  # frames in which a hand that was just lost is searched, then every second one
_SEARCH_EVERY = 5  # frames between searches for a hand that was not there for long
# What the palm detector marks: wrist, four knuckles, two joints of the thumb.
_MARKED = np.array([0, 5, 9, 13, 17, 1, 2])


@dataclass
class _SideMemory:
    hand: HandLandmarks | None = None  # of the frame before
    read: HandLandmarks | None = None  # the last one that the hand's network read
    seen_s: float = -np.inf  # when that was
    outside_s: float = -np.inf  # when it was out of the picture; it may come back at any time
    size_px: float = 0.0  # slowly forgotten length of the palm
    arm: ArmEnd | None = None  # of the frame before
    read_arm: ArmEnd | None = None  # when `read` was read
    missed: int = 0  # frames since a hand was there
    likely: float = 0.0  # confidence of the best look in this frame


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
        self._memories = (_SideMemory(), _SideMemory())
        self._shoulders_px = 0.0
        self._began_s = np.inf
        self.outside = [False, False]  # which hands cannot be seen, for they are out of the picture

    def read(
        self, image: np.ndarray, body: BodyLandmarks, time_s: float
    ) -> tuple[HandLandmarks | None, HandLandmarks | None]:
        """Read both hands of a person.

        Args:
            image: (H, W, 3) uint8 RGB.
            body: the person's, in this picture.
            time_s: of the frame.

        Returns:
            Left and right hand; None where there is none.
        """
        width_px = math.dist(body.raw[LEFT_SHOULDER, :2], body.raw[RIGHT_SHOULDER, :2])
        self._shoulders_px = max(width_px, 0.98 * self._shoulders_px)
        arms = arm_of(body, LEFT), arm_of(body, RIGHT)
        if time_s < self._began_s:
            self._began_s = time_s
        firsts = self._follow_both(image, arms)
        hands: list[HandLandmarks | None] = [None, None]
        # The one that is followed first: what it takes the other cannot be.
        for side in sorted((LEFT, RIGHT), key=lambda each: self._memories[each].hand is None):
            sure = self._memories[side].hand is None and self._memories[1 - side].hand is not None
            taken = hands[1 - side] if sure else None
            hands[side] = self._read_side(side, image, arms[side], time_s, taken, firsts[side])
        left, right = hands
        if left is not None and right is not None and same_hand(left, right):
            # One of two hands that are the same stays its owner's; for the other, one more look.
            other = 1 - owner([left, right], arms)
            self._memories[other].hand = None
            hands[other] = self._read_side(other, image, arms[other], time_s, taken=hands[1 - other])
        for side, memory in enumerate(self._memories):
            hand = hands[side]
            memory.arm, memory.hand = arms[side], hand
            memory.missed = 0 if hand is not None else memory.missed + 1
            if hand is not None and hand is memory.read:
                memory.read_arm = arms[side]
            if hand is not None and hand is not memory.read:
                memory.size_px = max(hand.size_px, 0.97 * memory.size_px)
        # What is only remembered is told, and not looked for: the next frame looks as for any lost hand.
        left, right = (
            hand or self._hidden(side, hands[1 - side], arms[side], time_s) for side, hand in enumerate(hands)
        )
        return left, right

    def _hidden(
        self, side: int, other: HandLandmarks | None, arm: ArmEnd, time_s: float
    ) -> HandLandmarks | None:
        """The last hand that was read, carried on the body's wrist, where the other hand hides it."""
        memory = self._memories[side]
        age = (time_s - memory.seen_s) / _HIDDEN_S
        if other is None or memory.read is None or memory.read_arm is None or not 0 <= age <= 1:
            return None
        if self.outside[side] or arm.seen < _VISIBLE:
            return None
        size_px = max(other.size_px, self._size_px(side))
        if abs(arm.middle - other.middle) > _HIDDEN_FROM_OTHER * size_px:
            return None
        before = memory.read_arm
        # The body's points of a hidden hand tell its place, but not well how it is turned: a hand that turned is lost.
        ways = before.knuckles - before.wrist, arm.knuckles - arm.wrist
        if dot(*ways) < _HIDDEN_TURNED * abs(ways[0]) * abs(ways[1]):
            return None
        moved = arm.wrist - before.wrist
        points = memory.read.points + (moved.real, moved.imag, 0.0)
        return HandLandmarks(points, _HIDDEN_TRUST * (1 - 0.6 * age), memory.read.right)

    def _follow_both(self, image: np.ndarray, arms: tuple[ArmEnd, ...]) -> Sequence[HandLandmarks | None]:
        """Read two followed hands at once, which takes a tenth less time than one by one."""
        regions = [
            region_followed(memory.hand, memory.arm, arm)
            for memory, arm in zip(self._memories, arms, strict=True)
            if memory.hand is not None and memory.arm is not None and inside(arm.middle, image)
        ]
        hands = self._run(image, *regions) if len(regions) == 2 else ()
        return hands if len(hands) == 2 else (None, None)

    def _read_side(
        self,
        side: int,
        image: np.ndarray,
        arm: ArmEnd,
        time_s: float,
        taken: HandLandmarks | None = None,
        first: HandLandmarks | None = None,
    ) -> HandLandmarks | None:
        """Look for a hand, from the cheapest look to the most thorough, until one is good."""
        memory = self._memories[side]
        self.outside[side] = not inside(arm.middle, image)
        if self.outside[side]:
            memory.outside_s, memory.missed = time_s, 0
            return None
        recent = time_s - max(memory.seen_s, memory.outside_s, self._began_s) < _REMEMBERED_S
        # Of a hand that hangs over the edge there is little to see: only the cheapest look ever found it again.
        hangs = memory.missed > 0 and not inside(arm.knuckles, image, _HANGS * self._size_px(side))
        best, quality, memory.likely = None, -np.inf, 0.0
        for hand in self._looks(memory, image, arm, recent and not hangs, first):
            memory.likely = max(memory.likely, hand.confidence)
            if hand.confidence < (_KEEP if recent else _FIND):
                continue
            if not self._fits(hand, side, image, arm) or (taken is not None and same_hand(hand, taken)):
                continue
            made = self._quality(hand, side, arm)
            if made > quality:
                best, quality = hand, made
            if quality >= _GOOD:
                break
        often = _SEARCH_EVERY if not recent else 1 if memory.missed < _SEARCH_ALWAYS else 2
        if best is None and not hangs and memory.missed % often == 0:
            best = self._search(side, image, arm, time_s, taken)
        elif best is not None:
            memory.read, memory.seen_s = best, time_s
        # A hand that hangs over the edge is not lost: there is nothing more to see of it.
        self.outside[side] = best is None and (self.outside[side] or not inside(arm.knuckles, image))
        return best

    def _looks(
        self, memory: _SideMemory, image: np.ndarray, arm: ArmEnd, thorough: bool, first: HandLandmarks | None
    ) -> Iterator[HandLandmarks]:
        if first is not None:
            yield first
        elif memory.hand is not None and memory.arm is not None:
            yield from self._run(image, region_followed(memory.hand, memory.arm, arm))
        if arm.seen >= _VISIBLE:
            around = region_of_arm(arm)
            yield from self._run(image, self._recropped(image, around))
            if thorough and memory.missed % 2 == 0 and memory.likely >= _LIKELY:
                yield from self._run(image, around.scaled(_CLOSER))

    def _size_px(self, side: int, hand: HandLandmarks | None = None) -> float:
        # A palm that points at the camera is short: the larger of what is seen, remembered and usual counts.
        seen_px = hand.size_px if hand is not None else 0.0
        return max(seen_px, 0.8 * self._memories[side].size_px, _PALM_OF_SHOULDERS * self._shoulders_px)

    def _away(self, hand: HandLandmarks, side: int, arm: ArmEnd) -> float:
        return abs(hand.wrist - arm.wrist) / self._size_px(side, hand)

    def _fits(self, hand: HandLandmarks, side: int, image: np.ndarray, arm: ArmEnd) -> bool:
        if not inside(hand.middle, image):
            self.outside[side] = True  # what a network says of a hand outside is made up
            return False
        if hand.confidence >= _SURE:
            return self._away(hand, side, arm) < _MOST_FROM_WRIST
        if not inside(hand.knuckles, image):
            self.outside[side] = True
            return False
        forearm, palm = arm.wrist - arm.elbow, complex(hand.flat[9]) - hand.wrist
        bent = dot(palm, forearm) < _MOST_BENT * hand.size_px * abs(forearm)
        return not bent and self._away(hand, side, arm) < _MOST_FROM_WRIST_UNSURE

    def _quality(self, hand: HandLandmarks, side: int, arm: ArmEnd) -> float:
        wrong = abs(hand.right - side)
        return hand.confidence - 0.3 * wrong - 0.4 * self._away(hand, side, arm)

    def _recropped(self, image: np.ndarray, region: Region) -> Region:
        if not region.valid():
            return region
        answer = self._networks.recrop(region.cut(image, _RECROP_PX))[0]
        centre, reach = places(region.put_back(answer.reshape(2, 2).astype(np.float64), _RECROP_PX)).tolist()
        angle = angle_from_up(reach - centre) - math.pi
        return Region(centre.real, centre.imag, 2 * abs(reach - centre), angle).raised(RAISED)

    def _search(
        self, side: int, image: np.ndarray, arm: ArmEnd, time_s: float, taken: HandLandmarks | None
    ) -> HandLandmarks | None:
        """Look for a palm near the wrist; where only that is seen, the fingers are remembered."""
        memory, size_px = self._memories[side], self._size_px(side)
        forearm = arm.wrist - arm.elbow
        centre = arm.wrist + forearm / max(abs(forearm), 1e-6) * _SEARCH_AHEAD * size_px
        place = Region(centre.real, centre.imag, _SEARCH_SIDE * size_px)
        if not place.valid():
            return None
        palms = self._palms.find(image, place, _FIND_PALM)
        palms = [palm for palm in palms if inside(places(palm.points)[_KNUCKLES].mean(), image)]
        if taken is not None:
            away_px = [np.abs(places(palm.points) - taken.flat[_MARKED]).mean() for palm in palms]
            least_px = _SAME_PALM * max(taken.size_px, 1.0)
            palms = [palm for palm, px in zip(palms, away_px, strict=True) if px >= least_px]
        if not palms:
            return None
        palm = min(palms, key=lambda each: abs(complex(*each.points[0]) - arm.wrist))
        if abs(complex(*palm.points[0]) - arm.wrist) > _MOST_FROM_WRIST * size_px:
            return None
        for hand in self._run(image, region_of_palm(palm)):
            good = hand.confidence >= _KEEP and self._fits(hand, side, image, arm)
            if good and (taken is None or not same_hand(hand, taken)):
                memory.read, memory.seen_s = hand, time_s
                return hand
        carried = _carried(memory, palm, time_s) if palm.score >= _SURE_PALM else None
        if carried is None or not self._fits(carried, side, image, arm):
            return None
        return carried if taken is None or not same_hand(carried, taken) else None

    def _run(self, image: np.ndarray, *regions: Region) -> list[HandLandmarks]:
        """What the hand's network says of one or two regions; nothing of those that cannot be cut out."""
        valid = [region for region in regions if region.valid()]
        if not valid:
            return []
        network = self._networks.hand if len(valid) == 1 else self._networks.both_hands
        outputs = network(*(region.cut(image, _SIDE_PX) for region in valid))
        return [_as_hand(*each) for each in zip(valid, *outputs, strict=True)]


def _as_hand(region: Region, landmarks: np.ndarray, presence: np.ndarray, right: np.ndarray) -> HandLandmarks:
    points = landmarks.reshape(21, 3).astype(np.float64)
    points[:, :2] = region.put_back(points, _SIDE_PX)
    points[:, 2] *= region.side_px / (_SIDE_PX * _DEPTH)
    return HandLandmarks(points, float(presence[0]), float(right[0]))


def _carried(memory: _SideMemory, palm: Detection, time_s: float) -> HandLandmarks | None:
    """The last hand that was read, moved, turned and sized so that its palm lies on a detected one."""
    age = (time_s - memory.seen_s) / _CARRIED_S
    if memory.read is None or not 0 <= age <= 1:
        return None
    old, new = memory.read.flat, places(palm.points)
    middle, offset = old[_MARKED].mean(), new.mean()
    spread = old[_MARKED] - middle
    factor = np.vdot(spread, new - offset) / max(float(np.vdot(spread, spread).real), 1e-6)
    if abs(factor) < 1e-3:
        return None
    # A palm that turned towards the camera looks longer; the fingers do not grow as much.
    factor *= float(np.clip(abs(factor), 1 / _MOST_RESIZED, _MOST_RESIZED)) / abs(factor)
    moved = offset + factor * (old - middle)
    points = np.stack([moved.real, moved.imag, memory.read.points[:, 2] * abs(factor)], axis=1)
    return HandLandmarks(points, _CARRIED_TRUST * palm.score * (1 - 0.4 * age), memory.read.right)
