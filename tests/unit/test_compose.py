"""Composition: exact edges, the person's place, the label, backgrounds to change while it runs."""

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from avatar_stream.errors import ConfigError
from avatar_stream.images.compose import LABEL, Composer, side_by_side
from avatar_stream.running.config import check_pipeline
from avatar_stream.running.pipeline import build_pipeline
from avatar_stream.types import Frame


def composer(**options):
    return Composer(Composer.Options(**options))


def frame():
    return Frame(image=np.zeros((48, 64, 3), np.uint8), time_s=1.5, index=7)


def person(seed=0):
    """A red square in the middle of the lower half, with a soft edge; green lies under what is transparent."""
    picture = np.zeros((512, 512, 4), np.uint8)
    picture[..., 1] = 255
    picture[256:, 128:384] = (255, 0, 0, 255)
    picture[256:, 120:128] = (255, 0, 0, 100)
    return picture


def test_default_is_exact_rounding():
    picture = np.random.default_rng(3).integers(0, 256, (512, 512, 4), dtype=np.uint8)
    shown = composer(background="#204060").compose(frame(), picture)
    alpha = picture[..., 3:].astype(np.int64)
    total = picture[..., :3] * alpha + np.array([0x20, 0x40, 0x60]) * (255 - alpha)
    assert np.array_equal(shown.image, (2 * total + 255) // 510)
    assert np.array_equal(shown.alpha, picture[..., 3])
    assert (shown.time_s, shown.index) == (1.5, 7)


def test_each_frame_has_its_own_pixels():
    """Outputs on other threads still read the last frame while the next is made."""
    one = composer(label=LABEL)
    first = one.compose(frame(), person())
    before = first.image.copy(), first.alpha.copy()
    second = one.compose(frame(), 255 - person())
    assert not np.array_equal(second.image, before[0])
    assert np.array_equal(first.image, before[0]) and np.array_equal(first.alpha, before[1])


@pytest.mark.parametrize(
    "place, scale, corner",  # of the person's square: left, top
    [
        ((0.5, 1), 1.0, (280, 0)),
        ((0, 1), 0.5, (0, 360)),
        ((1, 0), 0.5, (920, 0)),
        ((0.5, 0.5), 0.5, (460, 180)),
    ],
)
def test_the_person_stands_where_asked(place, scale, corner):
    shown = composer(size=(1280, 720), place=place, scale=scale, background="blue").compose(frame(), person())
    assert shown.image.shape == (720, 1280, 3) and shown.alpha.shape == (720, 1280)
    side = round(720 * scale)
    red = np.argwhere((shown.image[..., 0] > 250) & (shown.alpha == 255))
    top_left, bottom_right = red.min(axis=0)[::-1], red.max(axis=0)[::-1] + 1
    assert np.allclose(top_left, np.array(corner) + (0.25 * side, 0.5 * side), atol=2)
    assert np.allclose(bottom_right, np.array(corner) + (0.75 * side, side), atol=2)
    assert tuple(shown.image[2, 640]) == (0, 0, 255)


def test_no_colour_from_under_transparent_pixels_at_a_resized_edge():
    shown = composer(size=(768, 768), background="black").compose(frame(), person())
    assert shown.image[..., 1].max() == 0, "green lies under alpha 0 only"
    assert (np.diff(shown.image[600, 150:230, 0].astype(int)) >= 0).all(), "a dark line at the edge"


def test_a_scale_above_one_cuts_what_is_outside():
    shown = composer(scale=2.0, place=(0.5, 1), background="black").compose(frame(), person())
    assert shown.image.shape == (512, 512, 3) and (shown.image[100:, 10:500, 0] == 255).all()


def test_label_is_legible_and_leaves_the_rest_alone():
    for size in ((512, 512), (1280, 720), (256, 256)):
        plain = composer(size=size).compose(frame(), person()).image
        labelled = composer(size=size, label=LABEL).compose(frame(), person()).image
        rows, columns = np.nonzero((plain != labelled).any(axis=2))
        assert rows.max() < max(56, 0.12 * size[1]), "above the head; on two lines in a small picture"
        assert columns.max() < size[0] and np.ptp(columns) > 0.2 * size[0]
        text = labelled[rows.min() : rows.max(), columns.min() : columns.max()].astype(int).sum(axis=2)
        assert text.max() > 700 and np.percentile(text, 30) < 420, "light letters on a dark panel"


def test_label_goes_where_asked():
    plain = composer().compose(frame(), person()).image
    for place, at in (("bottom", (0.9, 0.5)), ("bottom-right", (0.9, 0.7)), ("top-left", (0.06, 0.3))):
        labelled = composer(label=LABEL, label_place=place).compose(frame(), person()).image
        rows, columns = np.nonzero((plain != labelled).any(axis=2))
        assert rows.mean() / 512 == pytest.approx(at[0], abs=0.06)
        assert columns.mean() / 512 == pytest.approx(at[1], abs=0.06)


def test_no_label_on_transparent_unless_asked():
    bare = composer(background="transparent").compose(frame(), person())
    off = composer(background="transparent", label=LABEL).compose(frame(), person())
    on = composer(background="transparent", label=LABEL, label_on_transparent=True).compose(frame(), person())
    assert np.array_equal(bare.image, off.image) and np.array_equal(bare.alpha, off.alpha)
    assert np.array_equal(bare.image, person()[..., :3])
    assert on.alpha[:60].max() > 200 and bare.alpha[:60].max() == 0


def test_backgrounds_change_while_it_runs():
    one = composer(background="#102030")
    names = [one.next_background() for _ in range(5)]
    assert names[-1] == "#102030" and len(set(names)) == 5, "around once"
    assert tuple(one.compose(frame(), person()).image[0, 0]) == (0x10, 0x20, 0x30)
    one.next_background()
    assert tuple(one.compose(frame(), person()).image[0, 0]) != (0x10, 0x20, 0x30)
    one.set_background("transparent")
    assert one.transparent
    with pytest.raises(ConfigError):
        one.set_background("no colour")
    assert one.transparent, "the old one stays"


@pytest.mark.parametrize(
    "options", [{"size": (511, 512)}, {"size": 511}, {"size": (0, 512)}, {"place": (2, 0)}, {"scale": 0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValidationError):
        Composer.Options(**options)


@pytest.mark.parametrize("size, side_px", [((1280, 720), 720), (768, 768), (256, 512), (2048, 1024)])
def test_side_by_side_is_as_large_as_the_picture(upright_pose, size, side_px):
    shown = composer(size=size).compose(frame(), person())
    beside = side_by_side(frame(), upright_pose(), shown).image
    assert beside.shape == (side_px, 3 * side_px, 3)
    pose = beside[:, side_px : 2 * side_px]
    rows, columns = np.nonzero(pose.any(axis=2))
    shoulders = (columns.min() + columns.max()) / 2
    assert shoulders == pytest.approx(side_px / 2, abs=0.02 * side_px), "the pose is scaled with it"
    assert rows.min() > 0.1 * side_px


@pytest.mark.parametrize("side_px", [768, 1024])
def test_a_picture_of_the_right_size_is_not_touched(side_px):
    picture = np.random.default_rng(3).integers(0, 256, (side_px, side_px, 4), dtype=np.uint8)
    picture[..., 3] = 255
    shown = composer(size=side_px).compose(frame(), picture)
    assert np.array_equal(shown.image, picture[..., :3])


def test_persons_of_all_sizes_stand_in_the_same_place():
    """Also one after the other in one composer."""
    one = composer(size=(1280, 720), scale=0.8, background="blue")
    persons = [cv2.resize(person(), (s, s), interpolation=cv2.INTER_NEAREST) for s in (512, 768, 1024)]
    images = [one.compose(frame(), each).image for each in persons]
    for image in images[1:]:
        assert (np.abs(image.astype(int) - images[0]).max(axis=2) > 60).mean() < 0.005, "at the edge alone"


@pytest.mark.parametrize(
    "more, side_px",
    [
        ({}, 512),
        ({"compose": {"size": 768}}, 768),
        ({"compose": {"size": [1280, 720]}}, 768),
        ({"compose": {"size": [1280, 720], "scale": 0.5}}, 512),
        ({"compose": {"size": 512, "scale": 1.5}}, 768),
        ({"compose": {"size": [1920, 1080]}}, 1024),
        ({"compose": {"size": 1024}, "synthesizer": {"type": "flow", "size_px": 512}}, 512),
        ({"synthesizer": {"type": "rig", "size_px": 1024}}, 1024),
        ({"synthesizer": {"type": "rig"}, "compose": {"size": 768}}, 768),
        ({"show": {"source": 1}}, 512),
        ({"show": {"source": 1, "size": 1.0}}, 768),
        ({"show": {"source": 1, "width": 1920, "height": 1080}}, 768),
    ],
)
def test_the_avatars_picture_is_as_large_as_what_is_shown_needs(more, side_px):
    given = {"avatar": "mei", "source": {"type": "synthetic", "live": True}, **more}
    pipeline = build_pipeline(check_pipeline(given, "here", outputs_needed=False))
    assert pipeline.cast.synthesizer.size_px == side_px


def test_live_pictures_are_labelled_unless_the_file_says_otherwise():
    def label(live, **compose):
        given = {"avatar": "mei", "source": {"type": "synthetic", "live": live}, "compose": compose}
        return build_pipeline(check_pipeline(given, "here", outputs_needed=False)).composer.options.label

    assert label(True) == label(True, background="white") == LABEL
    assert label(True, label=None) is None and label(True, label="Not me") == "Not me"
    assert label(False) is None, "nobody drives a recording live"
