"""Drawing solids: what is in front, where looks come from, against plain slow ways of finding the same."""

import cv2
import numpy as np
import pytest

from avatar_stream.modeling.drawing import figure, geometry, head
from avatar_stream.modeling.drawing import rasterizer as r
from avatar_stream.running.avatars import load_avatar
from avatar_stream.types import CANVAS_PX, FACE

SIZE = 96


def random_capsules(rng: np.random.Generator, count: int) -> np.ndarray:
    """Some long, some dots, some that point at the viewer, some partly or wholly out of view."""
    table = np.zeros((count, r.CAPSULE_COLUMNS), np.float32)
    table[:, r.A : r.A + 3] = rng.uniform((-20, -20, -40), (SIZE + 20, SIZE + 20, 40), (count, 3))
    reach = rng.choice([0.0, 3.0, 60.0], count)[:, None]
    table[:, r.B : r.B + 3] = table[:, r.A : r.A + 3] + rng.normal(0, 1, (count, 3)) * reach
    table[:, [r.RADIUS_A, r.RADIUS_B]] = rng.uniform(2, 14, (count, 2))
    table[:, r.HALO] = rng.choice([1.0, 1.5], count)
    table[:, r.GROUP] = 1 + np.arange(count) % (geometry.GROUPS - 1)
    return table


def random_triangles(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small and large ones, clockwise and not: vertices, triangles, paints."""
    middles = rng.uniform((0, 0, -40), (SIZE, SIZE, 40), (count, 1, 3))
    corners = middles + rng.normal(0, 1, (count, 3, 3)) * rng.choice([3.0, 40.0], count)[:, None, None]
    vertices = np.zeros((3 * count, r.VERTEX_COLUMNS), np.float32)
    vertices[:, :3] = corners.reshape(-1, 3)
    return vertices, np.arange(3 * count, dtype=np.int32).reshape(-1, 3), np.zeros((count, 4), np.float32)


def covered_slowly(
    capsules: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, px: np.ndarray, py: np.ndarray
) -> np.ndarray:
    """What `rasterizer.cover` does, every pixel tried for every solid, in float64."""
    which, depth, halo = np.zeros(px.shape, int), np.full(px.shape, 1e9), np.full(px.shape, 1e9)
    for number, corners in enumerate(vertices[triangles, :3].astype(np.float64)):
        places = np.stack([px, py, np.ones_like(px)]).reshape(3, -1)
        shares = np.linalg.solve(np.vstack([corners[:, :2].T, np.ones(3)]), places)
        z = (corners[:, 2] @ shares).reshape(px.shape)
        front = (shares >= 0).all(axis=0).reshape(px.shape) & (z < depth)
        depth[front], which[front] = z[front], 1 + 4 * len(capsules) + number
    for number, c in enumerate(capsules.astype(np.float64)):
        a, b, ra, rb = c[r.A : r.A + 3], c[r.B : r.B + 3], c[r.RADIUS_A], c[r.RADIUS_B]
        d = b - a
        along = np.clip(((px - a[0]) * d[0] + (py - a[1]) * d[1]) / (d[:2] @ d[:2] + 1e-6), 0, 1)
        best = np.full(px.shape, 1e9)
        for kind, t in ((r.BETWEEN, along), (r.AT_A, 0 * along), (r.AT_B, 0 * along + 1)):
            radius = ra + (rb - ra) * t
            gap = np.hypot(px - a[0] - d[0] * t, py - a[1] - d[1] * t) / radius
            z = np.where(gap < 1, a[2] + d[2] * t - radius * np.sqrt(np.maximum(1 - gap * gap, 0)), 1e9)
            best = np.minimum(z, best)
            if kind == r.BETWEEN:
                middle_gap = gap
        beside = (best > 1e8) & (depth > 1e8) & (middle_gap <= c[r.HALO]) & (along > 0)
        beside &= (middle_gap < halo - 1e-3) & (c[r.HALO] > 1)
        front = best < depth - 0.02
        halo[beside], which[beside] = middle_gap[beside], 1 + 4 * number + r.BESIDE
        depth[front], which[front] = best[front], 1 + 4 * number
    return which


@pytest.mark.parametrize("mirrored", [False, True])
def test_nothing_is_cut_off_and_the_nearest_wins(mirrored: bool) -> None:
    """Rows are drawn only as far as a solid can reach: that must never be less than it does reach."""
    rng = np.random.default_rng(4)
    capsules, (vertices, triangles, paints) = random_capsules(rng, 40), random_triangles(rng, 20)
    for step, corner in ((1.0, (3.25, -7.5)), (2.0, (-40.0, -30.0))):
        view = geometry.view(corner, step, SIZE, mirrored)
        which = np.empty((1, SIZE, SIZE), np.int32)
        r.cover(capsules, vertices, triangles, paints, np.array([view]), which)
        middles = (np.arange(SIZE) + 0.5) * step
        px, py = np.meshgrid(corner[0] + middles, corner[1] + middles)
        expected = covered_slowly(capsules, vertices, triangles, px, py)
        expected = expected[:, ::-1] if mirrored else expected
        # Which of its two ends or what is between them was hit is the same where both are one place.
        found = which[0]
        is_end = (found > 0) & (found <= 4 * len(capsules)) & ((found - 1) % 4 != r.BESIDE)
        found = np.where(is_end, found - (found - 1) % 4, found)
        assert len(np.unique(expected)) > 40 and (expected == 0).any()
        assert (found != expected).mean() < 1e-3  # rounding decides on single pixels of an edge


NO_HEAD = np.ones(head.HEAD_NUMBERS, np.float32)
NO_HEAD[head.NECK_AXIS : head.FACE_MIDDLE] = 0  # nothing turns with it
NO_HEAD[[3, 4, head.OVAL, head.OVAL + 1, head.OVAL + 4, head.OVAL + 5]] = r.NOWHERE


def shaded_by_map(image: np.ndarray, owner: np.ndarray, torso_map: np.ndarray) -> np.ndarray:
    """(256, 256, 4) look of an empty view: all of it follows the trunk's map."""
    nobody = geometry.Solids(
        np.zeros((0, r.CAPSULE_COLUMNS), np.float32),
        np.zeros((0, r.VERTEX_COLUMNS), np.float32),
        np.zeros((0, 3), np.int32),
        np.zeros((0, r.PAINT_COLUMNS), np.float32),
        np.stack([torso_map, torso_map]),
        NO_HEAD,
        np.zeros((head.SEAM_ROWS, 3), np.float32),
    )
    picture = geometry.make_picture(image, owner)
    return geometry.draw(nobody, [geometry.view((0.0, 0.0), 2.125, 256)], 256, picture).look[0]


@pytest.mark.parametrize("dots", [0, 2000])
def test_looks_are_what_opencv_reads(dots: int) -> None:
    """Also at the picture's edges, and where nearly all of it shows nothing and is passed over."""
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (512, 512, 4), np.uint8)
    if dots:
        image[:, ::2] = 0
        image[rng.random((512, 512)) > dots / 512**2] = 0
        image[[0, 0, 511, 511], [0, 511, 0, 511]] = 255
    torso_map = np.array([[0.97, 0.11, -21.3], [-0.09, 1.05, -3.7]], np.float32)
    places = (np.arange(256, dtype=np.float32) + np.float32(0.5)) * np.float32(2.125)
    px, py = np.meshgrid(places, places)
    x, y = (row[0] * px + row[1] * py + row[2] - np.float32(0.5) for row in torso_map)
    clear = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (0, 0, 0, 0)}
    expected = cv2.remap(image, x, y, cv2.INTER_LINEAR, **clear)
    assert (x < -1).any() and (x > 512).any() and expected.any()
    look = shaded_by_map(image, np.zeros((256, 256), np.uint8), torso_map)
    # A place that rounds to the other 32nd of a pixel is all that may differ.
    assert (np.abs(look.astype(int) - expected) > 16).mean() < 1e-3
    assert (look != expected).mean() < 0.02


def test_no_part_takes_the_look_of_a_limb() -> None:
    """Where an arm lies in the source image, trunk and background get nothing."""
    owner = np.zeros((256, 256), np.uint8)
    owner[:, 128:] = geometry.LEFT_ARM
    straight = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    look = shaded_by_map(np.full((512, 512, 4), 200, np.uint8), owner, straight)
    assert (look[2:238, 2:118] == 200).all() and (look[:, 128:] == 0).all()


@pytest.fixture(scope="module")
def mei() -> figure.Figure:
    avatar = load_avatar("mei")
    alpha = cv2.resize(avatar.image[..., 3], (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_AREA)
    return figure.measure_figure(avatar.pose.points, figure.girth_of(alpha, avatar.pose.points))


def drawn(target: figure.Figure, source: figure.Figure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups, places in the source and places in the target of the upper half of the picture, at full scale."""
    views = [geometry.view((128.0, 0.0), 1.0, 256)]
    drawing = geometry.draw(geometry.build_solids(target, source), views, 256)
    x, y = np.meshgrid(np.arange(256) + 128.5, np.arange(256) + 0.5)
    return drawing.owner[0], drawing.flow[0], np.stack([x, y], axis=-1)


@pytest.mark.parametrize(
    "group", [geometry.EYE, geometry.SKIN, geometry.HEAD, geometry.NECK, geometry.COLLAR]
)
def test_in_its_own_pose_a_head_is_read_where_it_is(group: int, mei: figure.Figure) -> None:
    """All of an iris too, not the pupil's middle everywhere: that is a black square for an eye."""
    owner, flow, places = drawn(mei, mei)
    assert (owner == group).sum() > 20
    assert np.abs(flow - places)[owner == group].max() < 0.1


def test_face_hair_neck_and_trunk_of_a_turned_head_meet(mei: figure.Figure) -> None:
    """Neighbours show neighbours: else skin is seen in the hair, and hair ends in a line beside the neck."""
    turn, tilt = np.deg2rad(18), np.deg2rad(12)
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    about_z = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    points = mei.points.copy()
    middle = mei.skull + np.float32([0, 20, 0])
    points[FACE] = (points[FACE] - middle) @ (about_z @ about_y).T + middle
    turned = figure.measure_figure(points, mei.girth)
    owner, flow, _ = drawn(turned, mei)
    steps = np.abs(np.diff(flow, axis=1)).max(axis=-1)
    for a, b in ((geometry.SKIN, geometry.HEAD), (geometry.NECK, geometry.COLLAR)):
        left, right = owner[:, :-1], owner[:, 1:]
        seam = ((left == a) & (right == b)) | ((left == b) & (right == a))
        assert seam.sum() > 20
        assert np.median(steps[seam]) < 3.0


def test_an_eye_whose_iris_is_not_seen_is_no_hole(mei: figure.Figure) -> None:
    without = mei.points.copy()
    without[FACE.start + 468 : FACE.start + 478] = np.nan
    owner, flow, places = drawn(mei, figure.measure_figure(without, mei.girth))
    assert (owner == geometry.EYE).sum() > 20
    assert np.abs(flow - places)[owner == geometry.EYE].max() < 5.0
