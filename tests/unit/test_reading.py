"""The reader of fingerspelled letters, and sharpness beside a portrait."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from avatar_stream.lab.evaluation import pictures, reading
from avatar_stream.lab.evaluation.clips import TrackedFrame
from avatar_stream.lab.evaluation.detector import PartDetector
from avatar_stream.lab.evaluation.judging import Judge
from avatar_stream.lab.evaluation.reading import SHAPES, Reader, features, fit
from avatar_stream.lab.evaluation.truth import RenderedSubject, find_people
from avatar_stream.lab.judge.portrait import portrait_sharpness
from avatar_stream.people.renderer import Renderer
from avatar_stream.running.avatars import load_avatar
from avatar_stream.types import LEFT_HAND


def turned(hand: np.ndarray, angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return hand @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])


def test_place_size_turn_and_side_of_a_hand_do_not_matter():
    hand = load_avatar("mei").pose.points[LEFT_HAND].astype(np.float64)
    seen = features(hand, 0)
    assert features(turned(2.5 * hand, 0.8) + (40, -9, 3), 0) == pytest.approx(seen, abs=1e-4)
    assert features(hand * (-1, 1, 1), 1) == pytest.approx(seen, abs=1e-4)
    bent = hand.copy()
    bent[8] = bent[5]
    assert np.abs(features(bent, 0) - seen).max() > 0.2


def test_what_can_be_told_apart_is_learned():
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    rows = random.normal(0, 0.3, (90, 5))
    rows[np.arange(90), labels] += 2
    reader = fit(rows[:60], labels[:60], ("a", "b", "c"))
    found = reader.probabilities(rows[60:])
    assert (found.argmax(axis=1) == labels[60:]).mean() > 0.95
    assert found.sum(axis=1) == pytest.approx(1)


def test_letters_are_read_in_pictures_and_not_through_a_blur():
    with Renderer() as renderer, PartDetector() as detector:
        person = find_people(None, ["mei"], avatars=True)[0]
        stage, judge = RenderedSubject(person, renderer, np.random.default_rng(99), noise=False), None
        judge = Judge(detector, pictures.Lpips())
        clear, blurred = [], []
        for name, side, shot in stage.letters(SHAPES[::2]):
            clear.append(judge.read_letter(name, side, shot, shot.image))
            blurred.append(judge.read_letter(name, side, shot, cv2.GaussianBlur(shot.image, (0, 0), 8)))

    def share(rows: list[dict], key: str) -> float:
        return float(np.mean([value for row in rows for value in row[key]]))

    assert share(clear, "letters_read") == share(clear, "letters_read_truth") > 0.5
    assert share(clear, "letters_read_of_truth") == 1
    assert share(blurred, "letters_read_of_truth") < 0.7


def test_the_reader_that_ships_knows_all_shapes():
    reader = Reader.load()
    assert reader.names == SHAPES and reading.WEIGHTS.stat().st_size < 50_000
    assert reader.read(None, 0) == (None, 0.0)


def write_clip(path, image: np.ndarray, count: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for _ in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def test_a_clip_of_the_portrait_is_as_sharp_as_it_and_a_blurred_one_is_not(tmp_path):
    avatar = load_avatar("mei")
    image = np.round(pictures.on_grey(pictures.at_canvas(avatar.image))).astype(np.uint8)
    frames = [TrackedFrame(k / 25, avatar.pose, None) for k in range(3)]
    found = []
    for name, picture in (("sharp.mp4", image), ("soft.mp4", cv2.GaussianBlur(image, (0, 0), 2))):
        write_clip(tmp_path / name, picture, 3)
        found.append(portrait_sharpness(tmp_path / name, frames, avatar))
    assert found[0] == pytest.approx(1, abs=0.15) and found[1] < 0.6 * found[0]
    nobody = [TrackedFrame(0.0, None, None)] * 3
    assert portrait_sharpness(tmp_path / "sharp.mp4", nobody, avatar) is None
