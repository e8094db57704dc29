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
# Pages already written for readers. Once the others are, this set and its use below go.
REWRITTEN = {"experiments", "evaluation", "training", "tracking", "engines", "gpu-runs"}
READ = [page for page in PAGES if page.name != "options.md" and page.parent.name != "pipelines"]
READ = [page for page in READ if page.stem in REWRITTEN]
MOST_WIDE, MOST_WORDS, LONG_URL = 100, 15, 60  # characters of a line, words of a table's cell, characters


@cache
def commands_of(page: Path) -> list[list[str]]:
    return [match.replace("\\\n", " ").split() for match in COMMAND.findall(page.read_text(encoding="utf-8"))]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_there_are_commands():
    assert sum(len(commands_of(page)) for page in PAGES) > 30


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


def prose_of(page: Path) -> list[tuple[int, str]]:
    """Lines outside blocks of code, with their numbers."""
    found, in_code = [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code:
            found.append((number, line))
    return found


def anchors_of(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    anchors: set[str] = set()
    for _, line in prose_of(page):
        if heading := re.fullmatch(r"#{1,6} +(.+?)", line):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1].strip().lower())
            base = anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            again = 0
            while anchor in anchors:
                again += 1
                anchor = f"{base}-{again}"
            anchors.add(anchor)
    return anchors


@pytest.mark.parametrize("page", READ, ids=page_name)
def test_lines_and_cells_can_be_read(page):
    wide, wordy = [], []
    for number, line in prose_of(page):
        urls = re.findall(r"https?://[^\s)>]+", line)
        if len(line) > MOST_WIDE and not any(len(url) > LONG_URL for url in urls):
            wide.append(number)
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            wordy += [f"{number}: {cell.strip()}" for cell in cells if len(cell.split()) > MOST_WORDS]
    assert not wide, f"lines over {MOST_WIDE} characters"
    assert not wordy, f"cells over {MOST_WORDS} words"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_and_anchors_resolve(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s:]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in anchors_of(other)):
            broken.append(target)
    assert not broken
