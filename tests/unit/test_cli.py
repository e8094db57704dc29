"""The command line as a user meets it: help, exit status, one line for each error, pipes."""

import os
import subprocess
import sys

import pytest

from avatar_stream.cli import arguments as cli
from avatar_stream.cli import doctor, main
from avatar_stream.places import bundled


def run(*words):
    return subprocess.run([sys.executable, "-m", "avatar_stream", *words], capture_output=True, text=True)


@pytest.mark.parametrize("command", [(), ("record",), ("avatars",), ("doctor",), ("demo",)])
def test_help_is_a_page_of_the_manual(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and "exit status" in text and "130" in text
    assert not command or ("examples:" in text and f"avatar-stream {command[0]}" in text)


def test_help_of_record_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["record", "--help"])
    text = capsys.readouterr().out
    for option in "input avatar output side-by-side steps model seed device background synthesizer".split():
        assert f"--{option}" in text


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("no-such-command",),
        ("record",),
        ("record", "--input", "a", "--avatar", "b", "--output", "c.mp4", "--steps", "0"),
        ("record", "--input", "a", "--avatar", "b", "--output", "c.mp4", "--no-such-option"),
    ],
)
def test_wrong_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


def test_a_known_error_is_one_line_and_1(tmp_path):
    clip, output = str(tmp_path / "none.mp4"), str(tmp_path / "o.mp4")
    done = run("record", "--input", clip, "--avatar", "nobody", "--output", output)
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("avatar-stream: error: ")
    assert not list(tmp_path.iterdir())


def test_missing_clip_is_told(avatar_folder, drawing_synthesizer, tmp_path, capsys):
    paths = {"input": tmp_path / "none.mp4", "avatar": avatar_folder, "output": tmp_path / "o.mp4"}
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    assert main(["record", *words]) == 1
    assert "none.mp4" in capsys.readouterr().err
    assert not (tmp_path / "o.mp4").exists()


def test_a_name_that_the_terminal_cannot_show_is_no_traceback(tmp_path):
    path = tmp_path / "größe.yaml"
    path.write_bytes((bundled("pipelines") / "preview.yaml").read_bytes())
    command = [sys.executable, "-m", "avatar_stream", "check", str(path)]
    given = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    assert done.returncode == 0 and done.stdout.endswith("gr\\xf6\\xdfe.yaml: ok\n"), done.stderr


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out.startswith("avatar-stream 0.")


def test_a_reader_that_leaves_is_no_traceback():
    code = "from avatar_stream.cli import arguments as cli; import sys\n"
    code += "cli._COMMANDS['avatars'] = ('', cli._add_avatars, lambda a: print('x\\n' * 200000) or 0)\n"
    code += "sys.exit(cli.main(['avatars']))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        spoken = process.stderr.read().decode()
    assert process.returncode == 1 and "Traceback" not in spoken and "BrokenPipe" not in spoken


def test_an_interrupt_anywhere_is_130(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "avatars", ("", cli._add_avatars, interrupted))
    assert main(["avatars"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_doctor_says_what_is_missing_and_what_to_do(monkeypatch, capsys):
    checks = [doctor.Check("one", True, "fine"), doctor.Check("two", False, "none", "do this", needed=False)]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert main(["doctor"]) == 0
    checks.append(doctor.Check("three", False, "gone", "do that"))
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "do this" in text and "do that" in text and "three" in text.splitlines()[-1]


def test_doctor_looks_at_this_machine():
    found = {check.name: check for check in doctor.examine()}
    names = "Python PyTorch engine OpenGL video models avatars cameras display port disk".split()
    assert {*names, "pose tracker"} == set(found)
    assert found["Python"].passed and found["PyTorch"].passed and found["pose tracker"].passed
    assert found["video"].passed
    assert all(check.advice for check in found.values() if not check.passed)


def test_demo_without_a_clip_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("avatar_stream.places.bundled", lambda kind: tmp_path / kind)
    assert main(["demo", "--output", str(tmp_path / "out")]) == 1
    assert "bundled clip" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", ["bench", *(f"bench {what}" for what in "viewers soak engines tracker".split())]
)
def test_a_benchmark_that_could_not_be_written_is_not_begun(command, tmp_path, capsys):
    more = ["--input", str(tmp_path)] if command == "bench tracker" else []
    assert main([*command.split(), *more, "--json", str(tmp_path / "none" / "figures.json")]) == 1
    assert "there is no folder" in capsys.readouterr().err
