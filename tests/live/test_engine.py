"""Both back ends make the same pictures, start fast, and say what they cannot do."""

import copy
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.networks import as_pose, picture, save_small_model, standing_points
from support.places import SHARED

from avatar_stream.errors import ModelError
from avatar_stream.modeling import signer as signers
from avatar_stream.modeling.drawing import conditioning, finishing, pasting
from avatar_stream.modeling.openvino_backend import OpenVinoBackend
from avatar_stream.modeling.pipeline import SignerPipeline
from avatar_stream.modeling.signer import Signer
from avatar_stream.places import bundled
from avatar_stream.running.avatars import list_avatars, load_avatar
from avatar_stream.sources.pose_file import PoseFileSource

# Of 255, over a grey background, of bfloat16 against float32; see docs/engines.md.
MOST_STEPS, MEAN_STEPS = 16.0, 0.5  # a rim is made steep, and a difference in it with it
MEAN_EIGHT_BIT_STEPS = 1.5  # the look of single pixels at a finger's edge may change


def over_grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 straight -> (H, W, 3) float; colours where nothing is seen do not count."""
    alpha = image[..., 3:] / 255.0
    return image[..., :3] * alpha + 127.0 * (1.0 - alpha)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("graphs")


def openvino(folder: Path, cache: Path, **options: object) -> Signer:
    """OpenVINO in float32, without eight bits, where nothing else is said."""
    exact = {"eight_bits": False, "reduced": False}
    return Signer(OpenVinoBackend(folder, threads=1, cache=cache, **exact | options))


def eager(folder: Path) -> SignerPipeline:
    return SignerPipeline.from_pretrained(folder, torch_dtype=torch.float32)


def make(signer: Signer, **more: object) -> np.ndarray:
    source = signer.prepare(picture(), as_pose(standing_points()))
    return signer.picture(source, as_pose(standing_points(70.0)), **more)


@pytest.mark.parametrize("windows", [True, False])
def test_openvino_in_float32_makes_what_pytorch_makes(folder, cache, windows):
    """The graphs are the network, for views of any size, with windows and without."""
    signer = eager(folder).signer
    expected, made = (make(each, windows=windows) for each in (signer, openvino(folder, cache)))
    assert np.abs(over_grey(expected) - over_grey(made)).max() <= 1
    assert expected.std() > 10


def test_several_steps_and_paths_from_noise_are_pytorchs(folder, cache, tmp_path):
    """OpenVINO makes one step from the source: what is asked for beyond that is made by PyTorch, or said."""
    assert signers.choose("auto", folder, "cpu", steps=2)[0] == "eager"
    with pytest.raises(ModelError, match="'openvino' makes one step .*: use eager"):
        signers.open_signer(folder, "openvino", steps=2)
    with pytest.raises(ModelError, match="makes one step"):
        make(openvino(folder, cache), sigmas=signers.even_steps(2))
    noisy = tmp_path / "noisy"
    shutil.copytree(folder, noisy)
    index = (noisy / "model_index.json").read_text()
    assert '"source"' in index
    (noisy / "model_index.json").write_text(index.replace('"start": "source"', '"start": "noise"'))
    signer = signers.open_signer(noisy, device="cpu")
    assert signer.backend.name == "eager"
    assert np.array_equal(make(signer, seed=3), make(signer, seed=3))
    assert not np.array_equal(make(signer, seed=3), make(signer, seed=4))


@pytest.mark.parametrize("name", ["eager", "openvino"])
def test_several_avatars_in_one_batch(folder, cache, name):
    """Two people in two poses at once: to each what it gets alone."""
    signer = eager(folder).signer if name == "eager" else openvino(folder, cache)
    pictures = (picture(), np.ascontiguousarray(picture()[::-1]))
    sources = [signer.prepare(each, as_pose(standing_points())) for each in pictures]
    poses = [as_pose(standing_points(lift)) for lift in (20.0, 90.0)]
    together = signer.pictures(sources, poses)
    for source, pose, image in zip(sources, poses, together, strict=True):
        assert np.abs(signer.picture(source, pose).astype(int) - image).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).mean() > 5


def test_the_pipeline_is_the_same_maker(folder):
    """As diffusers' users call it: one or several, a picture alone, wrong numbers."""
    pipe, pose = eager(folder), as_pose(standing_points(70.0))
    source = pipe.prepare(picture(), as_pose(standing_points()))
    made = pipe(source=source, pose=pose).images[0]
    assert np.array_equal(made, make(pipe.signer)), "and the same the second time"
    alone = pipe(source=picture(), source_pose=as_pose(standing_points()), pose=pose).images[0]
    assert np.array_equal(made, alone)
    poses = [pose, as_pose(standing_points(20.0))]
    for windows in (True, False):
        together = pipe(source=source, pose=poses, windows=windows).images
        for each, image in zip(poses, together, strict=True):
            alone = pipe(source=source, pose=each, windows=windows).images[0]
            assert alone.shape == (512, 512, 4) and alone.dtype == np.uint8
            assert np.abs(alone.astype(int) - image).max() <= 1
        assert not np.array_equal(*together)
    with pytest.raises(ValueError, match="2 sources do not go with 1 poses"):
        pipe(source=[source, source], pose=[pose])
    with pytest.raises(ValueError, match="needs its source_pose"):
        pipe(source=picture(), pose=pose)


def test_second_start_compiles_nothing_and_a_damaged_file_does_no_harm(folder, tmp_path, monkeypatch):
    """What the first start compiled is read from disk; half a file is as good as none."""
    fit, fitted = OpenVinoBackend._fitted, []
    monkeypatch.setattr(
        OpenVinoBackend,
        "_fitted",
        lambda self, graph, *args: (fitted.append(graph), fit(self, graph, *args))[1],
    )
    first = make(openvino(folder, tmp_path))
    assert sorted(fitted) == ["frame", "frame", "source", "source"]  # the body's view and the windows
    assert np.array_equal(first, make(openvino(folder, tmp_path)))
    assert len(fitted) == 4
    for path in tmp_path.glob("*.graph"):
        path.write_bytes(path.read_bytes()[:1000])
    assert np.array_equal(first, make(openvino(folder, tmp_path)))
    assert fitted[4:] == ["frame", "frame"]  # what a source says is kept
    assert not list(tmp_path.glob("*.part"))


def test_other_weights_are_not_read_from_the_cache(folder, cache, tmp_path):
    """A newly trained model of the same shape must not show the old one's pictures."""
    before, pipe = make(openvino(folder, cache)), eager(folder)
    with torch.no_grad():
        pipe.target_net.detail.to_velocity.bias.add_(0.5)
    pipe.save_pretrained(tmp_path / "other")
    made = make(openvino(tmp_path / "other", cache))
    assert np.abs(made.astype(int) - make(pipe.signer)).max() <= 1
    assert not np.array_equal(made, before)


def real_poses() -> list:
    """Some moments of real signing, complete; the avatar's own pose where the files are missing."""
    from avatar_stream.retarget import Retargeter

    avatar = load_avatar(list_avatars()[0])
    retargeter = Retargeter(avatar.pose)
    paths = sorted((SHARED / "poses").glob("ase-*.pose"))[:2]
    if not paths:
        return [retargeter.retarget(None, 0.0)]
    poses = []
    for path in paths:
        source = PoseFileSource(PoseFileSource.Options(path=path))
        source.open()
        frames = [source.read() for _ in range(20)]
        source.close()
        poses.append([retargeter.retarget(frame.pose, frame.time_s) for frame in frames][-1])
    return poses


def test_reduced_precision_is_close_enough_to_float32_on_real_poses():
    """What a user gets by default (eight bits), and bfloat16, draw what the exact network draws."""
    model = bundled("models") / "signer-small"
    exact, half = eager(model).signer, signers.open_signer(model, "openvino", threads=1)
    default = signers.open_signer(model, device="cpu", threads=1)
    assert default.backend.name == "openvino-int8"
    for avatar, pose in zip(map(load_avatar, list_avatars()), real_poses(), strict=False):
        source = avatar.image, avatar.pose
        expected, *made = (each.picture(each.prepare(*source), pose) for each in (exact, half, default))
        halves, eights = (np.abs(over_grey(expected) - over_grey(each)) for each in made)
        assert halves.max() <= MOST_STEPS and halves.mean() <= MEAN_STEPS
        assert eights.mean() <= MEAN_EIGHT_BIT_STEPS
        assert over_grey(expected).std() > 10
    assert np.array_equal(made[1], default.picture(default.prepare(avatar.image, avatar.pose), pose))


def test_an_avatar_is_encoded_once_for_all_starts(folder, tmp_path, monkeypatch):
    """A second start asks no network about an avatar that it knows; for another picture or half a file it does."""

    def prepare(image: np.ndarray):
        return openvino(folder, tmp_path).prepare(image, as_pose(standing_points()))

    first = prepare(picture())
    for path in tmp_path.glob("*.graph"):
        path.unlink()
    fit, asked = OpenVinoBackend._fitted, []
    monkeypatch.setattr(
        OpenVinoBackend, "_fitted", lambda self, *args: (asked.append(args[0]), fit(self, *args))[1]
    )
    second = prepare(picture())
    assert not asked
    for entries, again in ((first.body, second.body), (first.windows, second.windows)):
        assert all(map(np.array_equal, entries, again))
    other = prepare(np.ascontiguousarray(picture()[::-1]))
    assert asked and not np.array_equal(other.body[0], first.body[0])
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    assert all(map(np.array_equal, prepare(picture()).windows, first.windows))


def test_not_even_the_first_start_loads_pytorch(tmp_path):
    """Its import, and that of diffusers, would take longer than all the rest until the first picture."""
    if signers.may_have_gpu():
        pytest.skip("where a GPU may be, PyTorch is asked for it")
    code = (
        "import sys; from avatar_stream.running.avatars import *; from avatar_stream.stages import Context;"
        "from avatar_stream.synthesizers.flow import STAGE;"
        "avatar = load_avatar(list_avatars()[0]); stage = STAGE(context=Context(avatar=avatar)); stage.open();"
        "assert stage.synthesize(avatar.pose)[..., 3].max() == 255;"
        "print([name for name in ('torch', 'diffusers') if name in sys.modules])"
    )
    fresh = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=fresh, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_without_graphs_is_run_by_pytorch(folder, tmp_path):
    """Weights of an earlier version have none; whoever wants OpenVINO is told how to get them."""
    shutil.copytree(folder, tmp_path / "old", ignore=shutil.ignore_patterns("openvino"))
    old = make(signers.open_signer(tmp_path / "old", device="cpu"))
    assert np.array_equal(old, make(signers.open_signer(folder, "eager", "cpu")))
    with pytest.raises(ModelError, match="no graphs beside .*save_pretrained.*: use eager"):
        signers.open_signer(tmp_path / "old", "openvino")


def test_wrong_choices_are_told(folder):
    """One clear message, before any network is loaded."""
    for message, choice in {
        "unknown engine 'tensorrt': choose one of auto, eager": {"engine": "tensorrt"},
        "runs on the processor, not on 'cuda': use eager": {"engine": "openvino", "device": "cuda"},
        "needs a model published with ranges: use engine openvino": {"engine": "openvino-int8"},
        "threads must be 1 or more, got 0": {"threads": 0},
        "device 'nowhere' cannot be used": {"device": "nowhere"},
    }.items():
        with pytest.raises(ModelError, match=message):
            signers.open_signer(folder, **choice)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_makes_what_the_processor_makes(folder):
    made = make(eager(folder).to("cuda").signer, sigmas=signers.even_steps(2))
    expected = make(eager(folder).signer, sigmas=signers.even_steps(2))
    assert np.abs(made.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("corner", [(40, 60), (-50, -70), (470, 480), (600, 10), (-200, 0)])
def test_windows_are_blended_where_they_belong_also_over_the_edge(corner):
    """Inside the window its picture, outside the body, and nothing beyond the canvas is touched."""
    rng = np.random.default_rng(0)
    body, windows = np.full((256, 256, 4), 0.25, np.float32), np.ones((3, 128, 128, 4), np.float32)
    body[..., 3] = 1.0
    windows[conditioning.LEFT_WINDOW, :, :64, :3] = 0.5
    corners = np.array([(1000, 1000), (1000, 1000), corner], np.int32)
    made = paste(body, windows, dataclasses.replace(empty_views(), corners=corners))
    x, y = corner
    for place in rng.integers(0, 512, (300, 2)):
        inner = place - (x, y)
        if (inner >= 16).all() and (inner < 112).all():  # beyond the feather
            expected = 128 if inner[0] >= 64 else 255  # mirrored: the left half stands right
            assert made[place[1], place[0], 0] == expected
            assert made[place[1], place[0], 3] == 255
        elif (inner < 0).any() or (inner >= 128).any():
            assert made[place[1], place[0]].tolist() == [64, 64, 64, 255]


def test_a_bodys_outline_is_a_smooth_line_in_the_persons_colour():
    """The network's patches, each a little wrong about the edge and its colour, do not show as scallops and specks."""
    rng = np.random.default_rng(0)
    body = np.zeros((256, 256, 4), np.float32)
    for top in range(0, 256, 8):  # a person on the left whose edge differs from patch to patch
        edge = 128 + rng.integers(-2, 3)
        body[top : top + 8, :edge] = (0.2, 0.3, 0.6, 1.0)
        body[top : top + 8, edge : edge + 2] = (*rng.uniform(0, 0.5, 3), 0.5)
    far = np.full((3, 2), 2000, np.int32)
    views, windows = dataclasses.replace(empty_views(), corners=far), np.zeros((3, 128, 128, 4), np.float32)
    made = paste(body.copy(), windows, views)[16:-16].astype(int)
    assert np.array_equal(made, paste(body.copy(), None, views)[16:-16])
    rough = np.empty((512, 512, 4), np.uint8)
    pasting.straighten(cv2.resize(body, (512, 512), interpolation=cv2.INTER_CUBIC), rough)
    rough = rough[16:-16].astype(int)
    (edges, gaudy), (rough_edges, rough_gaudy) = outline(made), outline(rough)
    assert np.abs(np.diff(edges)).max() <= 2 and np.abs(np.diff(rough_edges)).max() >= 4
    assert abs(edges.mean() - rough_edges.mean()) < 2
    assert gaudy < rough_gaudy / 2


@pytest.mark.parametrize("left", [86, -20])
def test_without_windows_fingers_are_left_as_they_are(left):
    """A finger is thinner than what smooths an arm: where a hand is, and only there, nothing is mended."""
    body = np.zeros((256, 256, 4), np.float32)
    body[:, left + 32 : left + 34] = 1.0
    corners = np.full((3, 2), 2000, np.int32)
    corners[conditioning.RIGHT_WINDOW] = 2 * left, 100
    views = dataclasses.replace(empty_views(), corners=corners)
    finger = paste(body, None, views)[..., 3].max(axis=1)
    assert finger[130:200].min() > 200 and finger[300:].max() < 60


def test_patches_do_not_show_on_cloth_and_edges_stay():
    """A faint step at a patch's edge is smoothed, the same step elsewhere and a strong one at the edge are not."""
    view = np.full((64, 64, 4), 0.5, np.float32)
    view[:, 8:, 0] += 0.03
    view[:, 20:, 1] += 0.03
    view[:, 32:, 2] += 0.3
    before = view.copy()
    pasting.smooth_patches(view, 8)
    steps = np.abs(np.diff(view, axis=1)).max(axis=(0, 1))
    assert steps[0] < 0.02
    assert np.array_equal(view[..., 1:], before[..., 1:])
    turned = np.ascontiguousarray(before.swapaxes(0, 1))
    pasting.smooth_patches(turned, 8)
    assert np.allclose(turned.swapaxes(0, 1), view)


def outline(made):
    """Where the person ends in each row, and how far its colours are from the person's, weighed by the matte."""
    apart = np.abs(made[..., :3] - np.array([51, 76, 153])).sum(axis=2)
    return (made[..., 3] > 127).sum(axis=1), (apart * made[..., 3]).sum()


def empty_views() -> conditioning.Views:
    return copy.copy(a_source().views)


def a_source() -> conditioning.SourceImages:
    return conditioning.prepare_source(picture(), standing_points())


def paste(body: np.ndarray, windows: np.ndarray | None, views: conditioning.Views) -> np.ndarray:
    """The picture of a body (S, S, 4) and windows without texture."""
    made = finishing.ViewImages(body[None])
    details = None if windows is None else finishing.ViewImages(windows)
    return finishing.paste_views(made, details, views, a_source())


def test_straight_alpha_is_clipped_and_rounded():
    """Values a little outside 0..1, as networks make them, neither wrap round nor divide by nothing."""
    image = np.array([[(0.2, 0.1, 0.0, 0.5), (1.3, -0.2, 0.5, 1.2), (0.4, 0.0, 0.0, 0.001)]], np.float32)
    straight = np.empty(image.shape, np.uint8)
    pasting.straighten(image, straight)
    assert straight.tolist() == [[[102, 51, 0, 128], [255, 0, 128, 255], [0, 0, 0, 0]]]


def test_a_networks_small_doubts_leave_no_veil_and_no_holes() -> None:
    body = np.zeros((256, 256, 4), np.float32)
    body[:128], body[128:] = 0.08, 0.93
    made = paste(body, None, empty_views())
    assert (made[:240, :, 3] == 0).all() and (made[272:, :, 3] == 255).all()
