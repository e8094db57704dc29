"""The README's example of the library runs with the weights that ship."""

import re

import numpy as np
from support.places import ROOT


def test_the_example_of_the_library_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert names["picture"].shape == (768, 768, 4) and names["picture"].dtype == np.uint8
    assert 0.1 < (names["picture"][..., 3] > 127).mean() < 0.9, "a person stands there"
