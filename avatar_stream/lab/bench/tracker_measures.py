"""What trackers made of the same frames, in figures: how often, how steadily, how far from each other and truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avatar_stream.landmarks import EARS_OF_FACE, ELBOWS, HANDS, LOWER_LIP, SHOULDERS, UPPER_LIP, WRISTS
from avatar_stream.types import BODY, FACE

SIDES = ("left", "right")
FAST_PX, FAST_WIDTH_PX = 12.0, 640  # a wrist that moves more in one frame of that width is fast
# Cuts: another picture altogether, measured on small grey ones.
CUT_SIZE, _CUT_GREY, _CUT_TIMES, _CUT_REACH = (64, 48), 3.0, 5.0, 4
_SEEN = 0.5  # confidence of a body point that is no mere guess
_ARMS = np.concatenate([SHOULDERS, ELBOWS, WRISTS])
_KNUCKLES = np.array([[17, 19], [18, 20]])  # the body's own little and index fingers, left and right
_UPPER_BODY = np.arange(25)  # without legs, which nobody sees and trackers guess
_STILL_REACH = 2  # frames before and after
# A part is still where its middle stays within this over those frames, in its own units.
_STILL = {"body": 0.02, "left_hand": 0.12, "right_hand": 0.12, "face": 0.03}
_HAND_PARTS = ("left_hand", "right_hand")
_SHOWN_SQUARE_PALMS = 0.6  # pixels of a hand, in squares of its palm, from which it counts as seen
_HIDDEN_SQUARE_PALMS = 0.1
_ASTRAY_PALMS = 1.0  # of a hand's wrist from the body's
_NEARER_PALMS = 0.5  # than its own: to the other arm's wrist
_OTHER_PERSON = 0.6  # shoulder widths between two trackers' people: they are two
_WRONG_PALMS = 0.5  # mean error from which on a hand that was found is another thing than the hand
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Track:
    """What one tracker made of one clip of N frames.

    Attributes:
        points: (N, 553, 3) float32 px, NaN where not seen.
        confidence: (N, 553) float32 0..1.
        ms: (N,) float64, time of each frame.
        cpu_ms: (N,) float64, processor time of all threads.
    """

    points: np.ndarray
    confidence: np.ndarray
    ms: np.ndarray
    cpu_ms: np.ndarray

    def found(self, part: str) -> np.ndarray:
        """(N,) bool: where `part` ("pose", "face", "left_hand", "right_hand") was found."""
        return (self.confidence[:, PARTS[part]] > 0).any(axis=1)


PARTS = {"pose": BODY, "face": FACE, "left_hand": HANDS[0], "right_hand": HANDS[1]}


@dataclass(frozen=True)
class Clip:
    """The same frames through several trackers.

    Attributes:
        name: of the file, or of the person and the motion rendered.
        size: width and height, px.
        shots: (N,) int, number of the shot: frames of one shot have no cut between them.
        tracks: by the tracker's type; the first is what others are compared with.
        exact: (N, 553, 3) float32 px, truth, or None.
        hand_pixels: (N, 2) float32, how much of each hand the picture shows, or None.
    """

    name: str
    size: tuple[int, int]
    shots: np.ndarray
    tracks: dict[str, Track]
    exact: Any = None
    hand_pixels: Any = None

    def since(self, first: int) -> Clip:
        """The clip without its first frames."""
        tracks = {
            name: Track(*(getattr(track, key)[first:] for key in ("points", "confidence", "ms", "cpu_ms")))
            for name, track in self.tracks.items()
        }
        later = [None if each is None else each[first:] for each in (self.exact, self.hand_pixels)]
        return Clip(self.name, self.size, self.shots[first:], tracks, *later)

    def reference(self, rows: np.ndarray | slice) -> np.ndarray:
        """(N, K, 3) px: truth, or else what the first tracker that sees them says of these rows."""
        if self.exact is not None:
            return self.exact[:, rows]
        made = np.full_like(next(iter(self.tracks.values())).points[:, rows], np.nan)
        for track in self.tracks.values():
            made = np.where(np.isfinite(made), made, track.points[:, rows])
        return made


def number_shots(small: Sequence[np.ndarray]) -> np.ndarray:
    """Number the shots of a clip.

    Args:
        small: each frame as a grey uint8 picture of CUT_SIZE.

    Returns:
        (N,) int, from 0; it grows at each cut, where a frame differs from the one before far more than the
        frames around it do.
    """
    pictures = [each.astype(np.int16) for each in small]
    changes = np.array([0.0, *(np.abs(a - b).mean() for a, b in zip(pictures[1:], pictures, strict=False))])
    usual = [np.median(changes[max(0, k - _CUT_REACH) : k + _CUT_REACH + 1]) for k in range(len(changes))]
    return np.cumsum((changes > _CUT_GREY) & (changes > _CUT_TIMES * np.array(usual)))


def step_px(places: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """(N, ..., 2) px -> (N, ...) px since the frame before; NaN for a shot's first frame."""
    steps = np.full(places.shape[:-1], np.nan)
    steps[1:] = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    steps[1:][np.diff(shots) != 0] = np.nan
    return steps


def units_px(clip: Clip) -> dict[str, np.ndarray]:
    """(N,) px for each part: shoulder width, palm (wrist to middle knuckle), face width (ear to ear).

    The median over the frame's shot: a turned body or a foreshortened hand is no smaller than before.
    """
    shoulders = clip.reference(SHOULDERS)[..., :2]
    ears = clip.reference(FACE.start + EARS_OF_FACE)[..., :2]
    lengths = {
        "body": np.linalg.norm(shoulders[:, 0] - shoulders[:, 1], axis=-1),
        "face": np.linalg.norm(ears[:, 0] - ears[:, 1], axis=-1),
    }
    for side, rows in zip(SIDES, HANDS, strict=True):
        hand = clip.reference(rows)
        lengths[f"{side}_hand"] = np.linalg.norm(hand[:, 9] - hand[:, 0], axis=-1)
    for values in lengths.values():
        for shot in np.unique(clip.shots):
            rows = clip.shots == shot
            known = values[rows][np.isfinite(values[rows])]
            values[rows] = np.median(known) if len(known) else np.nan
    return lengths


def hands_in_picture(clip: Clip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where hands could be found.

    Returns:
        (N, 2) bool, left and right: the wrist is inside the picture; so are the body's own knuckles; (N, 2) bool:
        the wrist moves more than 12 px since the frame before, at 640 px width.
    """
    wrists = clip.reference(WRISTS)[..., :2]
    inside = _inside(wrists, clip.size)
    whole = inside & _inside(clip.reference(_KNUCKLES.ravel())[..., :2], clip.size).reshape(-1, 2, 2).all(-1)
    with np.errstate(invalid="ignore"):
        fast = step_px(wrists, clip.shots) > FAST_PX * clip.size[0] / FAST_WIDTH_PX
    return inside, whole, fast


def _inside(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return ((places >= 0) & (places < size)).all(axis=-1)


def frame_values(clip: Clip, name: str) -> dict[str, np.ndarray]:
    """One tracker's values on the frames of one clip, by the key whose mean or median they make.

    Rates are rows of 0 and 1, over the frames that count.
    """
    track, units = clip.tracks[name], units_px(clip)
    inside, whole, fast = hands_in_picture(clip)
    values = {f"{part}_rate": track.found(part).astype(float) for part in ("pose", "face")}
    for side, label in enumerate(SIDES):
        found = track.found(f"{label}_hand").astype(float)
        values[f"{label}_hand_rate"] = found[inside[:, side]]
        values[f"{label}_hand_rate_fast"] = found[inside[:, side] & fast[:, side]]
        values[f"{label}_palm_rate"] = found[whole[:, side]]
        values[f"{label}_palm_rate_fast"] = found[whole[:, side] & fast[:, side]]
    values |= {f"jitter_{part}": jitter(clip, track, part, units) for part in _STILL}
    sure = np.concatenate(
        [_hand_confidence(track, side)[track.found(f"{SIDES[side]}_hand")] for side in (0, 1)]
    )
    values["hands_unsure_rate"] = (sure < _SEEN).astype(float)
    return values | side_values(clip, track, units)


def _hand_confidence(track: Track, side: int) -> np.ndarray:
    return track.confidence[:, HANDS[side]].max(axis=1)


def lost_runs(clip: Clip, name: str) -> dict[str, list[list[int]]]:
    """First and last frame of each run in which a hand's wrist is in the picture and the hand is not found.

    And of each run in which a found hand hangs on the other arm.
    """
    inside, _, _ = hands_in_picture(clip)
    track, runs = clip.tracks[name], {}
    for side, label in enumerate(SIDES):
        runs[f"{label}_hand_lost"] = _runs(inside[:, side] & ~track.found(f"{label}_hand"))
        runs[f"{label}_hand_swapped"] = _runs(_wrong_arm(clip, track, side, units_px(clip))[0])
    return runs


def _runs(chosen: np.ndarray) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    return [[int(first), int(end) - 1] for first, end in edges.reshape(-1, 2)]


def rows_of(part: str) -> np.ndarray:
    """Rows of a part's points that measurements use: of the body what a webcam shows of it."""
    return _UPPER_BODY if part == "body" else np.arange(553)[PARTS[part]]


def seen_points(track: Track, part: str) -> np.ndarray:
    """(N, K, 2) px of a part, NaN where the tracker does not see it or only guesses."""
    rows = rows_of(part)
    least = _SEEN if part == "body" else np.finfo(np.float32).tiny
    return np.where(track.confidence[:, rows, None] >= least, track.points[:, rows, :2], np.nan)


def jitter(clip: Clip, track: Track, part: str, units: dict[str, np.ndarray]) -> np.ndarray:
    """Distance of a still part's points from the middle between the frames before and after, in its units.

    Whether it is still, the reference says, not the tracker itself: else trembling would not count.
    """
    rows = _ARMS[:2] if part == "body" else rows_of(part)
    middle = clip.reference(rows)[..., :2].mean(axis=1)
    reach, count = _STILL_REACH, len(middle)
    steady = np.zeros(count, bool)
    for k in range(reach, count - reach):
        near = middle[k - reach : k + reach + 1]
        one_shot = clip.shots[k - reach] == clip.shots[k + reach]
        moved = np.linalg.norm(near - near.mean(axis=0), axis=1).max()
        steady[k] = one_shot and moved <= _STILL[part] * units[part][k]
    points = seen_points(track, part)
    tremble = np.full(count, np.nan)
    apart = np.linalg.norm(points[1:-1] - 0.5 * (points[:-2] + points[2:]), axis=-1)
    tremble[1:-1] = _mean(apart)
    steps = (tremble / units[part])[steady]
    return steps[np.isfinite(steps)]


def side_values(clip: Clip, track: Track, units: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hands on the wrong arm: 1 where a found hand is clearly nearer to the other wrist, or far from its own."""
    swaps, astray = [], []
    for side in (0, 1):
        swapped, far, good = _wrong_arm(clip, track, side, units)
        swaps.append(swapped[good])
        astray.append(far[good])
    return {
        "handedness_swaps": np.concatenate(swaps).astype(float),
        "hands_astray_rate": np.concatenate(astray).astype(float),
    }


def _wrong_arm(
    clip: Clip, track: Track, side: int, units: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # (N,) bool: on the other arm; far from its own; both can be said
    wrists = clip.reference(WRISTS)[..., :2]
    hand, palm = track.points[:, HANDS[side].start, :2], units[f"{SIDES[side]}_hand"]
    own, other = (np.linalg.norm(hand - wrists[:, k], axis=-1) / palm for k in (side, 1 - side))
    good = track.found(f"{SIDES[side]}_hand") & np.isfinite(own) & np.isfinite(other)
    with np.errstate(invalid="ignore"):
        far = good & (own > _ASTRAY_PALMS)
        return far & (own > other + _NEARER_PALMS), far, good


def agreement(clip: Clip, name: str) -> dict[str, np.ndarray]:
    """How far a tracker's points are from the first one's, where both see the part of one person, in its units.

    And `other_person_rate`: 1 where both see somebody, but not the same one.
    """
    first, other, units = next(iter(clip.tracks.values())), clip.tracks[name], units_px(clip)
    same, both = same_person(first, other)
    values = {"other_person_rate": (~same[both]).astype(float)}
    for part in _STILL:
        ways = seen_points(other, part) - seen_points(first, part)
        apart = _mean(np.linalg.norm(ways, axis=-1)) / units[part]
        values[f"agreement_{part}"] = apart[np.isfinite(apart) & same]
    return values


def same_person(first: Track, other: Track) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool where two trackers see the same one by the place of the shoulders, and where both see anybody."""
    shoulders = [track.points[:, SHOULDERS, :2] for track in (first, other)]
    width_px = np.linalg.norm(shoulders[0][:, 0] - shoulders[0][:, 1], axis=-1)
    apart_px = np.linalg.norm(shoulders[0].mean(axis=1) - shoulders[1].mean(axis=1), axis=-1)
    both = np.isfinite(apart_px)
    with np.errstate(invalid="ignore"):
        return both & (apart_px < _OTHER_PERSON * width_px), both


def _mean(values: np.ndarray) -> np.ndarray:
    # (N, K) -> (N,), NaN where a row has nothing
    return np.ma.masked_invalid(values).mean(axis=1).filled(np.nan)  # type: ignore[no-untyped-call]


def mouth_openings(clip: Clip, name: str) -> np.ndarray:
    """(M, 2): the first tracker's and this one's mouth opening, face widths, each from its shot's mean."""
    first, other = next(iter(clip.tracks.values())), clip.tracks[name]
    same = same_person(first, other)[0]
    return opening_pairs(clip, first.points, np.where(same[:, None, None], other.points, np.nan))


def opening_pairs(clip: Clip, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(M, 2): the mouth's opening by two (N, 553, 3) rows of points, face widths, each from its shot's mean."""
    lips = FACE.start + np.array([UPPER_LIP, LOWER_LIP])
    ways = [points[:, lips[0], :2] - points[:, lips[1], :2] for points in (first, second)]
    pairs = np.linalg.norm(ways, axis=-1).T / units_px(clip)["face"][:, None]
    good = np.isfinite(pairs).all(axis=1)
    pairs, shots = pairs[good], clip.shots[good]
    for shot in np.unique(shots):
        pairs[shots == shot] -= pairs[shots == shot].mean(axis=0)
    return pairs


def correlation(pairs: np.ndarray) -> float | None:
    """Pearson's of (M, 2) rows; None where one of them does not move."""
    if len(pairs) < 10 or pairs.std(axis=0).min() < _LEAST_SPREAD:
        return None
    return float(np.corrcoef(pairs.T)[0, 1])


def truth_values(clip: Clip, name: str) -> dict[str, np.ndarray]:
    """Distances from truth in the part's units; hand rates where truth shows or hides them.

    `..._error` has all frames in which this tracker sees the part, `..._error_common` those in which all do: one
    that finds more finds the difficult ones too. `hand_error_sure` and `_unsure` part its hands by their confidence.
    """
    units, track = units_px(clip), clip.tracks[name]
    values: dict[str, np.ndarray] = {}
    for part in _STILL:
        exact = clip.exact[:, rows_of(part), :2]
        if part == "body":
            # Of a rigged body only joints have an exact place; head and fingers are parts of their own.
            exact = np.where(np.isin(rows_of(part), _ARMS)[None, :, None], exact, np.nan)
        errors = _mean(np.linalg.norm(seen_points(track, part) - exact, axis=-1)) / units[part]
        chosen = {"error": np.ones(len(errors), bool)}
        chosen["error_common"] = np.all([_any_point(each, part) for each in clip.tracks.values()], axis=0)
        if part in _HAND_PARTS:
            sure = _hand_confidence(track, _HAND_PARTS.index(part)) >= _SEEN
            chosen |= {"error_sure": sure, "error_unsure": ~sure}
        for key, rows in chosen.items():
            key = f"{'hand' if part in _HAND_PARTS else part}_{key}"
            kept = errors[np.isfinite(errors) & rows]
            values[key] = np.concatenate([values.get(key, np.zeros(0)), kept])
    values["hand_wrong_rate"] = (values["hand_error"] > _WRONG_PALMS).astype(float)
    return values | _truth_hand_rates(clip, track)


def _any_point(track: Track, part: str) -> np.ndarray:
    return np.isfinite(seen_points(track, part)).all(axis=-1).any(axis=1)


def _truth_hand_rates(clip: Clip, track: Track) -> dict[str, np.ndarray]:
    rates: dict[str, list[np.ndarray]] = {"visible": [], "visible_fast": [], "hidden": []}
    _, _, fast = hands_in_picture(clip)
    for side, label in enumerate(SIDES):
        hand = clip.exact[:, HANDS[side], :2]
        palm = np.linalg.norm(np.diff(clip.exact[:, HANDS[side]][:, [0, 9]], axis=1)[:, 0], axis=-1)
        shown = clip.hand_pixels[:, side] / palm**2
        visible = _inside(hand, clip.size).all(axis=1) & (shown >= _SHOWN_SQUARE_PALMS)
        found = track.found(f"{label}_hand").astype(float)
        rates["visible"].append(found[visible])
        rates["visible_fast"].append(found[visible & fast[:, side]])
        rates["hidden"].append(found[shown < _HIDDEN_SQUARE_PALMS])
    return {f"hand_rate_{name}": np.concatenate(parts) for name, parts in rates.items()}
