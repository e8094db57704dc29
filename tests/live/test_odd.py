"""Every odd file: what can be read is read; what cannot gets one line, status 1, no traceback and no file."""

import pytest
from support.people import make_upright_pose
from support.places import shared
from support.stages import Idle

from avatar_stream import stages
from avatar_stream.cli import main
from avatar_stream.trackers import holistic_fast

# Name and a word that its one line must hold.
REFUSED = {
    "audio-only.mp4": "no picture",
    "empty.mp4": "cannot read",
    "empty.pose": "not a complete",
    "fps-zero.pose": "frame rate",
    "openpose-layout.pose": "layout",
    "text-file.mp4": "cannot read",
    "text-file.pose": "not a complete",
    "truncated-header.pose": "not a complete",
    "truncated-no-moov.mp4": "cannot read",
    "truncated.pose": "not a complete",
    "zero-frames.pose": "no frames",
}
# Name: (fewest, most) frames that come out, and the time of the last one in seconds.
READ = {
    "all-missing.pose": (26, 26, 1.667),
    "corrupt-bytes.mp4": (89, 117, None),
    "hevc-10bit.mp4": (58, 58, 1.9),
    "nan-values.pose": (26, 26, 1.667),
    "no-hands.pose": (26, 26, 1.667),
    "no-person.mp4": (60, 60, 1.967),
    "odd-size-444.mp4": (58, 58, 1.9),
    "one-by-one-pixel.mp4": (30, 30, 0.967),
    "one-frame.mp4": (1, 1, 0.0),
    "one-hand-normalized.pose": (170, 170, 7.042),
    "only-hands.pose": (26, 26, 1.667),
    "portrait-rotated.mp4": (77, 77, 2.533),
    "truncated-faststart.mp4": (24, 40, None),
    "two-people.pose": (26, 26, 1.667),
    "vfr.mp4": (36, 36, 1.667),
    "vp9.webm": (58, 58, 1.9),
    "with-audio.mp4": (51, 51, 1.667),
}
DAMAGED = ("corrupt-bytes.mp4", "truncated-faststart.mp4")
# What trackers make of frames is tested elsewhere; the real one looks at a clip that ends early and at a single pixel.
REALLY_TRACKED = ("truncated-faststart.mp4", "one-by-one-pixel.mp4")


class Upright(Idle, stages.Tracker):
    """In a tracker's place: always finds somebody, in no time."""

    def track(self, frame):
        return make_upright_pose(frame.image.shape[1::-1], frame.time_s)


def test_every_odd_file_is_expected():
    assert {path.name for path in shared("odd").iterdir()} == set(REFUSED) | set(READ)


def record(name, avatar, output):
    clip = shared(f"odd/{name}")
    return main(["record", "--input", str(clip), "--avatar", str(avatar), "--output", str(output)])


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, avatar_folder, drawing_synthesizer, tmp_path, capfd):
    before = set(tmp_path.iterdir())
    assert record(name, avatar_folder, tmp_path / "o.mp4") == 1
    lines = capfd.readouterr().err.strip().splitlines()
    told = [line for line in lines if line.startswith("avatar-stream: error: ")]
    assert len(told) == 1 and REFUSED[name] in told[0] and name in told[0]
    assert not [line for line in lines if line not in told and "recording" not in line], "one line, no more"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", READ)
def test_read(name, avatar_folder, drawing_synthesizer, tmp_path, watch, capfd, caplog, monkeypatch):
    if name not in REALLY_TRACKED:
        monkeypatch.setattr(holistic_fast, "STAGE", Upright)
    assert record(name, avatar_folder, tmp_path / "o.mp4") == 0
    times_s, images = watch(tmp_path / "o.mp4")
    fewest, most, last_s = READ[name]
    assert fewest <= len(images) <= most and images[0].shape == (512, 512, 3)
    assert last_s is None or times_s[-1] == pytest.approx(last_s, abs=2e-3)
    assert "Traceback" not in capfd.readouterr().err
    assert len([r for r in caplog.records if "damaged" in r.getMessage()]) == (name in DAMAGED)
