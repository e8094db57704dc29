"""The overlay: what is packed, and what headless Chromium shows of it over a pattern, in pixels."""

import contextlib
import io
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image
from support.outward import free_port, serving
from support.pages import Player, launched, on_air, visiting, wait_for
from support.places import ROOT
from support.stages import opened
from support.waiting import until
from support.web import status_of

from avatar_stream.broadcast.outgoing.overlay import MATTE_RANGE, OverlayPacker
from avatar_stream.stages import Context
from avatar_stream.types import CANVAS_PX

SKIN, HIDDEN = (205, 140, 105), (0, 255, 0)
# A disc left of the middle, so that a mirrored picture is another one; on the right, patches of the matte's levels.
DISC, RADIUS_PX, EDGE_PX = (180, 300), 120, 12
LEVELS = (0, 32, 64, 96, 128, 160, 192, 224, 255)
LEVEL_PX, LEVELS_LEFT, LEVELS_TOP = 48, 448, 64
LABEL = "AI-generated picture"


def drawn_person():
    """(512, 512, 4) uint8 RGBA: a disc with a soft edge, and patches of nine levels; bright green where it is clear."""
    rows, columns = np.mgrid[:CANVAS_PX, :CANVAS_PX]
    distance = np.hypot(columns - DISC[0], rows - DISC[1])
    alpha = np.clip((RADIUS_PX - distance) / EDGE_PX + 0.5, 0, 1) * 255
    for index, level in enumerate(LEVELS):
        top = LEVELS_TOP + index * LEVEL_PX
        alpha[top : top + LEVEL_PX, LEVELS_LEFT : LEVELS_LEFT + LEVEL_PX] = level
    person = np.empty((CANVAS_PX, CANVAS_PX, 4), np.uint8)
    person[..., 3] = np.rint(alpha)
    person[..., :3] = np.where(person[..., 3:] > 0, np.uint8(SKIN), np.uint8(HIDDEN))
    return person


def over(person, behind):
    """(H, W, 3) float of a person over a picture."""
    alpha = person[..., 3:] / 255
    return person[..., :3] * alpha + behind * (1 - alpha)


def test_packed_are_colour_and_matte():
    person = drawn_person()
    packed = OverlayPacker().pack(person)
    assert packed.shape == (2 * CANVAS_PX, CANVAS_PX, 3) and packed.dtype == np.uint8
    colour, matte = packed[:CANVAS_PX].astype(int), packed[CANVAS_PX:]
    assert np.abs(colour - over(person, np.zeros(3))).max() <= 1, "multiplied by alpha"
    assert (matte == matte[..., :1]).all(), "grey: its colour resolution is the codec's full one"
    alpha = person[..., 3].astype(float)
    assert (matte[..., 0][alpha == 0] == 0).all() and (matte[..., 0][alpha == 255] == 255).all()
    soft = (alpha > 0) & (alpha < 255)
    first, last = MATTE_RANGE
    undone = (matte[..., 0][soft] - first) / (last - first) * 255.0
    assert np.abs(undone - alpha[soft]).max() <= 1


def test_the_page_undoes_the_same_range():
    script = (ROOT / "avatar_stream/broadcast/pages/overlay.js").read_text(encoding="utf-8")
    assert f"MATTE_RANGE = {list(MATTE_RANGE)};" in script


def test_a_label_is_written_on_avatars_only():
    clear = np.zeros((CANVAS_PX, CANVAS_PX, 4), np.uint8)
    packer, plain = OverlayPacker(LABEL), OverlayPacker()
    assert plain.label_box is None
    left, top, right, bottom = (round(end * CANVAS_PX) for end in packer.label_box)
    matte = packer.pack(clear)[CANVAS_PX:, :, 0]
    assert matte[(top + bottom) // 2, left + 6] > 100, "its panel"
    outside = np.ones_like(matte, bool)
    outside[top:bottom, left:right] = False
    assert not matte[outside].any() and packer.pack(clear)[:CANVAS_PX].max() > 200, "letters are light"
    assert not packer.pack(clear, synthetic=False).any(), "a hold card is no generated person"
    solid = np.full((CANVAS_PX, CANVAS_PX, 4), 255, np.uint8)
    assert (packer.pack(solid)[CANVAS_PX:] == 255).all(), "no hole where the label is"
    assert (solid == 255).all(), "what is given is not changed"


def test_several_streams_pack_at_once():
    """H.264 and VP8 viewers, large and small: a thread for each."""
    packer = OverlayPacker(LABEL)
    random = np.random.default_rng(3)
    persons = [random.integers(0, 256, (CANVAS_PX, CANVAS_PX, 4), np.uint8) for _ in range(4)]
    wanted = [packer.pack(person) for person in persons]
    with ThreadPoolExecutor(4) as pool:
        packed = list(pool.map(packer.pack, persons * 30))
    assert all((found == wanted[index % 4]).all() for index, found in enumerate(packed))


def overlay(browser, sink, search="", size=(CANVAS_PX, CANVAS_PX), before=""):
    return visiting(browser, sink.address + "overlay" + search, size, before)


def wait_for_pictures(page):
    wait_for(page, "avatarStream.frameTimesMs.length > 5 && painter.shown")
    page.wait_for_timeout(600)  # a moment for the codec to reach its full sharpness


def seen(page):
    """(H, W, 4) int RGBA of the page, its own transparency kept."""
    taken = page.screenshot(omit_background=True)
    return np.array(Image.open(io.BytesIO(taken)).convert("RGBA")).astype(int)


def eroded(mask, margin_px):
    """What of a mask is at least so far from its edge."""
    return cv2.erode(mask.astype(np.uint8), np.ones((2 * margin_px + 1,) * 2, np.uint8)) > 0


def assert_shows(picture, person, margin_px=4):
    """RGBA of a page against the person: clear and solid exactly, colours and the matte's levels nearly."""
    alpha = person[..., 3]
    clear, solid = eroded(alpha == 0, margin_px), eroded(alpha == 255, margin_px)
    assert clear.sum() > 50_000 and solid.sum() > 5000
    assert (picture[..., 3][clear] == 0).all(), "exactly clear"
    assert (picture[..., 3][solid] == 255).all(), "exactly solid"
    wrong = np.abs(picture[..., :3][solid] - person[..., :3][solid].astype(int))
    assert wrong.mean() < 4 and np.percentile(wrong, 99) < 16


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_over_a_pattern(browser, codec):
    """What a mixer sees: outside the person its own picture untouched, inside the person, soft edges between."""
    person = drawn_person()
    pattern = "repeating-conic-gradient(#24c 0 25%, #fd3 0 50%) 0 0 / 32px 32px"
    with on_air(person, codec=codec) as sink, overlay(browser, sink) as page:
        wait_for_pictures(page)
        assert_shows(seen(page), person)
        page.evaluate(f"document.documentElement.style.background = '{pattern}'")
        shown = seen(page)[..., :3]
        page.evaluate("document.getElementById('avatar').style.visibility = 'hidden'")
        behind = seen(page)[..., :3]
    assert len(np.unique(behind.reshape(-1, 3), axis=0)) == 2, "the pattern is there"
    clear = eroded(person[..., 3] == 0, 4)
    assert (shown[clear] == behind[clear]).all(), "untouched, to the last bit"
    soft = (person[..., 3] > 20) & (person[..., 3] < 235)
    wrong = np.abs(shown - over(person, behind))
    assert soft.sum() > 5000 and wrong[soft].mean() < 8, "colours and pattern mix as the matte says"
    green = shown[..., 1] - np.maximum(shown[..., 0], shown[..., 2])
    assert green.max() < 20, "what is hidden below clear pixels does not come through"


def test_the_mattes_levels_arrive(browser):
    person = drawn_person()
    with on_air(person) as sink, overlay(browser, sink) as page:
        wait_for_pictures(page)
        picture = seen(page)
    for index, level in enumerate(LEVELS):
        top = LEVELS_TOP + index * LEVEL_PX
        patch = picture[top + 8 : top + LEVEL_PX - 8, LEVELS_LEFT + 8 : LEVELS_LEFT + LEVEL_PX - 8, 3]
        assert np.abs(patch - level).max() <= (0 if level in (0, 255) else 5), f"level {level}"


def test_nothing_bleeds_between_the_halves(browser):
    """A person who is solid down to the lower edge, and clear at the upper: the halves' border in the video."""
    person = np.zeros((CANVAS_PX, CANVAS_PX, 4), np.uint8)
    person[CANVAS_PX // 2 :] = (240, 240, 235, 255)
    with on_air(person) as sink, overlay(browser, sink) as page:
        wait_for_pictures(page)
        picture = seen(page)
    assert (picture[:8, :, 3] == 0).all() and (picture[-8:, :, 3] == 255).all()
    assert np.abs(picture[-8:, :, :3] - (240, 240, 235)).max() < 20


def test_a_key_colour_for_mixers_that_can_only_key(browser):
    person = drawn_person()
    with on_air(person) as sink, overlay(browser, sink, "?key=00b140") as page:
        wait_for_pictures(page)
        picture = seen(page)
    assert (picture[..., 3] == 255).all(), "nothing is clear"
    clear, solid = eroded(person[..., 3] == 0, 4), eroded(person[..., 3] == 255, 4)
    assert (picture[..., :3][clear] == (0x00, 0xB1, 0x40)).all()
    assert np.abs(picture[..., :3][solid] - SKIN).mean() < 4


def test_flip_mirrors_the_avatar_and_not_its_label(browser):
    person = drawn_person()
    with on_air(person, label=LABEL) as sink:
        with overlay(browser, sink) as page:
            wait_for_pictures(page)
            plain = seen(page)
        with overlay(browser, sink, "?flip=1") as page:
            wait_for_pictures(page)
            wait_for(page, "painter.label !== null")
            page.wait_for_timeout(300)
            flipped = seen(page)
    left, top, right, bottom = (round(end * CANVAS_PX) for end in OverlayPacker(LABEL).label_box)
    label = (slice(top + 2, bottom - 2), slice(left + 2, right - 2))
    assert plain[label][..., :3].std() > 20, "letters"
    assert np.abs(plain[label] - flipped[label]).mean() < 6, "the label reads as before, where it was"
    below = slice(bottom + 4, None)
    assert_shows(flipped[below, ::-1], person[below])
    assert np.abs(plain[below] - flipped[below]).mean() > 5


def test_size_and_place(browser):
    person = drawn_person()
    wide = (700, 400)
    with on_air(person) as sink:
        for search, box in (
            ("?size=256", (222, 144, 478, 400)),  # in the middle of the lower edge
            ("", (150, 0, 550, 400)),
            ("?fit=cover", (0, -300, 700, 400)),
        ):
            with overlay(browser, sink, search, wide) as page:
                wait_for_pictures(page)
                matte = seen(page)[..., 3]
            side = box[2] - box[0]
            large = cv2.resize(person[..., 3], (side, side), interpolation=cv2.INTER_AREA)
            wanted = np.zeros((wide[1], wide[0]), int)
            wanted[max(0, box[1]) : box[3], box[0] : box[2]] = large[max(0, -box[1]) :]
            assert np.abs(matte - wanted).mean() < 3, search


def test_shows_nothing_while_there_is_nothing_and_comes_back(browser):
    person, port = drawn_person(), free_port()
    with contextlib.ExitStack() as stack:
        with on_air(person, port) as sink:
            page = stack.enter_context(overlay(browser, sink))
            wait_for_pictures(page)
            assert seen(page)[..., 3].any()
        wait_for(page, "!painter.shown")
        assert not seen(page).any(), "wholly clear: no word, no last picture"
        assert page.locator("#word").is_hidden()
        with on_air(person, port):
            wait_for(page, "painter.shown")
            wait_for_pictures(page)
            assert_shows(seen(page), person)


def test_a_graphics_context_that_was_lost_comes_back(browser):
    person = drawn_person()
    with on_air(person) as sink, overlay(browser, sink) as page:
        wait_for_pictures(page)
        page.evaluate("window.loser = painter.gl.getExtension('WEBGL_lose_context'); loser.loseContext()")
        wait_for(page, "painter.lost")
        page.evaluate("loser.restoreContext()")
        wait_for(page, "!painter.lost")
        wait_for_pictures(page)
        assert_shows(seen(page), person)


def test_a_browser_that_does_not_tell_of_pictures(browser):
    """Before requestVideoFrameCallback: Firefox until 2024."""
    person, port = drawn_person(), free_port()
    without = "delete HTMLVideoElement.prototype.requestVideoFrameCallback"
    with contextlib.ExitStack() as stack:
        with on_air(person, port) as sink:
            page = stack.enter_context(overlay(browser, sink, before=without))
            wait_for(page, "painter.shown")
            page.wait_for_timeout(1000)
            assert_shows(seen(page), person)
        wait_for(page, "!painter.shown")
        assert not seen(page).any()


def test_a_browser_without_webgl_says_so(playwright):
    with launched(playwright, "--disable-3d-apis") as bare, on_air(drawn_person()) as sink:
        with overlay(bare, sink) as page:
            assert "WebGL" in page.inner_text("#word")


def test_a_wrong_word_in_the_address_is_named(browser):
    with on_air(drawn_person()) as sink, overlay(browser, sink, "?key=green&size=500") as page:
        assert "key=green" in page.inner_text("#word") and "size" not in page.inner_text("#word")


@pytest.mark.parametrize("named", [True, False])
def test_pages_that_are_named_may_frame_it(browser, tmp_path, named):
    """As docs/watch.md shows it: the avatar over another page's own background, also where that page is dark."""
    person = drawn_person()
    with serving(tmp_path) as site:
        origins = (site,) if named else ("https://news.example.org",)
        with on_air(person, server={"origins": origins}) as sink:
            frame = f'<iframe src="{sink.address}overlay" width="512" height="512"'
            frame += ' style="border: 0; color-scheme: light"></iframe>'
            dark = f'<body style="margin: 0; background: #123456; color-scheme: dark">{frame}'
            (tmp_path / "index.html").write_text(dark)
            with visiting(browser, site, (512, 512)) as page:
                if named:
                    wait_for_pictures(next(frame for frame in page.frames if "overlay" in frame.url))
                else:
                    page.wait_for_timeout(2000)
                picture = seen(page)[..., :3]
    if named:
        assert (picture[eroded(person[..., 3] == 0, 4)] == (0x12, 0x34, 0x56)).all()
        assert np.abs(picture[eroded(person[..., 3] == 255, 4)] - SKIN).mean() < 4
    else:
        assert np.abs(picture[DISC[1], DISC[0]] - SKIN).max() > 20, "the browser refuses"


def test_packs_only_while_an_overlay_is_watched(browser, monkeypatch):
    """Nobody pays for what nobody sees; all overlays share one stream."""
    packed, written = [], []
    pack = OverlayPacker.pack
    count = lambda *given, **named: packed.append(1) or pack(*given, **named)  # noqa: E731
    monkeypatch.setattr(OverlayPacker, "pack", count)
    with on_air(drawn_person()) as sink:
        write = sink.write
        sink.write = lambda frame: written.append(1) or write(frame)
        until(lambda: len(written) > 10)
        assert not packed
        with overlay(browser, sink) as page, overlay(browser, sink) as other:
            wait_for_pictures(page)
            wait_for_pictures(other)
            before = len(packed), len(written)
            page.wait_for_timeout(1500)
            packed_since, written_since = len(packed) - before[0], len(written) - before[1]
        assert 0 < packed_since <= 1.2 * written_since, "each picture once for both together"


def test_the_overlay_plays_sound_where_its_address_says_so(browser):
    with on_air(drawn_person(), sound=True) as sink, Player(sink), overlay(browser, sink, "?sound=1") as page:
        page.mouse.click(200, 200)  # a browser that is no mixer's plays sound only after a press
        wait_for_pictures(page)
        assert page.locator("#word").is_hidden()
        tracks = "document.getElementById('packed').srcObject.getAudioTracks()"
        muted = f"{tracks}[0].muted || document.getElementById('packed').muted"
        wait_for(page, f"{tracks}.length === 1 && !({muted})")
        page.goto(sink.address + "overlay")
        wait_for_pictures(page)
        assert page.evaluate(f"{tracks}.length === 0")


def test_the_models_picture(browser):
    """The bundled model's own avatar, with hair and fingers, as a viewer of the overlay gets it."""
    from avatar_stream.running.avatars import load_avatar
    from avatar_stream.synthesizers.flow import FlowSynthesizer

    avatar = load_avatar("mei")
    with opened(FlowSynthesizer(context=Context(avatar=avatar))) as synthesizer:
        person = synthesizer.synthesize(avatar.pose)
    with on_air(person) as sink, overlay(browser, sink) as page:
        wait_for_pictures(page)
        picture = seen(page)
        assert status_of(sink)["viewers"] == 1
    assert_shows(picture, person, margin_px=6)
    behind = np.array([255.0, 255.0, 255.0])
    wrong = np.abs(over(picture, behind) - over(person, behind)).mean()
    assert wrong < 3, f"over white the mean error is {wrong:.2f} levels"
