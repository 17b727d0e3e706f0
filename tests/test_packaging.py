"""What the package tells others about itself agrees with what is in it."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import sssnbus

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_version(project: dict[str, Any]) -> None:
    """The version of the project is the one that the package names and the changelog knows."""
    version = project["project"]["version"]
    assert getattr(sssnbus, "__version__", version) == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_typed() -> None:
    """The marker that makes type checkers read our annotations is there."""
    assert (ROOT / "sssnbus" / "py.typed").is_file()


def test_data_files_are_built_in(project: dict[str, Any]) -> None:
    """SQL beside the stores goes into the wheel: the whole package does, and nothing is ignored away."""
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["sssnbus"]}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert not [line for line in ignored if line.endswith((".sql", ".lua", ".typed")) or "sssnbus" in line]


def test_few_dependencies(project: dict[str, Any]) -> None:
    """The package stands on four others, each chosen on purpose, and on no server (FX-02)."""
    names = {re.split(r"[^a-z]", line)[0] for line in project["project"]["dependencies"]}
    assert names == {"aiosqlite", "anyio", "pydantic", "rich"}


def test_extras_have_code(project: dict[str, Any]) -> None:
    """An extra is declared only for a store whose code exists (SB-003)."""
    stores = {path.stem for path in (ROOT / "sssnbus" / "stores").iterdir()}
    assert set(project["project"].get("optional-dependencies", {})) <= stores


def test_lock_names_only_the_public_index() -> None:
    """The lock file can be used by everybody: it names no mirror, and nothing on the machine that made it."""
    lock = (ROOT / "uv.lock").read_text()
    hosts = set(re.findall(r"\w+://([^/\"]+)", lock))
    assert hosts <= {"pypi.org", "files.pythonhosted.org"}
    assert set(re.findall(r"(?:path|directory|editable|virtual) = \"([^\"]+)\"", lock)) <= {"."}


def test_command(project: dict[str, Any]) -> None:
    """The command that is installed is there to be called (SB-001, SB-002)."""
    module, _, name = project["project"]["scripts"]["sssnbus"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
