"""A frame's whole way: what comes in drives what goes out, at its time; errors and Ctrl-C leave order."""

import configparser
import json
import re
import signal
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from support.outward import program
from support.people import cut_clip
from support.places import ROOT, shared

from avatar_stream.cli import main
from avatar_stream.errors import AvatarError, ConfigError
from avatar_stream.images.compose import LABEL, Composer, draw_pose, side_by_side
from avatar_stream.images.lettering import draw_label
from avatar_stream.running import runner
from avatar_stream.running.avatars import load_avatar
from avatar_stream.running.config import check_pipeline
from avatar_stream.running.pipeline import RecordOptions, build_pipeline, build_record
from avatar_stream.sources.pose_file import write_pose_file
from avatar_stream.types import CANVAS_PX, LEFT_WRIST, RIGHT_WRIST, Frame


def record(source, avatar, output, *more):
    return main(["record", "--input", str(source), "--avatar", str(avatar), "--output", str(output), *more])


def test_pose_file_to_video(make_pose_clip, avatar_folder, drawing_synthesizer, tmp_path, watch):
    assert record(make_pose_clip(frames=6, fps=12.5), avatar_folder, tmp_path / "o.mp4") == 0
    times_s, images = watch(tmp_path / "o.mp4")
    assert times_s == pytest.approx(np.arange(6) / 12.5, abs=1e-4)
    assert images[0].shape == (CANVAS_PX, CANVAS_PX, 3)
    assert np.abs(images[5].astype(int) - images[0]).mean() > 0.05, "the avatar moves"
    assert all(np.isfinite(pose.points).all() for pose in drawing_synthesizer.poses)


def test_a_larger_picture(make_pose_clip, avatar_folder, drawing_synthesizer, tmp_path, watch):
    source, beside = make_pose_clip(frames=3), tmp_path / "beside.mp4"
    words = ["--size", "768", "--side-by-side", str(beside)]
    assert record(source, avatar_folder, tmp_path / "o.mp4", *words) == 0
    assert drawing_synthesizer.size_px == 768
    images = watch(tmp_path / "o.mp4")[1]
    assert images[0].shape == (768, 768, 3)
    drawn = draw_pose(np.full((768, 768, 3), 60, np.uint8), drawing_synthesizer.poses[0])
    lines = drawn.max(axis=2) > 60
    assert np.abs(images[0][lines].astype(int) - drawn[lines]).mean() < 20, "drawn at that size, not enlarged"
    assert watch(beside)[1][0].shape == (768, 3 * 768, 3)
    assert record(source, avatar_folder, tmp_path / "pictures", "--size", "1024") == 0
    assert np.array(Image.open(tmp_path / "pictures" / "frame_000002.png")).shape == (1024, 1024, 3)


def test_a_label_is_drawn_at_the_pictures_own_size(
    make_pose_clip, avatar_folder, drawing_synthesizer, tmp_path, watch
):
    given = {
        "avatar": str(avatar_folder),
        "source": {"type": "pose_file", "path": str(make_pose_clip(frames=2))},
        "compose": {"size": 768, "label": LABEL, "background": "black"},
        "outputs": [{"type": "video_file", "path": str(tmp_path / "o.mp4")}],
    }
    runner.run(build_pipeline(check_pipeline(given, "here")))
    image = watch(tmp_path / "o.mp4")[1][0]
    gap_px = round(768 / 50)
    labels = [draw_label(LABEL, side_px - 2 * round(side_px / 50), side_px) for side_px in (768, 512)]
    high, wide = labels[0].shape[:2]
    labels[1] = cv2.resize(labels[1], (wide, high), interpolation=cv2.INTER_CUBIC)
    sharp, soft = (label[..., :3] * (label[..., 3:] / 255.0) for label in labels)
    found = image[gap_px : gap_px + high, gap_px : gap_px + wide].astype(float)
    assert np.abs(found - sharp).mean() < 6 < np.abs(found - soft).mean()


def test_two_runs_give_the_same_bytes(make_pose_clip, avatar_folder, drawing_synthesizer, tmp_path):
    source, outputs = make_pose_clip(), [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for output in outputs:
        assert record(source, avatar_folder, output, "--side-by-side") == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    beside = [path.with_name(f"{path.stem}-side-by-side.mp4") for path in outputs]
    assert beside[0].read_bytes() == beside[1].read_bytes()


def test_side_by_side_has_the_same_times(make_pose_clip, avatar_folder, drawing_synthesizer, tmp_path, watch):
    beside = tmp_path / "beside.mp4"
    assert record(make_pose_clip(), avatar_folder, tmp_path / "o.mp4", "--side-by-side", str(beside)) == 0
    (times_s, _), (beside_times_s, images) = watch(tmp_path / "o.mp4"), watch(beside)
    assert times_s == beside_times_s and images[0].shape == (CANVAS_PX, 3 * CANVAS_PX, 3)
    assert all(images[0][:, left : left + CANVAS_PX].max() > 150 for left in (0, CANVAS_PX, 2 * CANVAS_PX))


def test_a_clip_with_nobody_rests_and_keeps_its_times(
    make_clip, avatar_folder, drawing_synthesizer, tmp_path, watch, capfd
):
    times_s = [0, 0.04, 0.12, 0.2]
    assert record(make_clip(times_s=times_s), avatar_folder, tmp_path / "o.mp4") == 0
    assert watch(tmp_path / "o.mp4")[0] == pytest.approx(times_s, abs=1e-4)
    assert "nobody was found" in capfd.readouterr().err
    assert all(np.isfinite(pose.points).all() for pose in drawing_synthesizer.poses)


def test_a_signer_is_tracked(avatar_folder, drawing_synthesizer, tmp_path, capfd):
    assert record(shared("odd/vfr.mp4"), avatar_folder, tmp_path / "o.mp4") == 0
    spoken = capfd.readouterr()
    assert spoken.out.strip() == str(tmp_path / "o.mp4")
    assert not [line for line in spoken.err.splitlines() if "recording" not in line and line.strip()], (
        "chatter"
    )
    hands = np.stack([pose.points[[LEFT_WRIST, RIGHT_WRIST], :2] for pose in drawing_synthesizer.poses])
    assert np.ptp(hands, axis=0).max() > 20, "a hand moves"


def test_a_picture_is_a_background(tmp_path):
    Image.new("RGB", (300, 200), (10, 200, 30)).save(tmp_path / "room.png")
    composer = Composer(Composer.Options(background=str(tmp_path / "room.png")))
    frame = Frame(image=np.zeros((4, 4, 3), np.uint8), time_s=0, index=0)
    assert tuple(composer.compose(frame, np.zeros((512, 512, 4), np.uint8)).image[9, 9]) == (10, 200, 30)
    for wrong in ("no-such-colour", str(tmp_path / "none.png")):
        with pytest.raises(ConfigError, match="background"):
            Composer(Composer.Options(background=wrong))


def test_drawing_survives_what_trackers_give(upright_pose):
    pose = upright_pose((100, 100))
    pose.points[:40] = np.nan
    pose.points[15] = 1e9
    image = draw_pose(np.zeros((50, 30, 3), np.uint8), pose)
    assert image.max() > 100
    frame = Frame(image=np.zeros((1, 1, 3), np.uint8), time_s=0, index=0)
    shown = Frame(image=np.zeros((512, 512, 3), np.uint8), time_s=0, index=0)
    assert side_by_side(frame, pose, shown).image.shape == (512, 1536, 3)


def test_an_error_on_the_way_leaves_no_file(
    make_pose_clip, avatar_folder, drawing_synthesizer, tmp_path, monkeypatch
):
    def fail(pose, _count=[0]):  # noqa: B006
        _count[0] += 1
        if _count[0] > 3:
            raise ConfigError("it broke")
        return np.zeros((512, 512, 4), np.uint8)

    monkeypatch.setattr(drawing_synthesizer, "synthesize", fail, raising=False)
    before = set(tmp_path.iterdir())
    source = make_pose_clip()
    assert record(source, avatar_folder, tmp_path / "o.mp4", "--side-by-side") == 1
    assert set(tmp_path.iterdir()) == before | {source}


def test_transparent_outputs(make_pose_clip, avatar_folder, drawing_synthesizer, tmp_path, capfd):
    source = make_pose_clip(frames=3)
    assert record(source, avatar_folder, tmp_path / "o.webm", "--background", "transparent") == 0
    assert record(source, avatar_folder, tmp_path / "pictures", "--background", "transparent") == 0
    assert np.array(Image.open(tmp_path / "pictures" / "frame_000001.png")).shape == (512, 512, 4)
    assert record(source, avatar_folder, tmp_path / "o.mp4", "--background", "transparent") == 1
    assert "transparen" in capfd.readouterr().err and not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"avatar": "nobody-of-that-name"}, "unknown avatar"),
        ({"output": "sign.pose"}, "sign.pose'; expected files other than the source"),
        ({"side_by_side": "o.mp4"}, "o.mp4'; expected files other than the source"),
        (
            {"output": "sign.pose", "side_by_side": "b.mp4"},
            "sign.pose'; expected files other than the source",
        ),
        ({"synthesizer": "other"}, "known: flow, rig"),
        ({"synthesizer": "rig", "steps": 2}, "no --steps"),
        ({"output": "o.mp4", "background": "transparent"}, "no transparency"),
    ],
)
def test_wrong_names_are_told_before_anything_runs(make_pose_clip, avatar_folder, tmp_path, change, words):
    source = make_pose_clip()
    fields = {"input": source, "avatar": str(avatar_folder), "output": tmp_path / "o.mp4"}
    paths = ("output", "side_by_side")
    fields |= {key: tmp_path / value if key in paths else value for key, value in change.items()}
    with pytest.raises((AvatarError, ConfigError), match=words):
        build_record(RecordOptions(**fields))
    assert source.stat().st_size > 1000


def test_avatars_need_a_credit_and_a_portrait(avatar_folder):
    assert load_avatar(avatar_folder).credit.license == "MIT"
    card = avatar_folder / "avatar.yaml"
    for text, words in (
        ("license: MIT\nsource_url: x\n", "consent"),
        ("license: [", "cannot read"),
        ("x: 1", "x"),
    ):
        card.write_text(text)
        with pytest.raises(AvatarError, match=words) as caught:
            load_avatar(avatar_folder)
        assert "\n" not in str(caught.value)
    card.write_text("license: MIT\nsource_url: x\nconsent: yes they did\n")
    Image.new("RGBA", (100, 512)).save(avatar_folder / "portrait.png")
    with pytest.raises(AvatarError, match="100x512 pixels: a square is needed, 512x512 to 2048x2048"):
        load_avatar(avatar_folder)


@pytest.mark.parametrize("side_px", [768, 1000, 2048])
def test_a_portrait_may_be_larger_than_the_canvas(avatar_folder, upright_pose, side_px):
    Image.new("RGBA", (side_px, side_px), (9, 90, 190, 255)).save(avatar_folder / "portrait.png")
    wanted = load_avatar(avatar_folder).pose
    write_pose_file(avatar_folder / "portrait.pose", [upright_pose((side_px, side_px))], 25)
    avatar = load_avatar(avatar_folder)
    assert avatar.image.shape == (side_px, side_px, 4) and avatar.pose.size == (512, 512)
    np.testing.assert_allclose(avatar.pose.points, wanted.points, atol=0.1)
    write_pose_file(avatar_folder / "portrait.pose", [upright_pose((640, 480))], 25)
    with pytest.raises(AvatarError, match="640x480"):
        load_avatar(avatar_folder)


SLOW_RECORD = """
    import resource, time
    import numpy as np
    from avatar_stream import stages
    from avatar_stream.cli import main
    from avatar_stream.synthesizers import flow
    from support.stages import Idle

    class Slow(Idle, stages.Synthesizer):
        Options = flow.STAGE.Options
        random = np.random.default_rng(0)
        def __init__(self, *_): pass
        def open(self): print("open", flush=True)
        def synthesize(self, pose):
            time.sleep(pause_s)
            return self.random.integers(0, 256, (512, 512, 4), dtype=np.uint8)

    flow.STAGE = Slow
    pause_s, limit = float(sys.argv[1]), int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(main(sys.argv[3:]))
"""


def start_slow_record(source, avatar, output, pause_s=0.05, limit=0):
    words = ["record", "--input", source, "--avatar", avatar, "--output", output]
    return program(SLOW_RECORD, pause_s, limit, *words)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_video_that_plays(make_pose_clip, avatar_folder, tmp_path, watch, number):
    with start_slow_record(make_pose_clip(frames=400), avatar_folder, tmp_path / "o.mp4") as process:
        begun = process.stdout.readline().strip()
        time.sleep(1.0)
        process.send_signal(number)
        _, spoken = process.communicate(timeout=60)
    assert begun == "open", spoken
    assert process.returncode == 130 and "Traceback" not in spoken
    times_s, images = watch(tmp_path / "o.mp4")
    assert 0 < len(images) < 400 and f"first {len(images)} frames" in spoken
    assert times_s == pytest.approx(np.arange(len(images)) / 25, abs=1e-4)


def test_a_full_disk_is_one_line_and_no_file(make_pose_clip, avatar_folder, tmp_path):
    source = make_pose_clip(frames=30)
    with start_slow_record(source, avatar_folder, tmp_path / "o.mp4", 0, 400_000) as process:
        _, spoken = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in spoken
    assert spoken.count("avatar-stream: error: cannot write") == 1
    assert not [path for path in tmp_path.iterdir() if "o.mp4" in path.name]


def test_avatars_json_is_a_list_of_names(capsys):
    assert main(["avatars", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list) and all({"name", "license", "consent"} <= set(avatar) for avatar in found)


WITHOUT_EXTRAS = """
    class Missing:
        def find_spec(self, name, *_):
            if name.partition(".")[0] in sys.argv[1].split():
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Missing())
    from avatar_stream.cli import main
    sys.exit(main(sys.argv[2:]))
"""


def test_what_is_asked_for_alone_makes_a_recording_and_the_rest_says_which_extra_it_wants(tmp_path):
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    lines = " ".join(extras[name] for name in ("torch", "rig", "lab")).split()
    missing = {re.split(r"[<>=]", line)[0] for line in lines}
    assert {"torch", "diffusers", "moderngl", "jinja2"} <= missing

    def ask(*words):
        with program(WITHOUT_EXTRAS, " ".join(missing), *words) as process:
            return process.communicate(timeout=300)[1], process.returncode

    clip = tmp_path / "clip.mp4"
    cut_clip(ROOT / "assets" / "clips" / "signer.mp4", clip, 0, 5)
    wanted = ["record", "--input", clip, "--avatar", "mei", "--output", tmp_path / "o.mp4"]
    assert ask(*wanted) == ("", 0)
    for words, extra in (
        ([*wanted, "--steps", 2], "torch"),
        ([*wanted, "--synthesizer", "rig"], "rig"),
        (["evaluate", "--avatars", "--json", tmp_path / "a.json"], "(lab|rig|torch)"),
    ):
        spoken, code = ask(*words)
        assert code == 1 and re.search(rf"is not installed: pip install 'avatar-stream\[{extra}\]'", spoken)
        assert "Traceback" not in spoken
