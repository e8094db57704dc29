"""All pages in headless Chromium: axe-core finds no serious fault, fingers hit, keys reach all; the viewers' page."""

import contextlib

import numpy as np
import pytest
from support.pages import TONES_HZ, Player, on_air, visiting, wait_for, wait_for_pictures
from support.places import ROOT

from avatar_stream.controls import Status
from avatar_stream.running.avatars import load_avatar

AXE = ROOT / "tests/npm/node_modules/axe-core/axe.min.js"
PAGES = ("", "overlay", "signer", "control")
PHONE, DESKTOP = (390, 844), (1280, 800)
LEAST_TOUCH_PX = 44  # WCAG 2.2, 2.5.5
MESSAGE = "Your left hand leaves the picture"
SAID = dict.fromkeys(("messages", "notices", "framing"), (MESSAGE,))
STATUS = Status(fps=25.0, delay_ms=140.0, p95_ms=170.0, avatar="mei", **SAID)


@pytest.fixture(scope="module")
def sink():
    """A broadcast of the bundled portrait, with the signer's picture and a message."""
    driver = np.full((180, 320, 3), (90, 110, 100), np.uint8)
    with on_air(load_avatar("mei").image, status=STATUS, driver=driver) as running:
        yield running


@pytest.fixture
def visit(browser, sink):
    more = {"permissions": ["camera"], "reduced_motion": "reduce"}
    with contextlib.ExitStack() as stack:
        yield lambda path, size=DESKTOP: stack.enter_context(
            visiting(browser, sink.address + path, size, **more)
        )


def faults(page):
    """What axe-core calls serious or critical on a page, in words."""
    ask = "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)"
    found = page.evaluate(ask)
    return [
        f"{each['id']}: {each['help']}: {', '.join(str(node['target']) for node in each['nodes'])}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path or "index")
def test_axe_finds_no_serious_fault(visit, path):
    if not AXE.exists():
        pytest.skip("needs axe-core: make test-tools")
    for size in (PHONE, DESKTOP):
        page = visit(path, size)
        wait_for_pictures(page)
        page.wait_for_timeout(300)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert faults(page) == [], (size, scheme)
        page.close()


@pytest.mark.parametrize("path", ["", "signer", "control"], ids=lambda path: path or "index")
def test_phones_need_no_sideways_scrolling_and_fingers_hit(visit, path):
    page = visit(path, PHONE)
    wait_for_pictures(page)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    boxes = page.evaluate(
        """() => Array.from(document.querySelectorAll("button, select, input, summary"))
          .filter((each) => each.checkVisibility({visibilityProperty: true, opacityProperty: true}))
          .map((each) => [each.id || each.textContent.trim(), each.getBoundingClientRect().height])"""
    )
    assert boxes and not [box for box in boxes if box[1] < LEAST_TOUCH_PX]


@pytest.mark.parametrize("path", ["", "signer", "control"], ids=lambda path: path or "index")
def test_keys_reach_everything_and_are_seen_there(visit, path):
    page = visit(path)
    wait_for_pictures(page)
    page.wait_for_timeout(500)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
              const at = document.activeElement;
              const shown = at.type === "radio" ? at.nextElementSibling : at;
              return [at.id || at.name || at.textContent.trim(), parseFloat(getComputedStyle(shown).outlineWidth)];
            }"""
        )
        if name in reached or page.evaluate("document.activeElement === document.body"):
            break
        assert outline >= 2, f"{name} has the keys, and nothing shows it"
        reached.append(name)
    wanted = {"": {"full", "signer", "size"}, "signer": {"send"}, "control": {"Hold card h"}}[path]
    assert wanted <= set(reached)


def box(page, name):
    return page.locator(name).bounding_box()


def test_the_picture_has_the_size_that_the_viewer_wants(visit):
    page = visit("")
    wait_for_pictures(page)
    room = box(page, "#stage")
    assert box(page, "#picture")["width"] == pytest.approx(room["width"], abs=1)
    for _ in range(3):
        page.keyboard.press("-")
    assert box(page, "#picture")["width"] == pytest.approx(0.7 * room["width"], abs=1)
    assert box(page, "#stage") == room, "nothing else moves"
    page.keyboard.press("+")
    assert page.input_value("#size") == "80"
    again = page.context.new_page()
    again.goto(page.url)
    assert box(again, "#picture")["width"] == pytest.approx(0.8 * room["width"], abs=1), "remembered"
    again.keyboard.press("0")
    assert box(again, "#picture")["width"] == pytest.approx(room["width"], abs=1)
    again.locator("#size").fill("50")
    assert box(again, "#picture")["height"] == pytest.approx(0.5 * room["height"], abs=1)
    for _ in range(20):
        again.keyboard.press("-")
    assert again.input_value("#size") == "30", "never too small to be seen"


def test_the_pictures_corner_can_be_dragged(visit):
    page = visit("")
    wait_for_pictures(page)
    room, grip = box(page, "#stage"), box(page, "#grip")
    page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    page.mouse.down()
    middle = room["x"] + room["width"] / 2, room["y"] + room["height"] / 2
    page.mouse.move(middle[0] + room["width"] * 0.3, middle[1] + room["height"] * 0.25, steps=4)
    page.mouse.up()
    assert box(page, "#picture")["width"] == pytest.approx(0.6 * room["width"], abs=room["width"] / 50)


def test_what_comes_and_goes_does_not_move_the_picture(visit):
    for size in (PHONE, DESKTOP):
        page = visit("", size)
        wait_for_pictures(page)
        page.get_by_text(MESSAGE).wait_for()
        wait_for(page, "document.getElementById('delay').textContent.includes('ms')")
        before = box(page, "#picture")
        page.evaluate(
            """() => {
              document.getElementById("driver-figure").hidden = true;
              document.getElementById("messages").replaceChildren();
              for (const name of ["delay", "fps"]) document.getElementById(name).textContent = "–";
            }"""
        )
        assert box(page, "#picture") == before


@pytest.mark.parametrize("size", [(360, 640), (390, 844), (844, 390), (600, 340), (1280, 800)], ids=str)
def test_the_picture_and_what_it_is_are_on_every_first_screen(visit, size):
    page = visit("", size)
    wait_for_pictures(page)
    page.get_by_text(MESSAGE).wait_for()
    for name in ("#avatar", "#notice", "#full", "#delay"):
        found = box(page, name)
        assert found["y"] >= 0 and found["y"] + found["height"] <= size[1] + 1, name
        assert found["x"] >= 0 and found["x"] + found["width"] <= size[0] + 1, name
    assert min(box(page, "#avatar")["width"], box(page, "#avatar")["height"]) >= 0.4 * min(size)


def test_says_what_the_picture_is(browser):
    for status, words in ((STATUS, "AI-generated picture"), (Status(human=True), "The signer's own picture")):
        with on_air(load_avatar("mei").image, status=status) as sink, visiting(browser, sink.address) as page:
            wait_for_pictures(page)
            page.wait_for_timeout(500)
            assert words in page.inner_text("#notice")


# The loudest frequency of each side of what the page plays.
LOUDEST = """async () => {
  const context = new AudioContext();
  await context.resume();
  const split = context.createChannelSplitter(2);
  context.createMediaStreamSource(document.getElementById("avatar").srcObject).connect(split);
  const sides = [0, 1].map((side) => {
    const analyser = new AnalyserNode(context, { fftSize: 8192 });
    split.connect(analyser, side);
    return analyser;
  });
  await new Promise((resolve) => setTimeout(resolve, 800));
  const found = sides.map((analyser) => {
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    const at = levels.indexOf(Math.max(...levels));
    return levels[at] > -60 ? at * context.sampleRate / analyser.fftSize : 0;
  });
  await context.close();
  return found;
}"""


def test_sound_is_heard_once_it_is_asked_for(browser):
    person = load_avatar("mei").image
    with on_air(person, sound=True) as sink, Player(sink), visiting(browser, sink.address) as page:
        wait_for_pictures(page)
        wait_for(page, "!document.getElementById('sound').hidden")
        muted = "document.getElementById('avatar').muted"
        assert page.evaluate(muted), "browsers play nothing else by themselves"
        page.keyboard.press("m")
        tracks = "document.getElementById('avatar').srcObject.getAudioTracks()"
        wait_for(page, f"{tracks}.some((track) => !track.muted)")
        wait_for_pictures(page)
        assert page.evaluate(f"!{muted} && !document.getElementById('avatar').paused")
        assert page.evaluate(LOUDEST) == pytest.approx(TONES_HZ, abs=12), "in stereo, sides not changed"
        page.keyboard.press("m")
        assert page.evaluate(muted)


def test_there_is_no_button_for_sound_that_is_not_there(visit):
    page = visit("")
    wait_for_pictures(page)
    wait_for(page, "avatarStream.status !== null")
    assert page.locator("#sound").is_hidden()
