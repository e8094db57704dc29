"""The page over a network that loses, delays and breaks: pictures go on, and come back when the network does."""

import time

from support.bad_network import BadNetwork
from support.pages import visiting, wait_for, wait_for_pictures
from support.stages import opened
from support.web import Feeder, sink_at

BACK_WITHIN_S = 10.0  # far more than the longest pause between two tries
OUTAGE_S = 5.0
GOOD, BAD = 45, 40  # pictures that are waited for before the outage, without loss and with it


SHOWN = "document.getElementById('avatar').getVideoPlaybackQuality().totalVideoFrames"


def through(page, network):
    """Send the page's media through the network, and its HTTP too while that is out."""

    def offer(route):
        if network.out:
            route.abort()
            return
        if route.request.method != "POST":
            route.continue_()
            return
        answer = route.fetch(post_data=network.alone(route.request.post_data))
        body = network.way_to(answer.text()) if answer.status == 201 else answer.body()
        route.fulfill(response=answer, body=body)

    def rest(route):
        route.abort() if network.out else route.continue_()

    page.route("**/status*", rest)
    page.route("**/whep/*", lambda route: route.abort() if route.request.method == "PATCH" else rest(route))
    page.route("**/whep", offer)


def shown_in(page, seconds):
    before = page.evaluate(SHOWN)
    page.wait_for_timeout(1000 * seconds)
    return page.evaluate(SHOWN) - before


def wait_for_more(page, pictures):
    wait_for(page, f"{SHOWN} > {page.evaluate(SHOWN) + pictures}")


def test_loss_and_jitter_cost_some_pictures_and_an_outage_is_over_when_the_network_is_back(browser):
    with opened(sink_at()) as sink, visiting(browser, "about:blank") as page:
        with BadNetwork(seed=1) as network, Feeder(sink):
            through(page, network)
            page.goto(sink.address)
            wait_for_pictures(page)
            wait_for_more(page, GOOD)
            network.loss, network.jitter_s = 0.05, 0.05
            wait_for_more(page, BAD)
            network.out = True
            page.wait_for_timeout(1000 * OUTAGE_S)
            assert shown_in(page, 0.5) < 3, "it really was out"
            network.out, network.loss, network.jitter_s = False, 0.0, 0.0
            begun_s = time.monotonic()
            while shown_in(page, 0.2) < 3:
                assert time.monotonic() - begun_s < BACK_WITHIN_S, "back soon after the network"
        assert network.passed > 100, "pictures really came this way"
