"""What the documents say is true: links lead somewhere, commands have the options named, the example runs."""

import re
from functools import cache
from pathlib import Path

import pytest
from support.places import ROOT

from avatar_stream.cli import arguments as cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "pipelines/README.md", *ROOT.glob("docs/*.md")]
# A command as it stands in a block or between backticks; a line may go on after a backslash.
COMMAND = re.compile(r"avatar-stream ([a-z](?:[^\n`\\|#]|\\\n)*)")


@cache
def commands_of(page: Path) -> list[list[str]]:
    return [match.replace("\\\n", " ").split() for match in COMMAND.findall(page.read_text(encoding="utf-8"))]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_there_are_commands():
    assert sum(len(commands_of(page)) for page in PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_commands_have_the_options_that_documents_name(capsys):
    helps = {}
    for words in [words for page in PAGES for words in commands_of(page)]:
        name = [" ".join(words[:2])] if " ".join(words[:2]) in cli._COMMANDS else words[:1]
        if name[0] not in helps:
            with pytest.raises(SystemExit) as caught:
                cli.main([*name, "--help"])
            assert caught.value.code == 0, f"there is no command {name[0]}"
            helps[name[0]] = capsys.readouterr().out
        options = [word.strip("[],.;:") for word in words if word.startswith("--")]
        unknown = [option for option in options if not re.search(rf"{option}\b(?!-)", helps[name[0]])]
        assert not unknown, f"{' '.join(words)}: there is no {unknown[0]}"
