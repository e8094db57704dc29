"""`bench --page`: the clock in the pictures is read back truly, through codec and browser too."""

import shutil

import numpy as np
import pytest
from support.stages import Collector, Slow, make_pipeline

from avatar_stream.errors import ConfigError
from avatar_stream.lab.bench import page as bench_page
from avatar_stream.lab.bench.live import measure_with_page
from avatar_stream.lab.bench.page import BLOCK_PX, PageWatcher, draw_clock, read_clock


def number_in(image):
    row = image[-BLOCK_PX // 2, BLOCK_PX // 2 :: BLOCK_PX, 0][:24] > 127
    return int("".join("01"[int(lit)] for lit in row), 2)


@pytest.mark.parametrize("time_s", [0.0, 12.345, 1048.575, 1048.576, 23_987.847])
def test_a_drawn_clock_is_read_again(time_s):
    image = np.full((512, 512, 3), 90, np.uint8)
    draw_clock(image, time_s)
    number = number_in(image)
    assert read_clock(number, time_s + 0.25) == pytest.approx(250, abs=1)
    assert read_clock(number, time_s - 0.02) == pytest.approx(-20, abs=1), "before it, not a turn after it"
    assert (image[:-BLOCK_PX] == 90).all()


def test_a_misread_clock_is_noticed():
    image = np.zeros((16, 384, 3), np.uint8)
    noticed = 0
    for time_s in (1.0, 7.7, 500.0, 1000.1):
        draw_clock(image, time_s)
        noticed += sum(read_clock(number_in(image) ^ 1 << bit, time_s) is None for bit in range(24))
    assert noticed == 4 * 24, "every single wrong bit"


def test_without_a_browser_it_is_told(monkeypatch):
    monkeypatch.setattr(bench_page.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="--page needs a browser"):
        PageWatcher(lambda: "").start()


def test_the_page_s_delay_holds_the_pipeline_s():
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("needs Chromium")
    pipeline = make_pipeline([Collector()], live=True, frames=None, fps=25, synthesizer=Slow(pause_s=0.15))
    pipeline.cast.synthesizer.options = None
    figures = measure_with_page(pipeline, 4.0, warm_up_s=0.5)
    page = figures["page"]
    assert page["pictures"] > 5 and page["misread"] <= 1
    assert page["delay_ms"]["p50"] > 150, "the synthesizer alone takes that long"
    assert page["delay_ms"]["p50"] > figures["latency_ms"]["p50"] - 20
    assert page["delay_ms"]["p50"] < figures["latency_ms"]["p50"] + 2_000, "a clock that is off is far off"
