"""The crew's page in headless Chromium: one press for everything, and what a wrong token does."""

from support.ingest import TOKEN
from support.pages import visiting, wait_for
from support.waiting import wait_until
from support.web import ask_server as ask

from avatar_stream.broadcast.guard import TokenBucket
from avatar_stream.controls import Setting, Status, Wish


def test_the_control_page_is_one_press_away_from_everything(browser, opened):
    server = opened(token=TOKEN)
    controls = server.api.controls
    told = ("Your left hand leaves the picture",)
    controls.tell(Status(fps=25, delay_ms=88, p95_ms=120, avatar="mei", messages=told))
    with visiting(browser, server.address + "control") as page:
        page.get_by_label("Token").fill("not the right one")
        page.keyboard.press("Enter")
        page.get_by_text("the token is missing or wrong").wait_for()
        page.wait_for_timeout(2000)
        assert page.get_by_text("the token is missing or wrong").is_visible(), "it asked on, and said nothing"
        assert ask(server, "api/status", token=TOKEN)[0] == 200, "others at this address are not made to wait"
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.get_by_text("Your left hand leaves the picture").wait_for()
        assert page.inner_text("#delay") == "88 / 120 ms" and "mei" in page.inner_text("#on-air")
        page.keyboard.press("s")
        page.get_by_role("button", name="Hold card").click()
        page.get_by_role("button", name="elena").click()
        page.get_by_role("button", name="End the broadcast").click()
        page.get_by_role("button", name="No").click()
        page.get_by_role("button", name="Record").click()
        page.get_by_role("button", name="End the broadcast").click()
        page.get_by_role("button", name="End it").click()
        wanted = [Setting(Wish.HUMAN, True), Setting(Wish.HOLD, True), Setting(Wish.AVATAR, "elena"),
                  Setting(Wish.RECORD, True), Wish.QUIT]  # fmt: skip
        asked = []
        wait_until(lambda: asked.extend(controls.take()) or len(asked) >= len(wanted), 10)
        assert asked == wanted
        server.api.controls = None
        page.get_by_role("button", name="Record").click()
        page.wait_for_timeout(1500)
        assert page.get_by_text("the pipeline does not run yet").is_visible(), "a wish that failed is told"
        server.api.controls = controls
        controls.tell(Status(held=True, recording=True, avatar="elena"))
        wait_for(page, "document.getElementById('on-air').textContent.startsWith('hold card')")
        assert page.get_by_role("button", name="Hold card").get_attribute("aria-pressed") == "true"
        assert TOKEN not in page.url


def test_a_viewer_with_a_wrong_token_closes_the_server_to_nobody(browser, opened):
    server = opened(token=TOKEN, private=True)
    server.guard._wrong = TokenBucket(6, 0.01)
    with visiting(browser, f"{server.address}#token=not-the-right-one") as page:
        page.get_by_text("This broadcast is private").wait_for()
        page.wait_for_timeout(2500)
        assert ask(server, "status", token=TOKEN)[0] == 200
        page.goto(f"{server.address}#token={TOKEN}")  # in the same tab: the page is not loaded anew
        page.get_by_text("This broadcast is private").wait_for(state="hidden")
