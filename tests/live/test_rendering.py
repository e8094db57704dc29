"""Rigged people: reading, drawing, parts, exact landmarks, data sets."""

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.places import ROOT, shared

from avatar_stream.errors import ConfigError, RenderError, SinkError
from avatar_stream.lab.renders import people
from avatar_stream.lab.renders.looks import look_poses
from avatar_stream.lab.renders.shape import Shape, random_shape, reshaped
from avatar_stream.people import look, parts, prints
from avatar_stream.people.camera import Camera
from avatar_stream.people.face_points import FacePoints
from avatar_stream.people.gltf import GltfFile
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.lens import Lens, photograph, photograph_scene
from avatar_stream.people.renderer import Renderer, straightened
from avatar_stream.people.rig import BODY as BODY_KIND
from avatar_stream.people.rig import EYE, UNKNOWN, Rig, chart
from avatar_stream.people.skeleton import INDEX, JOINTS, RigPose, rest_rotations
from avatar_stream.turns import from_vector
from avatar_stream.types import BODY, FACE, LEFT_HAND, RIGHT_HAND

MIRRORED = [INDEX[n.replace("Left", "?").replace("Right", "Left").replace("?", "Right")] for n in JOINTS]


def turn_z(angle: float) -> np.ndarray:
    return from_vector(np.array([0, 0, angle])).astype(np.float32)


def arms_down(**kwargs) -> RigPose:
    rotations = rest_rotations()
    rotations[INDEX["LeftArm"]], rotations[INDEX["RightArm"]] = turn_z(-1.2), turn_z(1.2)
    return RigPose(rotations, **kwargs)


def write_glb(path: Path, tree: dict, binary: bytes) -> Path:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
    return path


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig.load(shared("people/person-02-a.glb"))


@pytest.fixture(scope="module")
def renderer():
    try:
        drawer = Renderer(256)
    except RenderError as error:
        pytest.skip(str(error))
    with drawer:
        yield drawer


@pytest.fixture(scope="module")
def any_face(rig) -> FacePoints:
    """Points anywhere on the eyes and head: enough where MediaPipe's places do not matter."""
    eyes = rig.triangles[rig.kinds[rig.triangles[:, 0]] == EYE]
    chosen = np.concatenate([rig.triangles[:468], eyes[:10]]).astype(np.int32)
    return FacePoints(chosen, np.full((478, 3), 1 / 3, np.float32))


def test_sparse_accessor_without_base_view_is_normalised(tmp_path):
    values = np.array([[-127, 64, 0], [127, 0, -128]], np.int8)
    tree = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": 16}],
        "bufferViews": [{"buffer": 0, "byteOffset": at, "byteLength": size} for at, size in ((0, 4), (4, 6))],
    }
    tree["accessors"] = [{"type": "VEC3", "componentType": 5120, "count": 4, "normalized": True}]
    indices, values_at = {"bufferView": 0, "componentType": 5123}, {"bufferView": 1}
    tree["accessors"][0]["sparse"] = {"count": 2, "indices": indices, "values": values_at}
    file = GltfFile(write_glb(tmp_path / "a.glb", tree, struct.pack("<HH", 1, 3) + values.tobytes()))
    expected = np.zeros((4, 3), np.float32)
    expected[1], expected[3] = [-1, 64 / 127, 0], [1, 0, -1]
    np.testing.assert_allclose(file.accessor(0), expected, atol=1e-6)


def test_interleaved_accessor_keeps_its_rows_apart(tmp_path):
    rows = np.arange(12, dtype=np.uint16).reshape(3, 4)
    tree = {
        "asset": {"version": "2.0"},
        "bufferViews": [{"buffer": 0, "byteLength": 24, "byteStride": 8}],
        "accessors": [{"type": "VEC2", "componentType": 5123, "count": 3, "bufferView": 0, "byteOffset": 4}],
    }
    file = GltfFile(write_glb(tmp_path / "a.glb", tree, rows.tobytes()))
    np.testing.assert_array_equal(file.accessor(0), rows[:, 2:])


@pytest.mark.parametrize("content", [b"", b"hello, I am a text file, not a person", b"glTF" + b"\xff" * 40])
def test_foreign_files_are_one_clear_error(tmp_path, content):
    path = tmp_path / "person.glb"
    path.write_bytes(content)
    with pytest.raises(RenderError) as caught:
        Rig.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_without_the_skeleton_names_a_joint(tmp_path):
    path = write_glb(tmp_path / "a.glb", {"asset": {"version": "2.0"}, "nodes": [{"name": "Hips"}]}, b"")
    with pytest.raises(RenderError, match="Spine"):
        Rig.load(path)


def test_a_truncated_person_is_one_clear_error(tmp_path):
    data = shared("people/person-02-a.glb").read_bytes()
    path = tmp_path / "cut.glb"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(RenderError, match="cut off"):
        Rig.load(path)


def test_rig_stands_in_metres_facing_forwards(rig):
    assert rig.bind_m.shape == (len(JOINTS), 3)
    assert 1.5 < rig.positions_m[:, 1].max() < 2.0
    assert rig.bind_m[INDEX["LeftHand"], 0] > 0.5 > -0.5 > rig.bind_m[INDEX["RightHand"], 0]
    assert rig.bind_m[INDEX["LeftEye"], 2] > rig.bind_m[INDEX["Head"], 2]
    np.testing.assert_allclose(rig.weights.sum(1), 1, atol=1e-5)


def test_bind_pose_leaves_every_vertex(rig):
    skinned = rig.skinned(RigPose(), np.arange(len(rig.positions_m)))
    np.testing.assert_allclose(skinned, rig.positions_m, atol=1e-5)


def test_teeth_follow_the_mouth(rig):
    opened = rig.morphed({"MouthOpen_h": 1.0})
    moved = np.abs(opened - rig.positions_m[: len(opened)]).max(1) > 0.005
    kinds = rig.kinds[: len(moved)][moved]
    assert {0, 2} <= set(kinds.tolist())


def test_gaze_turns_the_eyes_to_the_signers_left(rig):
    rows = np.flatnonzero(rig.kinds == EYE)
    front = rows[rig.positions_m[rows, 2] > rig.positions_m[rows, 2].max() - 0.001]
    left = rig.skinned(RigPose(gaze=np.array([0.3, 0], np.float32)), front)[:, 0] - rig.positions_m[front, 0]
    high = rig.skinned(RigPose(gaze=np.array([0, 0.3], np.float32)), front)[:, 1] - rig.positions_m[front, 1]
    assert left.mean() > 0.002 and high.mean() > 0.002


def test_the_person_fills_the_signing_frame(rig, any_face):
    pose = landmarks(rig, any_face, arms_down())
    middle = (pose.points[11, :2] + pose.points[12, :2]) / 2
    np.testing.assert_allclose(middle, [256, 0.46 * 512], atol=0.5)
    shoulders, torso = pose.points[11] - pose.points[12], pose.points[[23, 24], :2].mean(0) - middle
    assert np.linalg.norm(shoulders[:2]) + torso[1] == pytest.approx(512 / 1.41, rel=0.02)
    assert pose.points[15, 0] > pose.points[16, 0]  # the signer's left is at the picture's right


def test_depth_grows_away_from_the_camera(rig, any_face):
    rotations = arms_down().rotations.copy()
    rotations[INDEX["LeftForeArm"]] = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32).T
    points = landmarks(rig, any_face, RigPose(rotations)).points
    assert points[15, 2] < points[16, 2] - 50
    assert points[LEFT_HAND][0, 2] == 0 and points[RIGHT_HAND][0, 2] == 0
    assert abs(points[BODY][[23, 24], 2].mean()) < 1e-3 and abs(points[FACE][:468, 2].mean()) < 1e-2


def test_drawn_parts_lie_where_the_landmarks_say(rig, renderer, any_face):
    camera = Camera(yaw_rad=0.1)
    drawn = renderer.draw(rig, arms_down(), camera)
    points = landmarks(rig, any_face, arms_down(), camera, size_px=128).points
    found = [drawn.parts[int(y), int(x)] for x, y in (points[LEFT_HAND][9, :2], points[RIGHT_HAND][9, :2])]
    assert found == [parts.LEFT_HAND, parts.RIGHT_HAND]
    chest = points[[11, 12, 23, 24], :2].mean(0)
    assert drawn.parts[int(chest[1]), int(chest[0])] == parts.UPPER_CLOTHES
    assert set(range(1, 8)) <= set(np.unique(drawn.parts).tolist())


def test_the_surface_map_finds_a_point_of_the_skin_in_another_picture(rig, renderer):
    moved = arms_down(root_m=np.array([0.03, 0.02, 0], np.float32), morphs={"MouthOpen_h": 0.5})
    moved.rotations[INDEX["LeftForeArm"]] = turn_z(0.6)
    camera = Camera().place(rig.bind_m)
    rows = np.flatnonzero(rig.kinds == BODY_KIND)[::5]
    truth = chart(rig)[rows] * 65534
    maps, places = [], []
    for pose in (arms_down(), moved):
        maps.append(renderer.draw(rig, pose, camera).surface.astype(np.int32))
        places.append(camera.project(rig.skinned(pose, rows), 128)[0] - 0.5)
    inside = [((place > 1) & (place < 126)).all(1) for place in places]
    first, second = (np.round(place[inside[0] & inside[1]]).astype(int) for place in places)
    truth = truth[inside[0] & inside[1]]
    seen = zip(maps, (first, second), strict=True)
    there = [np.abs(found[at[:, 1], at[:, 0]] - truth).max(1) < 400 for found, at in seen]
    chosen = np.flatnonzero(there[0] & there[1])  # seen in both pictures
    assert len(chosen) > 150
    wanted = maps[0][first[chosen, 1], first[chosen, 0]]
    distance = np.abs(maps[1][None] - wanted[:, None, None]).sum(-1).reshape(len(chosen), -1)
    row, column = np.divmod(distance.argmin(1), 128)
    error_px = np.hypot(row - second[chosen, 1], column - second[chosen, 0])
    assert np.percentile(error_px, 95) < 2
    assert (maps[0][0, 0] == UNKNOWN).all() and (maps[0][64, 64] < UNKNOWN).all()


def test_alpha_is_straight_and_soft(rig, renderer):
    image = renderer.draw(rig, arms_down()).image
    alpha = image[..., 3]
    assert (alpha[0] == 0).all() and (image[alpha == 0] == 0).all()
    border = (alpha > 60) & (alpha < 200)
    assert border.sum() > 100
    assert image[border][:, :3].mean() > 0.6 * image[alpha == 255][:, :3].mean()  # not darkened by the void


def test_straightening_divides_by_alpha():
    image = np.array([[[50, 25, 0, 128], [9, 9, 9, 255], [0, 0, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(straightened(image)[0], [[100, 50, 0, 128], [9, 9, 9, 255], [0, 0, 0, 0]])


def test_drawing_does_not_remember_the_last_pose(rig, renderer):
    first = renderer.draw(rig, arms_down())
    other = look.random_look(rig.part_colours, np.random.default_rng(1))
    renderer.draw(rig, arms_down(morphs={"MouthOpen_h": 1.0}), look=other)
    again = renderer.draw(rig, arms_down())
    np.testing.assert_array_equal(first.image, again.image)


def test_tint_changes_its_part_only(rig, renderer):
    tints = np.tile(np.eye(3, dtype=np.float32), (4, 1, 1))
    tints[2] = look.repaint(rig.part_colours[2], np.array([0.5, 0.0, 0.0]), 1.0)
    plain = renderer.draw(rig, arms_down())
    red = renderer.draw(rig, arms_down(), look=look.Appearance(tints=tints))
    big = np.repeat(np.repeat(plain.parts, 2, 0), 2, 1)
    shirt, face = big == parts.UPPER_CLOTHES, big == parts.FACE
    assert red.image[shirt][:, 1].mean() < 0.5 * plain.image[shirt][:, 1].mean()
    assert np.abs(red.image[face].astype(int) - plain.image[face]).mean() < 6


def test_another_shape_keeps_landmarks_on_the_person(rig, renderer, any_face):
    other = reshaped(rig, any_face, random_shape(np.random.default_rng(2)))
    again = reshaped(rig, any_face, random_shape(np.random.default_rng(2)))
    np.testing.assert_array_equal(other.positions_m, again.positions_m)
    np.testing.assert_allclose(other.bind_m * [-1, 1, 1], other.bind_m[MIRRORED], atol=2e-3)
    assert np.abs(other.bind_m - rig.bind_m).max() > 0.005
    for person in (rig, other):
        drawn = renderer.draw(person, arms_down())
        points = landmarks(person, any_face, arms_down(), size_px=128).points
        for hand, part in ((LEFT_HAND, parts.LEFT_HAND), (RIGHT_HAND, parts.RIGHT_HAND)):
            assert drawn.parts[int(points[hand][9, 1]), int(points[hand][9, 0])] == part
        # Fingertips lie inside their flesh: within a few millimetres of the mesh.
        tip = person.bind_m[INDEX["LeftHandMiddle4"]]
        assert np.linalg.norm(person.positions_m - tip, axis=1).min() < 0.012


def test_pattern_is_on_its_clothes_only(rig, renderer):
    patterns = np.zeros((2, 3, 4), np.float32)
    luminance = float(np.array([0.3, 0.59, 0.11]) @ rig.part_colours[2])
    patterns[0] = [[0, 20, 0, look.STRIPES], [0.8, 0.0, 0.0, 1.0], [20, 0, 0, luminance]]
    plain = renderer.draw(rig, arms_down())
    striped = renderer.draw(rig, arms_down(), look=look.Appearance(patterns=patterns))
    big = np.repeat(np.repeat(plain.parts, 2, 0), 2, 1)
    changed = np.abs(striped.image.astype(int) - plain.image).max(-1) > 25
    assert 0.25 < changed[big == parts.UPPER_CLOTHES].mean() < 0.75  # every second stripe
    assert changed[(big == parts.FACE) | (big == parts.LOWER_CLOTHES)].mean() < 0.03


def test_a_hand_before_the_chest_darkens_it(rig, renderer):
    lamp = look.Appearance(key=(0.6, 0.6, 0.7), key_colour=(0.6, 0.6, 0.6))
    covering = arms_down()
    covering.rotations[INDEX["LeftForeArm"]] = from_vector(np.array([0, -1.9, 0])).astype(np.float32)
    free, covered = renderer.draw(rig, arms_down(), look=lamp), renderer.draw(rig, covering, look=lamp)
    big = [np.repeat(np.repeat(drawn.parts, 2, 0), 2, 1) == parts.UPPER_CLOTHES for drawn in (free, covered)]
    same = big[0] & big[1]
    change = covered.image[same][:, :3].mean(1) / np.maximum(free.image[same][:, :3].mean(1), 1)
    assert np.percentile(change, 1) < 0.8  # in the shadow
    assert 0.97 < np.median(change) < 1.03


def test_prints_are_sharp_and_four_in_ten_clothes_are_plain(rig, renderer):
    random = np.random.default_rng(0)
    looks = [look.random_look(rig.part_colours, random) for _ in range(200)]
    assert 0.3 < np.mean([not one.print for one in looks]) < 0.5
    shirts = []
    for seed in (0, 7, 8, 9):
        drawn = renderer.draw(rig, arms_down(), look=look.Appearance(print=seed))
        shirt = cv2.erode((drawn.parts == parts.UPPER_CLOTHES).astype(np.uint8), np.ones((5, 5))) > 0
        fine = np.abs(cv2.Laplacian(cv2.cvtColor(drawn.image[..., :3], cv2.COLOR_RGB2GRAY), cv2.CV_32F))
        shirts.append(fine[::2, ::2][shirt].mean())
    assert max(shirts[1:]) > 1.5 * shirts[0]


def test_the_same_seed_prints_the_same():
    cloth = np.array([0.05, 0.05, 0.1])
    np.testing.assert_array_equal(prints.paint(3, cloth), prints.paint(3, cloth))
    assert (prints.paint(3, cloth) != prints.paint(4, cloth)).any()


def test_a_camera_leaves_the_matte_and_the_void_alone(rig, renderer):
    image = renderer.draw(rig, arms_down()).image
    random = np.random.default_rng(1)
    for lens in (Lens(), Lens(0.6, 0.8, 0.5, 5.0, (1.05, 1, 0.95), 1.1, 0.9, 70)):
        taken = photograph(image, lens, random)
        np.testing.assert_array_equal(taken[..., 3], image[..., 3])
        assert (taken[image[..., 3] == 0] == 0).all()
    person = image[..., 3] == 255
    away = np.abs(taken[person][:, :3].astype(int) - image[person][:, :3]).mean()
    assert 2 < away < 30
    np.testing.assert_array_equal(photograph(image, Lens(), random)[person], image[person])
    rim = (image[..., 3] > 30) & (image[..., 3] < 225)  # nothing dark comes in over the border
    assert taken[rim][:, :3].mean() > 0.85 * image[rim][:, :3].mean()


def test_a_camera_takes_the_wall_behind_with_the_same_lens():
    scene = np.full((40, 60, 3), 120, np.uint8)
    np.testing.assert_array_equal(photograph_scene(scene, Lens(), np.random.default_rng(0)), scene)
    noisy = [photograph_scene(scene, Lens(noise=4.0), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (noisy[0] != noisy[2]).mean() > 0.5
    assert noisy[0].reshape(-1, 3).std(0).min() > 1


def test_a_stout_body_is_wider_over_the_same_bones(rig, any_face):
    bones = np.ones((len(JOINTS), 3))
    girths = bones.copy()
    for name in ("Hips", "Spine", "Spine1"):
        girths[INDEX[name]] = (1.3, 1, 1.3)
    stout = reshaped(rig, any_face, Shape(bones, girths, np.zeros(15)))
    np.testing.assert_allclose(stout.bind_m, rig.bind_m, atol=1e-5)
    waist = np.abs(rig.positions_m[:, 1] - rig.bind_m[INDEX["Spine1"], 1]) < 0.03
    waist &= np.abs(rig.positions_m[:, 0]) < 0.25
    assert np.ptp(stout.positions_m[waist, 0]) > 1.2 * np.ptp(rig.positions_m[waist, 0])


def test_looks_show_palms_and_backs_of_both_hands_whole(rig, any_face):
    for name, pose in look_poses(rig.bind_m).items():
        points = landmarks(rig, any_face, pose).points
        for hand in (LEFT_HAND, RIGHT_HAND):
            flat = points[hand][:, :2]
            assert (flat > 4).all() and (flat < 508).all(), name
        if name.endswith(("palms", "backs")):
            a, b = points[RIGHT_HAND][[5, 17], :2] - points[RIGHT_HAND][0, :2]
            palm_seen = a[0] * b[1] - a[1] * b[0] < 0
            assert palm_seen == name.endswith("palms"), name


def test_skin_comes_in_every_tone_and_faces_match_hands(rig):
    random = np.random.default_rng(0)
    skins = [look.random_skin(rig.part_colours[1], random) for _ in range(200)]
    tones = np.array([skin @ rig.part_colours[1] for skin in skins])
    luminance = tones @ [0.3, 0.59, 0.11]
    assert luminance.min() < 0.06 and luminance.max() > 0.45
    assert (tones[:, 0] > tones[:, 1]).all() and (tones[:, 1] > 0.9 * tones[:, 2]).all()  # human hues


def test_plan_gives_every_person_its_share():
    variants = people.plan(3, 100, 12, seed=4)
    assert sum(variant.count for variant in variants) == 100
    assert [variant.first for variant in variants] == [12 * k for k in range(9)]
    assert np.bincount([variant.person for variant in variants]).tolist() == [3, 3, 3]


def test_nobody_chosen_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError):
        people.select(tmp_path)


def test_a_data_set_is_whole_and_repeats(tmp_path, renderer):
    files = people.select(shared("people"), ["person-02"])
    for name in ("one", "two"):
        people.render_people(files, tmp_path / name, 4, seed=3, frames_per_variant=2)
    first, second = (np.load(tmp_path / name / "images.npy") for name in ("one", "two"))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (4, 512, 512, 4) and (first[..., 3] == 255).mean((1, 2)).min() > 0.05
    meta = json.loads((tmp_path / "one" / "meta.json").read_text())
    assert [entry["person"] for entry in meta["variants"]] == ["person-02-a"] * 2
    assert np.load(tmp_path / "one" / "surface.npy").shape == (4, 256, 256, 2)
    assert np.load(tmp_path / "one" / "person.npy").tolist() == [0, 0, 1, 1]
    points, labels = np.load(tmp_path / "one" / "points.npy"), np.load(tmp_path / "one" / "parts.npy")
    nose = (points[0, 0, :2] / 2).astype(int)
    assert labels[0, nose[1], nose[0]] == parts.FACE
    with pytest.raises(SinkError):
        people.render_people(files, tmp_path / "one", 4, seed=3)


def test_two_renderers_of_one_thread_do_not_disturb_each_other():
    rig = Rig.load(ROOT / "assets" / "avatars" / "mei" / "person.glb")
    with Renderer(64) as first:
        alone = first.draw(rig, arms_down()).image
        with Renderer(32) as second:
            second.draw(rig, arms_down())
            assert np.array_equal(first.draw(rig, arms_down()).image, alone)
        assert np.array_equal(first.draw(rig, arms_down()).image, alone)
    assert alone[..., 3].max() == 255
