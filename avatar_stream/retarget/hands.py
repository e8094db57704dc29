"""Which hands to believe, and hands of other bones."""

from __future__ import annotations

import numpy as np

from avatar_stream.landmarks import HAND_CHAIN, HAND_RATIOS, PALMS_IN_BONES, WRISTS, both_hands, hand_bones
from avatar_stream.retarget.proportions import PALM_RATIO
from avatar_stream.turns import frame, gaps, length, part_of

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


def palm_px(hands: np.ndarray) -> np.ndarray:
    """Palm length (wrist to middle knuckle) of hands (..., 21, 3) -> (...); from all bones, and thus hardly noisy."""
    return length(hand_bones(hands)).sum(axis=-1) / PALMS_IN_BONES


class HandGate:
    """Refuses hands that a tracker made up: too far, too large, jumping, on the other wrist, found twice.

    Attributes:
        palms: (2,) palm lengths of the frame, px; NaN where there is no hand.
    """

    def __init__(self) -> None:
        """Start without a past."""
        self.palms = np.full(2, np.nan)
        self._last: list[tuple[float, float] | None] = [None, None]  # palm, px, and time, s
        self._doubled: int | None = None

    def reset(self) -> None:
        """Forget sizes seen before."""
        self._last = [None, None]
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
        hands = both_hands(points)
        lengths = length(hand_bones(hands))
        self.palms = palms = lengths.sum(axis=1) / PALMS_IN_BONES
        # Most points of a hand must be sure, and none of its bones as long as in no hand.
        sure = (both_hands(confidence) >= _LOW_CONFIDENCE).sum(axis=1) > 10
        ordinary = (lengths <= _STRANGE_BONE * HAND_RATIOS * palms[:, None] + 1e-6).all(axis=1)
        wrist_gaps = gaps(hands[:, 0], points[WRISTS])
        trusted_gaps = np.where(confidence[WRISTS] > _LOW_CONFIDENCE, wrist_gaps, np.nan)
        accepted = sure & ordinary  # False with NaN
        expected = PALM_RATIO * shoulders
        if usual_palm is not None:
            expected = 0.5 * (expected + float(usual_palm))
        for side in np.flatnonzero(accepted):
            accepted[side] = (
                _SIZES[0] * expected <= palms[side] <= _SIZES[1] * expected
                and not self._jumps(side, time_s)
                and _on_own_wrist(trusted_gaps, side, shoulders, alone=bool(np.isnan(palms[1 - side])))
            )
        if accepted.all():
            self._doubled = self._find_double(hands, wrist_gaps.diagonal())
            if self._doubled is not None:
                accepted[self._doubled] = False
        for side in np.flatnonzero(accepted):
            self._last[side] = (palms[side], time_s)
        return accepted

    def _jumps(self, side: int, time_s: float) -> bool:
        last = self._last[side]
        if last is None:
            return False
        palm, last_s = last
        return time_s - last_s < _JUMP_S and not 1 / _JUMP < self.palms[side] / palm < _JUMP

    def _find_double(self, hands: np.ndarray, wrist_gaps: np.ndarray) -> int | None:
        """The side whose hand is the other one, found twice; None where there are two."""
        palm = self.palms.max()
        most = _SAME_PLACE if self._doubled is None else _STILL_SAME_PLACE
        if length(hands[0, :, :2] - hands[1, :, :2]).mean() > most * palm:
            return None
        away = wrist_gaps.copy()
        if self._doubled is not None:  # which one it is must not change with every frame
            away[self._doubled] += _OTHER_IS_IT * palm
        return int(np.nanargmax(away)) if np.isfinite(away).any() else 0


def _on_own_wrist(wrist_gaps: np.ndarray, side: int, shoulders: float, alone: bool) -> bool:
    """Whether a hand is at its own wrist and not at the other one; `wrist_gaps`: (2, 2) px, [hand, wrist]."""
    own_px, other_px = wrist_gaps[side, side], wrist_gaps[side, 1 - side]
    # Alone, a hand that lies on the other wrist is the other hand; beside it, it may well touch that wrist.
    most_px, least_px = (0.4 * own_px, 0.2 * shoulders) if alone else (0.15 * shoulders, 0.3 * shoulders)
    swapped = other_px < most_px and own_px > least_px  # False with NaN
    return not (swapped or own_px > _FAR * shoulders)


def transfer_hands(hands: np.ndarray, lengths: np.ndarray, least_palm: float = 0.0) -> np.ndarray:
    """Make the same handshapes with other bones.

    Args:
        hands: (N, 21, 3) driver's px, z on the wrist.
        lengths: (21,) the avatar's bone lengths, px.
        least_palm: a palm is at least as long, driver's px, whatever the tracker says: from the edge, it takes
            a hand for a small one instead of a turned one.

    Returns:
        (N, 21, 3) px, offsets from the wrist.
    """
    bones = hand_bones(hands)
    measured = length(bones)
    seen_palm = measured.sum(axis=1, keepdims=True) / PALMS_IN_BONES
    palm = np.maximum(seen_palm, least_palm)
    # A bone that came out far too short points at the camera and lost its depth: its length gives it back. In a
    # hand that is too short as a whole, all did.
    least = np.interp(seen_palm / (palm + 1e-9), [0.8, 1.0], [1.0, _SHORT_BONE]) * palm
    flat = bones[..., :2] / (np.maximum(measured, least * HAND_RATIOS) + 1e-9)[..., None]
    depth = np.sqrt(np.maximum(1.0 - (flat**2).sum(axis=2), 0.0)) * np.where(bones[..., 2] > 0, 1.0, -1.0)
    ways = np.concatenate([flat, depth[..., None]], axis=2) * lengths[:, None]
    ways[:, 0] = 0.0
    return HAND_CHAIN @ ways


def blend_hands(rest: np.ndarray, seen: np.ndarray, weight: float) -> np.ndarray:
    """(21, 3) offsets from a relaxed hand (weight 0) to a seen one (1): it turns as a whole as it bends."""
    if weight >= 1.0:
        return seen
    rest_frame, seen_frame = (frame(hand[9] - hand[0], hand[17] - hand[5]) for hand in (rest, seen))
    turn = part_of(seen_frame @ rest_frame.T, weight)
    return ((1.0 - weight) * rest @ rest_frame + weight * seen @ seen_frame) @ (turn @ rest_frame).T
