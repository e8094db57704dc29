"""Pipeline files: what ships is right, every mistake is told at once, the schema is true, commands are files."""

import argparse
import json

import pytest
import yaml
from support.places import ROOT

from avatar_stream.cli import commands, main
from avatar_stream.errors import ConfigError
from avatar_stream.places import bundled
from avatar_stream.running.config import (
    ProblemsError,
    apply_override,
    check_pipeline,
    find_stage,
    load_pipeline,
    stage_names,
)
from avatar_stream.running.config_docs import json_schema, options_page
from avatar_stream.running.pipeline import build_pipeline

FILES = sorted(bundled("pipelines").glob("*.yaml"))
PICTURES = {"type": "picture_folder", "path": "x"}
GOOD = {"source": {"type": "synthetic"}, "tracker": "none", "outputs": [PICTURES]}


@pytest.fixture
def write(tmp_path, avatar_folder):
    def make(**change):
        path = tmp_path / "p.yaml"
        path.write_text(yaml.safe_dump({"avatar": str(avatar_folder), **GOOD, **change}))
        return path

    return make


def test_the_four_files_are_there():
    assert {"broadcast", "demo", "preview", "record"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_that_ship_build(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # what they name is found from any folder
    pipeline = build_pipeline(load_pipeline(path))
    assert pipeline.outputs and pipeline.tracker is not None
    assert pipeline.source.live == (path.stem != "record")


def test_every_mistake_is_told_at_once(write, tmp_path):
    path = write(
        avatar="nobody-of-that-name",
        source={"type": "video_file", "path": str(tmp_path / "none.mp4"), "own_pase": True},
        synthesizer={"type": "flow", "steps": "many", "model": "no-such-model"},
        compose={"backgroud": "white"},
        outputs=[{"type": "windw"}, {"type": "video_file", "path": str(tmp_path / "gone" / "x.mp4")}],
        colour="red",
    )
    with pytest.raises(ProblemsError) as caught:
        load_pipeline(path)
    found = {line.partition(":")[0]: line for line in caught.value.problems}
    assert set(found) == {
        "avatar", "source.path", "source.own_pase", "synthesizer.steps", "synthesizer.model",
        "compose.backgroud", "outputs.0.type", "outputs.1.path", "colour",
    }  # fmt: skip
    assert "'own_pace'" in found["source.own_pase"] and "'background'" in found["compose.backgroud"]
    assert "given 'many'; expected a valid integer" in found["synthesizer.steps"]
    assert "'window'" in found["outputs.0.type"] and str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change, key",
    [
        ({"outputs": []}, "outputs"),
        ({"outputs": None}, "outputs"),
        ({"outputs": [{"path": "x"}]}, "outputs.0"),
        ({"outputs": [{"type": ["x"]}]}, "outputs.0.type"),
        ({"outputs": [{"type": "picture_folder", "path": "x", "optional": 3}]}, "outputs.0.optional"),
        ({"source": None}, "source"),
        ({"source": "webcam"}, "source"),
        ({"source": {"type": "webcam", "index": -1}}, "source.index"),
        ({"tracker": {"type": "synthetic", "x": 1}}, "tracker.type"),
        ({"retarget": {"smoothing": -1}}, "retarget.smoothing"),
        ({"compose": {"background": "no/picture.png"}}, "compose.background"),
        ({"avatar": 3}, "avatar"),
        ({"compose": {"size": 767}}, "compose.size.0"),
        ({"compose": {"size": "large"}}, "compose.size"),
        ({"synthesizer": {"type": "flow", "size_px": 600}}, "synthesizer.size_px"),
        ({"server": {"ice_servers": [{"urls": "turn.example.org"}]}}, "server.ice_servers.0.urls"),
        ({"server": {"ice_servers": [{"urls": ["stun:h:1", "turn:h:port"]}]}}, "server.ice_servers.0.urls"),
        ({"outputs": [{"type": "picture_folder", "path": "."}]}, "outputs.0.path"),
    ],
)
def test_each_mistake_has_its_key(write, change, key):
    with pytest.raises(ProblemsError) as caught:
        load_pipeline(write(**change))
    assert key in {line.partition(":")[0] for line in caught.value.problems}


def test_no_output_may_overwrite_the_clip_or_another_output(write, make_clip, tmp_path):
    clip = make_clip()
    source = {"type": "video_file", "path": str(clip)}
    over_clip = [{"type": "video_file", "path": str(tmp_path / "." / clip.name)}]
    twice = [{"type": "video_file", "path": str(tmp_path / "o.mp4")}] * 2
    for outputs in (over_clip, twice):
        with pytest.raises(ProblemsError, match="outputs: given .*each other"):
            load_pipeline(write(source=source, tracker={"type": "holistic"}, outputs=outputs))
    show = {"source": str(make_clip("programme.mp4"))}
    over_programme = [{"type": "video_file", "path": show["source"]}]
    with pytest.raises(ProblemsError, match="outputs: given .*the programme"):
        load_pipeline(write(source=source, outputs=over_programme, show=show))
    load_pipeline(write(source=source, outputs=twice[:1], show={"source": str(clip)}))


def test_two_outputs_of_one_type_have_names_of_their_own(write):
    config = load_pipeline(write(outputs=[{"type": "window", "mirror": mirror} for mirror in (True, False)]))
    assert [output.name for output in build_pipeline(config).outputs] == ["window", "window 2"]


def test_an_avatar_of_ones_own_can_be_left_and_come_back_to(write, avatar_folder, drawing_synthesizer):
    pipeline = build_pipeline(load_pipeline(write(outputs=[{"type": "web"}])))
    assert pipeline.cast.name == "tester" and {"tester", "mei"} <= set(pipeline.avatars)
    other = pipeline.recast("mei", pipeline.cast)
    assert other.name == "mei" and pipeline.recast("tester", other).name == "tester"
    assert pipeline.server.api.portraits["tester"] == avatar_folder / "portrait.png"


def test_two_recordings_in_one_second_are_two_files(write, tmp_path):
    pipeline = build_pipeline(load_pipeline(write(recordings=str(tmp_path / "kept"))))
    assert len({pipeline.new_recording().name for _ in range(3)}) == 3


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "", "\x00"])
def test_what_is_no_pipeline_is_told_in_one_line(tmp_path, content):
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(ConfigError, match="p.yaml") as caught:
        load_pipeline(tmp_path / "p.yaml")
    assert "\n" not in str(caught.value)


def test_a_colour_given_by_set_is_no_comment(write):
    given = ["compose.background=#12a3b4", "show={source: 0}", "show.plate=#1f2a38"]
    config = load_pipeline(write(), given)
    assert config.compose.background == "#12a3b4" and config.show.plate == "#1f2a38"


def test_overrides_go_through_the_same_checks(write):
    config = load_pipeline(write(), ["source.fps=12.5", "outputs.0.path=y", "compose.background=white"])
    assert config.source.options.fps == 12.5 and str(config.outputs[0].options.path) == "y"
    assert config.compose.background == "white"
    with pytest.raises(ProblemsError, match="source.fsp"):
        load_pipeline(write(), ["source.fsp=1"])
    for wrong in ("source.fps", "=3", "outputs.7.path=x", "avatar.name.x=1"):
        with pytest.raises(ConfigError, match="--set"):
            load_pipeline(write(), [wrong])


def test_poses_need_no_tracker(write, make_pose_clip):
    source = {"type": "pose_file", "path": str(make_pose_clip())}
    given = yaml.safe_load(write(source=source).read_text())
    del given["tracker"]
    assert check_pipeline(given, "here").tracker is None
    given["source"] = {"type": "synthetic"}
    assert check_pipeline(given, "here").tracker.type_name == "holistic_fast"


def test_an_unknown_stage_lists_the_known():
    with pytest.raises(ConfigError, match="video_file"):
        find_stage("sources", "nothing")
    assert {"webcam", "video_file", "pose_file", "synthetic"} <= set(stage_names("sources"))


def test_the_schema_that_ships_is_what_the_code_says():
    path = bundled("pipelines") / "pipeline.schema.json"
    assert json.loads(path.read_text()) == json_schema(), "write it anew: avatar-stream check --schema"


def test_the_page_of_options_is_what_the_code_says():
    path = ROOT / "docs" / "options.md"
    assert path.read_text() == options_page(), "write it anew: avatar-stream check --options"


def test_every_option_is_described():
    def undescribed(schema, place=""):
        for key, value in schema.get("properties", {}).items():
            if key != "type" and not value.get("description") and "$ref" not in value:
                yield f"{place}.{key}"
        for key in ("properties", "$defs"):
            for name, value in schema.get(key, {}).items():
                yield from undescribed(value, f"{place}.{name}")
        for value in schema.get("oneOf", schema.get("items", {}).get("oneOf", ())):
            yield from undescribed(value, f"{place}.{value.get('title')}")

    assert list(undescribed(json_schema())) == []


def test_the_schema_knows_types_and_keys():
    schema = json_schema()
    sources = {one["properties"]["type"]["const"]: one for one in schema["properties"]["source"]["oneOf"]}
    assert sources["webcam"]["properties"].keys() >= {"index", "width", "fps"}
    assert sources["video_file"]["required"] == ["type", "path"]
    assert not any(one.get("additionalProperties", True) for one in sources.values())
    stages = schema["properties"]["synthesizer"]["oneOf"]
    flow = [one for one in stages if one["properties"]["type"]["const"] == "flow"]
    assert "avatar" not in flow[0]["properties"]


def test_check_tells_each_file(write, tmp_path, capsys):
    good, bad = write(), tmp_path / "bad.yaml"
    bad.write_text("avatar: nobody\nsource: {}\n")
    assert main(["check", str(good)]) == 0 and "ok" in capsys.readouterr().out
    assert main(["check", str(good), str(bad)]) == 1
    spoken = capsys.readouterr()
    assert f"{good}: ok" in spoken.out and "bad.yaml has 3 problems" in spoken.err
    assert len(spoken.err.strip().splitlines()) == 4
    assert main(["check"]) == 1


@pytest.mark.parametrize(
    "command, words, expected",
    [
        ("preview", ["--camera", "1"], ["source.index=1"]),
        ("broadcast", ["--port", "8090", "--host", "0.0.0.0"], ["server.port=8090", 'server.host="0.0.0.0"']),
        ("preview", ["--steps", "2", "--set", "compose.background=white"],
         ["synthesizer.steps=2", "compose.background=white"]),
        ("preview", ["--synthesizer", "rig"], ["synthesizer={type: rig}"]),
        ("broadcast", ["--size", "768"], ["compose.size=768"]),
    ],
)  # fmt: skip
def test_commands_are_pipeline_files_with_values_set(command, words, expected, monkeypatch):
    parser, ran = argparse.ArgumentParser(), []
    getattr(commands, f"add_{command}")(parser)
    run = lambda path, overrides, seconds: ran.append((path.name, overrides)) or 0  # noqa: E731
    monkeypatch.setattr(commands, "_run_file", run)
    assert getattr(commands, command)(parser.parse_args(words)) == 0
    assert ran == [(f"{command}.yaml", expected)]
    load_pipeline(bundled("pipelines") / f"{command}.yaml", expected)


def test_names_stay_names_whatever_they_look_like():
    parser, given = argparse.ArgumentParser(), {"synthesizer": {"type": "flow"}}
    commands.add_preview(parser)
    words = parser.parse_args(["--avatar", "a: b #1", "--model", "007"])
    for override in commands.live_overrides(words):
        apply_override(given, override)
    assert given["avatar"] == "a: b #1" and given["synthesizer"]["model"] == "007"


def test_a_camera_may_be_a_path(monkeypatch):
    config = load_pipeline(bundled("pipelines") / "preview.yaml", ["source.index=/dev/video7"])
    assert config.source.options.index == "/dev/video7"
