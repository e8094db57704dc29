"""Which hands to believe, and hands of other bones."""

from __future__ import annotations

import numpy as np

from avatar_stream.retarget.bones import part_of_turn, unit
from avatar_stream.retarget.layout import HAND_CHAIN, HAND_RATIOS, HANDS, WRISTS, hand_bones
from avatar_stream.retarget.proportions import PALM_RATIO

_LOW_CONFIDENCE = 0.3
_FAR = 0.45  # from the body's wrist, in shoulder widths
_SIZES = (0.45, 2.0)  # of a palm, in its usual length: nearer hands look larger
_JUMP = 1.6  # growth of a palm from one frame to the next
_JUMP_S = 0.1
# Mean distance between "both" hands, in palm lengths: one hand found twice, and still so in the next frames.
_SAME_PLACE, _STILL_SAME_PLACE = 0.35, 0.5
_OTHER_IS_IT = 0.3  # palm lengths by which the other hand must fit its wrist better to become the one found
_SHORT_BONE = 0.75
_STRANGE_BONE = 2.6  # a bone this many times its usual length


def palm_px(hand: np.ndarray) -> float:
    """Palm length (wrist to middle knuckle) of a hand (21, 3); from all bones, and thus hardly noisy."""
    return float(np.linalg.norm(hand_bones(hand), axis=1).sum() / HAND_RATIOS.sum())


def _usual_size(palm: float, shoulders: float, usual: np.ndarray | None) -> bool:
    """Whether a palm of this size, px, may belong to a person with these shoulders, px."""
    expected = PALM_RATIO * shoulders if usual is None else 0.5 * (PALM_RATIO * shoulders + float(usual))
    return _SIZES[0] * expected <= palm <= _SIZES[1] * expected


class HandGate:
    """Refuses hands that a tracker made up: too far, too large, jumping, on the other wrist, found twice."""

    def __init__(self) -> None:
        """Start without a past."""
        self._palms: list[tuple[float, float] | None] = [None, None]
        self._doubled: int | None = None

    def reset(self) -> None:
        """Forget sizes seen before."""
        self._palms = [None, None]
        self._doubled = None

    def accept(
        self,
        points: np.ndarray,
        confidence: np.ndarray,
        shoulders: float,
        usual_palm: np.ndarray | None,
        time_s: float,
    ) -> np.ndarray:
        """Judge both hands of one frame.

        Args:
            points: (553, 3) px of the tracked image, NaN where unseen.
            confidence: (553,) 0..1.
            shoulders: width between the shoulder joints, px.
            usual_palm: the person's palm length so far, px, or None.
            time_s: time of the frame.

        Returns:
            (2,) bool, left and right.
        """
        accepted = np.array([
            self._plausible(points, confidence, side, shoulders, usual_palm, time_s) for side in (0, 1)
        ])  # fmt: skip
        if accepted.all():
            self._doubled = self._find_double(points)
            if self._doubled is not None:
                accepted[self._doubled] = False
        for side in np.flatnonzero(accepted):
            self._palms[side] = (palm_px(points[HANDS[side]]), time_s)
        return accepted

    def _plausible(self, points, confidence, side: int, shoulders: float, usual_palm, time_s: float) -> bool:
        hand = points[HANDS[side]]
        if not np.isfinite(hand).all() or np.median(confidence[HANDS[side]]) < _LOW_CONFIDENCE:
            return False
        palm = palm_px(hand)
        if not _usual_size(palm, shoulders, usual_palm) or self._strange_bones(hand, palm):
            return False
        last = self._palms[side]
        if last is not None and time_s - last[1] < _JUMP_S and not 1 / _JUMP < palm / last[0] < _JUMP:
            return False
        own, other = points[WRISTS[side]], points[WRISTS[1 - side]]
        own_px = (
            np.linalg.norm(hand[0, :2] - own[:2]) if confidence[WRISTS[side]] > _LOW_CONFIDENCE else np.nan
        )
        other_px = (
            np.linalg.norm(hand[0, :2] - other[:2])
            if confidence[WRISTS[1 - side]] > _LOW_CONFIDENCE
            else np.nan
        )
        # Alone, a hand that lies on the other wrist is the other hand; beside it, it may well touch that wrist.
        alone = not np.isfinite(points[HANDS[1 - side]]).all()
        most_px, least_px = (0.4 * own_px, 0.2 * shoulders) if alone else (0.15 * shoulders, 0.3 * shoulders)
        swapped = other_px < most_px and own_px > least_px  # False with NaN
        return not (swapped or own_px > _FAR * shoulders)

    def _strange_bones(self, hand: np.ndarray, palm: float) -> bool:
        lengths = np.linalg.norm(hand_bones(hand), axis=1)
        return bool((lengths > _STRANGE_BONE * HAND_RATIOS * palm + 1e-6).any())

    def _find_double(self, points: np.ndarray) -> int | None:
        """The side whose hand is the other one, found twice; None where there are two."""
        left, right = points[HANDS[0], :2], points[HANDS[1], :2]
        palm = max(palm_px(points[hand]) for hand in HANDS)
        most = _SAME_PLACE if self._doubled is None else _STILL_SAME_PLACE
        if np.linalg.norm(left - right, axis=1).mean() > most * palm:
            return None
        gaps = np.array([
            np.linalg.norm(points[hand][0, :2] - points[wrist, :2])
            for hand, wrist in zip(HANDS, WRISTS, strict=True)
        ])  # fmt: skip
        if self._doubled is not None:  # which one it is must not change with every frame
            gaps[self._doubled] += _OTHER_IS_IT * palm
        return int(np.nanargmax(gaps)) if np.isfinite(gaps).any() else 0


def transfer_hand(hand: np.ndarray, lengths: np.ndarray, least_palm: float = 0.0) -> np.ndarray:
    """Make the same handshape with other bones.

    Args:
        hand: (21, 3) driver's px, z on the wrist.
        lengths: (21,) the avatar's bone lengths, px.
        least_palm: the palm is at least as long, driver's px, whatever the tracker says: from the edge, it takes
            a hand for a small one instead of a turned one.

    Returns:
        (21, 3) px, offsets from the wrist.
    """
    bones = hand_bones(hand)
    measured = np.linalg.norm(bones, axis=1)
    seen_palm = measured.sum() / HAND_RATIOS.sum()
    palm = max(seen_palm, least_palm)
    expected = HAND_RATIOS * palm
    # A bone that came out far too short points at the camera and lost its depth: its length gives it back. In a
    # hand that is too short as a whole, all did.
    least = np.interp(seen_palm / (palm + 1e-9), [0.8, 1.0], [1.0, _SHORT_BONE])
    flat = bones[:, :2] / (np.maximum(measured, least * expected) + 1e-9)[:, None]
    depth = np.sqrt(np.maximum(1.0 - (flat**2).sum(axis=1), 0.0)) * np.where(bones[:, 2] > 0, 1.0, -1.0)
    made = np.concatenate([flat, depth[:, None]], axis=1) * lengths[:, None]
    made[0] = 0.0
    return HAND_CHAIN @ made


def blend_hands(rest: np.ndarray, seen: np.ndarray, weight: float) -> np.ndarray:
    """(21, 3) offsets from a relaxed hand (weight 0) to a seen one (1): it turns as a whole as it bends."""
    if weight >= 1.0:
        return seen
    rest_frame, seen_frame = _palm_frame(rest), _palm_frame(seen)
    turn = part_of_turn(seen_frame @ rest_frame.T, weight)
    return ((1.0 - weight) * rest @ rest_frame + weight * seen @ seen_frame) @ (turn @ rest_frame).T


def _palm_frame(hand: np.ndarray) -> np.ndarray:
    # (3, 3) columns: along the palm, out of it, across it.
    along = unit(hand[9] - hand[0])
    out = unit(np.cross(along, hand[17] - hand[5]))
    return np.stack([along, out, np.cross(along, out)], axis=1)
