"""The picture's size: what is asked for once reaches recordings, pages, overlays, shows and cards, all of it sharp."""

import dataclasses
import io
import threading

import cv2
import numpy as np
import pytest
from PIL import Image
from support.pages import on_air, visiting, wait_for
from support.programmes import read_back, write_programme
from support.stages import opened
from support.waiting import until

from avatar_stream.broadcast.outgoing.overlay import OverlayPacker
from avatar_stream.controls import Controls, Wish
from avatar_stream.images.compose import LABEL, draw_pose
from avatar_stream.running import runner
from avatar_stream.running.avatars import load_avatar
from avatar_stream.running.config import check_pipeline
from avatar_stream.running.pipeline import RenderedFrame, build_pipeline
from avatar_stream.running.stand_in import StandIn
from avatar_stream.stages import Context
from avatar_stream.synthesizers.rig import RigSynthesizer
from avatar_stream.types import Frame

LARGE_PX = (768, 1024)
GROUND = 60  # of what `drawing_synthesizer` draws on


def checked(side_px, cell_px=8):
    """(S, S, 4) uint8 RGBA: an opaque square of checks, as fine at every size, in the middle of clear pixels."""
    rows, columns = np.mgrid[:side_px, :side_px] // cell_px
    person = np.zeros((side_px, side_px, 4), np.uint8)
    person[..., :3] = np.where((rows + columns) % 2, 230, 30)[..., None]
    inside = slice(side_px // 4, side_px - side_px // 4)
    person[inside, inside, 3] = 255
    return person


def middle(image):
    height, width = image.shape[:2]
    return image[3 * height // 8 : 5 * height // 8, 3 * width // 8 : 5 * width // 8].astype(float)


def enlarged(image, side_px):
    """What it would be had only a 512 px picture been made."""
    small = cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (side_px, side_px), interpolation=cv2.INTER_LINEAR)


def large(browser, address, side_px):
    return visiting(browser, address, (side_px, side_px))


@pytest.mark.parametrize("side_px, codec", [(768, "h264"), (768, "vp8"), (1024, "h264")])
def test_the_overlay_is_as_large_as_the_avatars_picture(browser, codec, side_px):
    person = checked(side_px)
    with (
        on_air(person, codec=codec, label=LABEL) as sink,
        large(browser, sink.address + "overlay", side_px) as page,
    ):
        wait_for(page, "avatarStream.frameTimesMs.length > 5 && painter.shown")
        wait_for(page, "painter.label !== null")
        page.wait_for_timeout(1000)
        assert page.evaluate("[painter.canvas.width, painter.canvas.height]") == [side_px, side_px]
        told = page.evaluate("painter.label")
        picture = np.array(Image.open(io.BytesIO(page.screenshot(omit_background=True))).convert("RGBA"))
    assert picture.shape == (side_px, side_px, 4)
    assert np.abs(middle(picture) - middle(person)).mean() < 8
    assert (picture[-side_px // 8 :, ..., 3] == 0).all(), "exactly clear"
    packer = OverlayPacker(LABEL, side_px)
    assert told == pytest.approx(packer.label_box), "the page is told where the label is at that size"
    left, top, right, bottom = (round(end * side_px) for end in packer.label_box)
    drawn = packer.pack(np.zeros_like(person))[top:bottom, left:right].astype(float)
    shown = picture[top:bottom, left:right]
    assert np.abs(shown[..., :3] * (shown[..., 3:] / 255) - drawn).mean() < 8


@pytest.mark.parametrize("side_px", LARGE_PX)
def test_the_page_shows_the_picture_at_its_size(browser, side_px):
    person = checked(side_px)
    with on_air(person) as sink, large(browser, sink.address, 1600) as page:
        wait_for(page, "avatarStream.frameTimesMs.length > 5")
        size = page.evaluate("avatarStream.videos.slice(0, 1).map(v => [v.videoWidth, v.videoHeight])[0]")
        assert size == [side_px, side_px]


def test_a_live_pipeline_follows_one_number(browser, avatar_folder, drawing_synthesizer, tmp_path, watch):
    """Page, overlay, recording and pictures of one run; `drawing_synthesizer` draws at the size it is asked for."""
    given = {
        "avatar": str(avatar_folder),
        "source": {"type": "synthetic", "live": True, "fps": 15},
        "tracker": "none",
        "compose": {"size": 768},
        "server": {"port": 0},
        "outputs": [
            {"type": "web"},
            {"type": "video_file", "path": str(tmp_path / "o.mp4")},
            {"type": "picture_folder", "path": str(tmp_path / "pictures")},
        ],
    }
    pipeline, controls = build_pipeline(check_pipeline(given, "here")), Controls()
    run = threading.Thread(target=runner.run, args=(pipeline, controls), name="run")
    run.start()
    try:
        sink = pipeline.outputs[0].sink
        until(lambda: sink.address)
        with (
            large(browser, sink.address, 1200) as page,
            large(browser, sink.address + "overlay", 768) as overlay,
        ):
            wait_for(page, "avatarStream.frameTimesMs.length > 5")
            wait_for(overlay, "avatarStream.frameTimesMs.length > 5 && painter.shown")
            assert page.evaluate("avatarStream.videos[0].videoWidth") == 768
            assert overlay.evaluate("painter.canvas.width") == 768
    finally:
        controls.ask(Wish.QUIT)
        run.join(30)
    drawn = draw_pose(np.full((768, 768, 3), GROUND, np.uint8), drawing_synthesizer.poses[0])
    lines = drawn.max(axis=2) > GROUND
    lines[:80] = False  # the label's
    kept = np.array(Image.open(tmp_path / "pictures" / "frame_000000.png"))
    recorded = watch(tmp_path / "o.mp4")[1][0]
    assert kept.shape == recorded.shape == (768, 768, 3)
    assert np.array_equal(kept[lines], drawn[lines]), "made at that size"
    assert np.abs(recorded[lines].astype(int) - drawn[lines]).mean() < 20


def test_beside_a_show_the_signer_is_as_large_as_shown(
    avatar_folder, drawing_synthesizer, make_pose_clip, tmp_path
):
    programme = write_programme(tmp_path / "programme.mp4", seconds=0.2, size=(1280, 720), sound=False)
    given = {
        "avatar": str(avatar_folder),
        "source": {"type": "pose_file", "path": str(make_pose_clip(frames=6))},
        "show": {"source": str(programme), "size": 1.0, "plate": "#3c3c3c"},
        "outputs": [{"type": "video_file", "path": str(tmp_path / "o.mp4")}],
    }
    runner.run(build_pipeline(check_pipeline(given, "here")))
    assert drawing_synthesizer.size_px == 768
    image = read_back(tmp_path / "o.mp4")[0][0][1]
    assert image.shape == (720, 1280, 3)
    whole = draw_pose(np.full((768, 768, 3), GROUND, np.uint8), drawing_synthesizer.poses[0])
    wanted = cv2.resize(whole, (720, 720), interpolation=cv2.INTER_AREA)
    lines = wanted.max(axis=2) > GROUND + 20
    shown, soft = image[:, 560:].astype(float), enlarged(whole, 720)
    error, soft = (np.abs(shown - each)[lines].mean() for each in (wanted, soft))
    assert error < 0.8 * soft


@pytest.mark.parametrize("side_px", LARGE_PX)
def test_card_and_human_signer_have_the_persons_size(upright_pose, side_px):
    image = np.zeros((side_px, side_px, 3), np.uint8)
    frame = Frame(np.full((48, 64, 3), 200, np.uint8), 1.0, 0)
    shown = dataclasses.replace(frame, image=image, person=checked(side_px))
    rendered = RenderedFrame(frame, upright_pose(), shown)
    for stand_in in (StandIn().card(rendered), StandIn().signer(rendered)):
        assert stand_in.shown.person.shape == (side_px, side_px, 4)
        assert np.array_equal(stand_in.shown.person[..., :3], stand_in.shown.image)
    rows, _ = np.nonzero(StandIn().card(rendered).shown.image[..., 0] > 200)
    assert np.ptp(rows) > 0.02 * side_px, "letters grow with it"


def test_the_rigged_person_is_drawn_at_that_size():
    avatar = load_avatar("mei")
    pictures = []
    for side_px in (512, 768):
        options = RigSynthesizer.Options(size_px=side_px)
        with opened(RigSynthesizer(options, Context(avatar=avatar))) as synthesizer:
            pictures.append(synthesizer.synthesize(avatar.pose))
    usual, fine = pictures
    assert fine.shape == (768, 768, 4)
    small = cv2.resize(fine, (512, 512), interpolation=cv2.INTER_AREA)
    solid = (small[..., 3] == 255) & (usual[..., 3] == 255)
    assert solid.sum() > 30_000
    assert np.abs(small.astype(int) - usual)[solid].mean() < 4, "the same person in the same place"
    coarse, solid = cv2.resize(usual, (768, 768), interpolation=cv2.INTER_CUBIC), fine[..., 3] == 255
    edges = [
        cv2.Laplacian(each[..., 1].astype(np.float32), cv2.CV_32F)[solid].std() for each in (fine, coarse)
    ]
    assert edges[0] > 1.2 * edges[1], "sharper than an enlarged one"
