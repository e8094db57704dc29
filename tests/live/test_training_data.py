"""Training data from videos and from renders made while training."""

import pickle

import numpy as np
import pytest
import yaml
from support.people import cut_clip
from support.places import shared

from avatar_stream.cli import main
from avatar_stream.errors import ConfigError, SinkError, SourceError
from avatar_stream.lab.training import video_folder
from avatar_stream.lab.training.config import load_train_config
from avatar_stream.lab.training.dataset import PairDataset, PictureFolder, open_data
from avatar_stream.lab.training.live_renders import LiveRenders
from avatar_stream.lab.training.video_folder import find_shots, prepare_videos
from avatar_stream.lab.training.video_frame import CutFinder, SigningFrame, neutrality, usable_pose
from avatar_stream.modeling.drawing import geometry
from avatar_stream.types import FACE, LEFT_HAND, LEFT_WRIST, NOSE, RIGHT_HAND


@pytest.fixture(scope="module")
def video_set(tmp_path_factory):
    """A data set of two short clips and a broken one, and the folder of the clips."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "deep").mkdir()
    cut_clip(shared("video/webcam-signer.mp4"), folder / "a.mp4", 100, 20)
    cut_clip(shared("video/webcam-bystander.mp4"), folder / "deep" / "b.MKV", 20, 20)
    (folder / "broken.mp4").write_text("no clip")
    output = folder.parent / "set"
    return folder, output, prepare_videos(folder, output, every=2, max_frames_per_clip=6)


def test_videos_become_a_data_set_that_gives_samples(video_set):
    folder, output, count = video_set
    data = PictureFolder(output)
    assert len(data.images) == count and 8 <= count <= 12
    assert {v["person"] for v in data.meta["variants"]} == {"a", "deep/b"} and len(data.variants) == 2
    assert not output.with_name("set.partial").exists()
    assert sorted(np.concatenate(data.variants)) == list(range(count))
    source, targets = PairDataset([data], targets=2).sample(np.random.default_rng(0))
    assert len(targets) == 2 and np.isfinite(targets[0].views.windows.maps).all()
    assert source.views.windows.look[0, ..., 3].mean() > 60 and targets[0].windows[0, ..., 3].mean() > 60
    assert not PictureFolder(output, exclude=("a",)).variants[0][0] == data.variants[0][0]


def test_matte_and_parts_cover_the_person_and_nothing_else(video_set):
    data = PictureFolder(video_set[1])
    for row in range(len(data.images)):
        alpha, points, parts = data.images[row][..., 3], data.points[row], data.parts[row]
        body = points[[NOSE, 11, 12, 13, 14]]
        face = points[FACE][[10, 152, 1, 50, 280]]
        for x, y in np.concatenate([body, face])[:, :2].astype(int):
            assert alpha[min(max(y, 0), 511), x] > 200
        assert 0.1 < (alpha > 127).mean() < 0.5
        assert alpha[:30].max() == 0 and alpha[:, :40].max() == 0  # air above the head, the bystander's side
        # The nose is face, or a hand is before it.
        assert parts[int(face[2, 1]) // 2, int(face[2, 0]) // 2] in (2, 4, 5)
        # The canonical frame: middle of the shoulders at (0.5, 0.46) within the clip's own sway.
        assert np.abs(points[[11, 12], :2].mean(axis=0) - [256, 235.5]).max() < 30
        for hand, part in ((LEFT_HAND, 4), (RIGHT_HAND, 5)):
            palm = points[hand][[0, 5, 9, 13, 17]].mean(axis=0)[:2]
            if np.isfinite(palm).all() and (palm < 500).all():
                near = parts[int(palm[1]) // 2 - 6 :, :][:13, int(palm[0]) // 2 - 6 :][:, :13]
                assert (near == part).sum() > 20
    for rows in data.variants:
        scores = [neutrality(points) for points in data.points[rows]]
        assert scores[0] == max(scores)


def test_a_cut_to_another_person_starts_a_shot(tmp_path):
    cut_clip(shared("video/signer-change.mp4"), tmp_path / "cut.mp4", 69, 40)  # the cut is at 89
    shots = find_shots(tmp_path / "cut.mp4", every=4)
    assert all((max(shot.poses) < 20) or (min(shot.poses) >= 20) for shot in shots)
    assert {max(shot.poses) < 20 for shot in shots} == {True, False}


def test_an_interrupted_run_goes_on(tmp_path, make_clip, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        make_clip(name)
    made = []

    def prepare(path, name, *_):
        made.append(name)
        if made == ["a", "b"]:
            raise KeyboardInterrupt
        arrays = {key: np.zeros((2, *shape), dtype) for key, (shape, dtype) in video_folder._ARRAYS.items()}
        np.savez(path, name=name, **arrays)

    monkeypatch.setattr(video_folder, "_prepare_clip", prepare)
    with pytest.raises(KeyboardInterrupt):
        prepare_videos(tmp_path, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    assert prepare_videos(tmp_path, tmp_path / "set") == 4
    assert made == ["a", "b", "b"] and np.load(tmp_path / "set" / "person.npy").tolist() == [0, 0, 1, 1]
    assert sorted(path.suffix for path in (tmp_path / "set").iterdir()) == [".json"] + [".npy"] * 7


def test_clips_without_a_signer_are_one_error(tmp_path, make_clip):
    make_clip()
    with pytest.raises(SourceError, match="shows one person") as error:
        prepare_videos(tmp_path, tmp_path / "set")
    assert "\n" not in str(error.value) and not (tmp_path / "set").exists()


def test_wrong_folders_are_one_line(tmp_path, capsys):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError) as error:
            prepare_videos(folder, tmp_path / "set")
        assert "\n" not in str(error.value)
    (tmp_path / "clip.mp4").write_text("no clip")
    with pytest.raises(SinkError, match="there already"):
        prepare_videos(tmp_path, tmp_path)
    assert main(["prepare-videos", "--input", str(tmp_path / "no"), "--output", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_hand_may_be_missing_only_out_of_the_picture(upright_pose):
    pose = upright_pose()
    assert usable_pose(pose) is not None
    pose.points[LEFT_HAND] = np.nan
    assert usable_pose(pose) is None
    pose.points[LEFT_WRIST, 1] = pose.size[1] + 5
    kept = usable_pose(pose)
    assert kept is not None and kept.confidence[LEFT_HAND].max() == 0
    pose.points[RIGHT_HAND] += 400  # another person's
    assert usable_pose(pose) is None


def test_signing_frame_places_points_and_picture_alike():
    for side in (256.0, 900.0):
        frame = SigningFrame(-20.0, 30.0, side)
        image = np.zeros((700, 900, 3), np.uint8)
        image[200:220, 100:120] = 255
        cut, inside = frame.cut(image)
        y, x = np.argwhere(cut[..., 0] > 127).mean(axis=0) + 0.5
        place = frame.place(np.array([[110.0, 210.0, 0.0]], np.float32))[0]
        assert np.allclose([x, y], place[:2], atol=0.6)
        assert not inside[:, : int(18 * 512 / side)].any() and inside[100, 200]


def test_cuts_are_found_and_motion_is_none():
    finder, random = CutFinder(), np.random.default_rng(0)
    scenes = [random.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(2)]
    found = []
    for k in range(12):
        scene = scenes[k // 6].copy()
        scene[10:20, k : k + 10] = 128
        found.append(finder.is_picture_cut(scene.repeat(4, 0).repeat(4, 1)))
    assert np.flatnonzero(found).tolist() == [6]


def test_live_renders_give_samples_without_excluded_people():
    renders = LiveRenders(
        shared("people"), tuple(f"person-{k:02d}" for k in range(3, 40)), frames=3, places=2
    )
    assert {path.stem[:9] for path in renders.people} == {"person-01", "person-02"}
    dataset = PairDataset([renders], targets=2)
    _, targets = dataset.sample(np.random.default_rng(5))
    assert targets[0].windows[..., 3].max() == 255 and np.isfinite(targets[0].views.windows.maps).all()
    again = pickle.loads(pickle.dumps(renders))
    assert again.images is None and again.people == renders.people
    twin = PairDataset([again], targets=2)
    assert np.array_equal(twin.sample(np.random.default_rng(5))[1][0].windows, targets[0].windows)
    before = renders.images.copy()
    rng = np.random.default_rng(1)
    renders.choose(rng)
    assert np.array_equal(renders.images[:3], before[:3]) and renders.images[3:, ..., 3].any()
    renders.samples = 1
    renders.choose(rng)
    assert not np.array_equal(renders.images[:3], before[:3])


def test_a_recipe_takes_people_folders_or_both(tmp_path):
    def recipe(**data):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({"output": "run", "data": data}))
        return path

    assert load_train_config(recipe(people="people")).data.folders == []
    assert load_train_config(recipe(folders=["data"])).data.people is None
    with pytest.raises(ConfigError, match="give folders, people or both"):
        load_train_config(recipe(exclude=["person-01"]))
    with pytest.raises(ConfigError, match="no person to render"):
        open_data([], tmp_path / "nobody", 0.5)


def test_hands_are_taught_in_the_look_that_they_are_read_from():
    """Where an avatar has more pictures than its portrait, each true place lies in the picture that shows it."""
    renders = LiveRenders(
        shared("people"), tuple(f"person-{k:02d}" for k in range(2, 40)), frames=14, places=1
    )
    dataset = PairDataset([renders], targets=4, looks=8, looks_share=1.0)
    source, targets = dataset.sample(np.random.default_rng(2))
    assert 2 <= len(source.figures) <= 9
    apart, looks = [], set()
    for target in targets:
        drawn, look = target.views.windows, target.views.look_of_group
        hand = np.isin(drawn.owner, (geometry.LEFT_PALM, geometry.RIGHT_PALM)) & (look[drawn.owner] > 0)
        looks |= set(look[drawn.owner[hand]])
        error_px = np.linalg.norm(target.window_flow - drawn.flow, axis=-1)[hand]
        apart.append(error_px[np.isfinite(error_px)])
    apart = np.concatenate(apart)
    assert len(looks) >= 2 and len(apart) > 1000
    assert np.median(apart) < 8  # the portrait's hands hang 100 px and more away
