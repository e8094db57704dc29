"""MediaPipe Holistic's layout as retargeting needs it: bones, stable face points, and what mirrors what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avatar_stream.types import BODY, FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Pose

# Pairs are always (left, right), the signer's own.
SHOULDERS = np.array([11, 12])
ELBOWS = np.array([13, 14])
WRISTS = np.array([15, 16])
HIPS = np.array([23, 24])
# Where the four bones of the arms begin and end: both upper arms, both forearms.
BONE_STARTS, BONE_ENDS = slice(11, 15), slice(13, 17)
HANDS = (LEFT_HAND, RIGHT_HAND)
HEAD_ROWS = slice(0, 11)  # body points of the head
# The face point that stands where each body point of the head does, and where each body point of a hand does.
FACE_OF_HEAD = np.array([1, 362, 473, 263, 133, 468, 33, 454, 234, 291, 61])
HAND_OF_BODY = {17: 17, 19: 5, 21: 3}  # body row of the left hand (right: + 1) -> hand row

HAND_PARENTS = np.array([0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19])
PALM = np.array([0, 5, 9, 13, 17])
PALM_ENDS = np.array([5, 17])  # knuckles of the forefinger and the little finger
# Bone lengths of a hand in lengths of its palm (wrist to middle knuckle), each at its outer landmark.
HAND_RATIOS = np.array(
    [0.0, 0.40, 0.45, 0.37, 0.30]
    + [0.98, 0.46, 0.28, 0.24]
    + [1.00, 0.50, 0.32, 0.26]
    + [0.95, 0.46, 0.31, 0.26]
    + [0.92, 0.36, 0.22, 0.21]
)
PALMS_IN_BONES = float(HAND_RATIOS.sum())

# Face points that expressions hardly move: forehead, temples, nose bridge, corners of the eyes.
STABLE_FACE = np.array(
    [10, 67, 109, 297, 338, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454]
    + [151, 9, 8, 168, 6, 197, 195, 33, 133, 263, 362]
)
EARS_OF_FACE = np.array([234, 454])
FOREHEAD, CHIN = 10, 152
UPPER_LIP, LOWER_LIP, MOUTH_CORNERS = 13, 14, np.array([61, 291])
# Per eye (left, right): corners outer and inner, then lids from outer to inner, upper and lower in pairs.
EYE_CORNERS = np.array([[263, 362], [33, 133]])
UPPER_LIDS = np.array([[466, 388, 387, 386, 385, 384, 398], [246, 161, 160, 159, 158, 157, 173]])
LOWER_LIDS = np.array([[249, 390, 373, 374, 380, 381, 382], [7, 163, 144, 145, 153, 154, 155]])
IRISES = np.array([473, 468])

_FACE_MIRROR = (
    "3-248 7-249 20-250 21-251 22-252 23-253 24-254 25-255 26-256 27-257 28-258 29-259 30-260 31-261 32-262 "
    "33-263 34-264 35-265 36-266 37-267 38-268 39-269 40-270 41-271 42-272 43-273 44-274 45-275 46-276 "
    "47-277 48-278 49-279 50-280 51-281 52-282 53-283 54-284 55-285 56-286 57-287 58-288 59-289 60-290 "
    "61-291 62-292 63-293 64-294 65-295 66-296 67-297 68-298 69-299 70-300 71-301 72-302 73-303 74-304 "
    "75-305 76-306 77-307 78-308 79-309 80-310 81-311 82-312 83-313 84-314 85-315 86-316 87-317 88-318 "
    "89-319 90-320 91-321 92-322 93-323 95-324 96-325 97-326 98-327 99-328 100-329 101-330 102-331 103-332 "
    "104-333 105-334 106-335 107-336 108-337 109-338 110-339 111-340 112-341 113-342 114-343 115-344 116-345 "
    "117-346 118-347 119-348 120-349 121-350 122-351 123-352 124-353 125-354 126-355 127-356 128-357 129-358 "
    "130-359 131-360 132-361 133-362 134-363 135-364 136-365 137-366 138-367 139-368 140-369 141-370 142-371 "
    "143-372 144-373 145-374 146-375 147-376 148-377 149-378 150-379 153-380 154-381 155-382 156-383 157-384 "
    "158-385 159-386 160-387 161-388 162-389 163-390 165-391 166-392 167-393 169-394 170-395 171-396 172-397 "
    "173-398 174-399 176-400 177-401 178-402 179-403 180-404 181-405 182-406 183-407 184-408 185-409 186-410 "
    "187-411 188-412 189-413 190-414 191-415 192-416 193-417 194-418 196-419 198-420 201-421 202-422 203-423 "
    "204-424 205-425 206-426 207-427 208-428 209-429 210-430 211-431 212-432 213-433 214-434 215-435 216-436 "
    "217-437 218-438 219-439 220-440 221-441 222-442 223-443 224-444 225-445 226-446 227-447 228-448 229-449 "
    "230-450 231-451 232-452 233-453 234-454 235-455 236-456 237-457 238-458 239-459 240-460 241-461 242-462 "
    "243-463 244-464 245-465 246-466 247-467 "
)


def _chain() -> np.ndarray:
    # (21, 21): points of a hand from its bones as one product.
    chain = np.zeros((21, 21))
    for row in range(1, 21):
        chain[row] = chain[HAND_PARENTS[row]]
        chain[row, row] = 1.0
    return chain


def _mirror_rows() -> np.ndarray:
    rows = np.arange(POINT_COUNT)
    for left in [7, *range(9, 33, 2)]:
        rows[[left, left + 1]] = left + 1, left
    rows[[1, 2, 3, 4, 5, 6]] = 4, 5, 6, 1, 2, 3
    for pair in _FACE_MIRROR.split():
        a, b = (FACE.start + int(row) for row in pair.split("-"))
        rows[[a, b]] = b, a
    iris = FACE.start + 468 + np.arange(10)
    rows[iris] = FACE.start + np.array([473, 476, 475, 474, 477, 468, 471, 470, 469, 472])
    rows[LEFT_HAND], rows[RIGHT_HAND] = np.arange(532, 553), np.arange(511, 532)
    return rows


HAND_CHAIN = _chain()
MIRROR_ROWS = _mirror_rows()


def both_hands(points: np.ndarray) -> np.ndarray:
    """(553, ...) of a whole pose -> (2, 21, ...) of its left and right hand, a view."""
    return points[LEFT_HAND.start : RIGHT_HAND.stop].reshape(2, 21, *points.shape[1:])


def hand_bones(hands: np.ndarray) -> np.ndarray:
    """(..., 21, 3) hand points -> (..., 21, 3) bones, each at its outer landmark; the wrist's is zero."""
    return hands - hands.take(HAND_PARENTS, axis=-2)


def mirror_pose(pose: Pose) -> Pose:
    """Return the pose as a mirror shows it: x flipped within the picture, left and right points exchanged."""
    points = pose.points[MIRROR_ROWS].copy()
    points[:, 0] = pose.size[0] - points[:, 0]
    world = pose.world[MIRROR_ROWS[BODY]] * np.array([-1, 1, 1], np.float32)
    return replace(pose, points=points, confidence=pose.confidence[MIRROR_ROWS], world=world)
