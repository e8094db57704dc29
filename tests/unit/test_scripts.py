"""The scripts: nothing of the user's is overwritten, weights come home whole, no training machine's place ships."""

import argparse
import importlib.util

import numpy as np
import pytest
from support.places import ROOT

SCRIPTS = ROOT / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_pack_goes_into_no_folder_that_is_there(tmp_path):
    kept = tmp_path / "data" / "people" / "mine.glb"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(SystemExit, match="there already"):
        load("gpu_run").pack(argparse.Namespace(output=tmp_path / "data"))
    assert kept.read_text() == "mine"


def test_weights_come_home_in_parts(tmp_path):
    gpu_run, weights, parts = load("gpu_run"), tmp_path / "weights", tmp_path / "parts"
    (weights / "target_net").mkdir(parents=True)
    content = np.random.default_rng(0).bytes(300_000)
    (weights / "target_net" / "x.safetensors").write_bytes(content)
    parts.mkdir()
    gpu_run.split(weights, parts, 0.1)
    assert 3 <= len(list(parts.iterdir())) <= 4
    gpu_run.unpack(argparse.Namespace(parts=parts, model=tmp_path / "model"))
    assert (tmp_path / "model" / "target_net" / "x.safetensors").read_bytes() == content


def test_what_ships_names_no_folder_of_the_training_machine(tmp_path):
    (tmp_path / "target_net").mkdir()
    config = tmp_path / "target_net" / "config.json"
    config.write_text('{"heads": 4, "_name_or_path": "/home/me/runs"}')
    load("publish_model").forget_places(tmp_path)
    assert config.read_text() == '{\n  "heads": 4\n}\n'
    data = {"folders": ["/home/me/data/people"], "people": "/home/me/glb"}
    told = load("publish_model")._without_places({"config": {"output": "/home/me/runs/small", "data": data}})
    assert "/home" not in str(told) and told["config"]["data"] == {"folders": ["people"], "people": "glb"}
