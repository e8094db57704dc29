"""`evaluate --clips`: what becomes source and truth, what is refused, and the way of hands over time."""

import argparse
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from support.people import cut_clip
from support.places import shared

from avatar_stream.errors import ConfigError, SourceError
from avatar_stream.lab.evaluation import cross, evaluate, warping
from avatar_stream.lab.evaluation.real_clips import FilmedSubject, Footage, counts_of, find_filmed, make_ready
from avatar_stream.lab.evaluation.truth import RenderedSubject, find_people
from avatar_stream.people.renderer import Renderer


@pytest.fixture(scope="module")
def rendered_rows():
    """Rows of a data set: six of mei, the first neutral, then six of ben."""
    rows = []
    with Renderer() as renderer:
        for seed, name in enumerate(("mei", "ben")):
            person = find_people(None, [name], avatars=True)[0]
            stage = RenderedSubject(person, renderer, np.random.default_rng(seed), noise=False)
            portrait = stage.shoot(stage._sampler.portrait())
            shots = [portrait, *(case.shot for case in stage.cases(5, 0, []))]
            exact = [(shot.image, shot.parts, shot.exact.points, shot.exact.confidence) for shot in shots]
            rows.append(exact)
    return rows


@pytest.fixture
def footage(tmp_path, rendered_rows):
    """A function that writes a data set whose clips are rows of shots, and opens it."""

    def write(clips: dict[str, list[list]]) -> Footage:
        rows, people, variants = [], [], []
        for clip, shots in clips.items():
            for shot in shots:
                variants.append({"person": clip, "first": len(rows), "count": len(shot)})
                people += [len(variants) - 1] * len(shot)
                rows += shot
        names, columns = ("images", "parts", "points", "confidence"), zip(*rows, strict=True)
        arrays = dict(zip(names, map(np.stack, columns), strict=True))
        arrays["person"] = np.array(people, np.int16)
        arrays["time_s"] = np.arange(len(rows), dtype=np.float32) / 15
        arrays["inside"] = np.tile(np.int16([0, 0, 512, 500]), (len(rows), 1))
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        meta = {"people": sorted(clips), "variants": variants, "clips": []}
        (tmp_path / "meta.json").write_text(json.dumps(meta))
        return Footage(tmp_path)

    return write


def test_source_and_truth_are_other_shots_of_the_same_person(footage, rendered_rows, caplog):
    mei, ben = rendered_rows
    found = footage({"talk": [mei[3:], mei[:3], ben[:3]], "other": [ben]})
    with caplog.at_level(logging.WARNING):
        other, talk = find_filmed(found, None)
    assert talk.source == 3, "the portrait"
    assert {name: rows.tolist() for name, rows in talk.sequences.items()} == {"talk shot 1": [0, 1, 2]}
    assert "talk shot 3 shows somebody else than the rest" in caplog.text
    # One shot: the source from its first third, truth from the rest.
    assert other.source in (9, 10) and other.rows.tolist() == [11, 12, 13, 14]
    assert counts_of([other, talk], 40) == [4, 3]
    pairs = [(a.name, b.name) for a, b in cross.cross_pairs(found, [other, talk])]
    assert pairs == [("other", "talk"), ("talk", "other")]


def test_truth_keeps_order_pose_and_the_pictures_edge(footage, rendered_rows):
    found = footage({"talk": [rendered_rows[0][:2], rendered_rows[0][2:]]})
    (talk,) = find_filmed(found, ["ta"])
    cases = list(FilmedSubject(found, talk, np.random.default_rng(0)).cases(3, 5))
    assert [case.number for case in cases] == [5, 6, 7] and cases[0].sequence == "talk shot 2"
    assert cases[0].shot.exact.time_s < cases[1].shot.exact.time_s < cases[2].shot.exact.time_s
    assert cases[0].shot.inside == (0, 0, 512, 500)
    assert np.array_equal(cases[0].shot.exact.points, rendered_rows[0][2][2])


def test_clips_that_cannot_be_used_are_told(footage, rendered_rows, tmp_path, make_clip):
    found = footage({"short": [rendered_rows[0][:2]]})
    with pytest.raises(SourceError, match="no clip is long enough"):
        find_filmed(found, None)
    with pytest.raises(ConfigError, match=r"called nobody: there are short"):
        find_filmed(found, ["nobody"])
    with pytest.raises(ConfigError, match="no folder"):
        make_ready(tmp_path / "nowhere", tmp_path / "work")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no video"):
        make_ready(tmp_path / "empty", tmp_path / "work")


def test_options_that_do_not_fit_are_refused(tmp_path):
    def run(*words: str):
        parser = argparse.ArgumentParser()
        evaluate.add_arguments(parser)
        evaluate.run(parser.parse_args([*words, "--json", str(tmp_path / "figures.json")]))

    with pytest.raises(ConfigError, match=r"leave --avatars, --tracker-noise out"):
        run("--clips", str(tmp_path), "--avatars", "--tracker-noise")
    with pytest.raises(ConfigError, match="--work keeps clips"):
        run("--avatars", "--work", str(tmp_path))


def test_hands_over_time_forgive_a_delay_and_not_another_way():
    times = np.arange(30) / 15
    hands = np.zeros((30, 2, 21, 2))
    hands[:, 0, :, 0] = np.sin(3 * times)[:, None]
    assert warping.hands_distance(hands, hands, times) == [0.0, 0.0]
    late = np.roll(hands, 3, axis=0)
    other = hands * (-1, 1)
    delayed, apart = (warping.hands_distance(hands, each, times)[0] for each in (late, other))
    assert delayed < 0.25 * np.abs(late - hands)[:, 0].mean() * 2 and apart > 3 * delayed
    lost = hands.copy()
    lost[:15, 1] = np.nan
    assert warping.hands_distance(hands, lost, times)[1] == pytest.approx(0.5, abs=0.1)
    assert warping.hands_distance(lost, lost, times)[1] == 0
    both = np.full_like(hands, np.nan)
    assert warping.hands_distance(both, both, times) == []


def test_a_real_clip_is_evaluated(tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    cut_clip(shared("video/webcam-signer.mp4"), videos / "signer.mp4", 127, 32)  # a cut at 143
    words = ["--clips", str(videos), "--work", str(tmp_path / "work"), "--frames", "2"]
    words += ["--json", str(tmp_path / "figures.json"), "--report", str(tmp_path / "report")]
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    assert evaluate.run(parser.parse_args(words)) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    keys = (
        "psnr_db ssim tolerant_ssim sharpness hands_found_of_truth hand_error_of_truth face_error_of_truth "
        "identity flicker mouth_error gaze_error"
    )
    assert set(keys.split()) <= set(figures) and figures["frames"] == 2 and figures["cross"] is None
    assert 0.3 < figures["tolerant_ssim"] < 1 and 0.1 < figures["sharpness"] < 2
    assert set(figures["by_region"]) >= {"whole", "face", "left_hand", "right_hand"}
    (pair,) = figures["pairs"]
    assert pair["clip"] == "signer" and len(pair["truth"]) == 1
    page = (tmp_path / "report" / "index.html").read_text()
    assert all((tmp_path / "report" / name).is_file() for name in re.findall(r'src="([^"]+)"', page))
    assert "tolerant_ssim:" in capsys.readouterr().out
    # What was made ready stays for the next run, but for these clips only.
    make_ready(videos, tmp_path / "work")
    Path(videos / "signer.mp4").rename(videos / "renamed.mp4")
    with pytest.raises(ConfigError, match="other clips"):
        make_ready(videos, tmp_path / "work")
