"""Who may import whom: the floor plan of the package, checked over every import there is."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From top to bottom. A room imports only rooms on lines below its own; rooms on one line do not know
# each other. So `testing`, what users test with, may import `bus` and below, and only the command line
# comes in by the front door, as any other program does.
PACKAGE = """
__main__
cli
__init__
service
testing
bus
archive
channels
delivery
stores
message
stored topics settings
errors clock
"""
# The same inside `stores`: no store knows another, and only the registry knows them all.
STORES = """
__init__
registry
memory sqlite redis nats postgres
life lane holds watchers
backoff base url loop
value
"""


def floors(plan: str) -> dict[str, int]:
    """Return the line on which each room stands."""
    return {room: line for line, rooms in enumerate(plan.split("\n")) for room in rooms.split()}


PLANS = {"sssnbus": floors(PACKAGE), "sssnbus.stores": floors(STORES)}


def imports(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yield the line of every import, and the modules it may mean: the longest name first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, [alias.name]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, [f"{module}.{alias.name}", module]) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            texts = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
            yield from ((node.lineno, [text]) for text in texts if isinstance(text, str))


def room(module: str, package: str) -> str | None:
    """Return the room of a package in which a module lies; None if it lies elsewhere or in no room."""
    if module == package:
        return "__init__"
    first = module.removeprefix(package + ".").split(".")[0] if module.startswith(package + ".") else ""
    return first if first in PLANS[package] else None


def violations(module: str, source: str) -> list[str]:
    """Return what the source text of a module imports against the plan."""
    found = []
    for line, names in imports(ast.parse(source)):
        if names[0].startswith("."):
            found.append(f"{module}:{line} imports by a relative name")
        for package, plan in PLANS.items():
            here = room(module, package)
            there = next((place for name in names if (place := room(name, package))), None)
            if here and there and here != there and plan[here] >= plan[there]:
                found.append(f"{module}:{line} in {package} room {here} imports room {there}")
    return found


def private_to_the_command_line(module: str, source: str) -> list[str]:
    """Return what a module of the command line imports that is neither its own room's nor public."""
    doors = {name: set(importlib.import_module(name).__all__) for name in ("sssnbus", "sssnbus.stores")}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for home, name in names:
            inside = f"{home}.{name}".startswith("sssnbus.cli")
            ours = home.split(".")[0] == "sssnbus"
            if ours and not inside and name not in doors.get(home, ()):
                found.append(f"{module}:{node.lineno} imports {name or 'all'} from {home}")
    return found


def modules() -> dict[str, Path]:
    """Return every module of the package by its name."""
    names = {}
    for path in sorted((ROOT / "sssnbus").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def test_floor_plan() -> None:
    """Every import of the package goes downwards."""
    found = [text for name, path in modules().items() for text in violations(name, path.read_text())]
    assert not found, "\n".join(found)


def test_the_command_line_uses_public_names() -> None:
    """What the command line does, any program can do: it imports public names only (SB-262, SB-263)."""
    cli = {name: path for name, path in modules().items() if name.startswith("sssnbus.cli")}
    found = [
        text for name, path in cli.items() for text in private_to_the_command_line(name, path.read_text())
    ]
    assert not found, "\n".join(found)
    for planted in ("from sssnbus.bus import Bus", "import sssnbus.bus", "from sssnbus import bus"):
        assert len(private_to_the_command_line("sssnbus.cli.write", planted)) == 1
    assert private_to_the_command_line("sssnbus.cli.write", "from sssnbus import Bus\nimport json") == []


def test_everything_has_a_place() -> None:
    """No module stands outside the plan, where nothing would be checked."""
    for package in PLANS:
        inside = [name for name in modules() if name == package or name.startswith(package + ".")]
        assert [name for name in inside if room(name, package) is None] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sssnbus.message", "from sssnbus.stores.base import Store"),
        ("sssnbus.stored", "import sssnbus.topics"),
        ("sssnbus.errors", "from sssnbus.clock import Clock"),
        ("sssnbus.delivery.fanout", "from sssnbus import Bus"),
        ("sssnbus.delivery.fanout", "from sssnbus import bus"),
        ("sssnbus.channels.base", "def f():\n    import sssnbus.bus as later"),
        ("sssnbus.channels.base", "if TYPE_CHECKING:\n    from sssnbus.bus import Bus"),
        ("sssnbus.channels.base", "importlib.import_module('sssnbus.bus')"),
        ("sssnbus.bus", "from .delivery import policy"),
        ("sssnbus.stores.sqlite.connection", "from sssnbus.stores.memory import MemoryStore"),
        ("sssnbus.stores.sqlite", "from sssnbus.stores import memory"),
        ("sssnbus.stores.memory", "from sssnbus.stores.registry import open_store"),
        ("sssnbus.stores.memory", "from sssnbus.stores import Store"),
        ("sssnbus.stores.base", "from sssnbus.stores.memory import MemoryStore"),
    ],
)
def test_planted_import_is_found(module: str, source: str) -> None:
    """The check itself finds an import that goes up or across, wherever it hides."""
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sssnbus", "from sssnbus.bus import Bus as Bus"),
        ("sssnbus.cli.write", "from sssnbus import Bus"),
        ("sssnbus.testing.checks", "from sssnbus.bus import Bus"),
        ("sssnbus.delivery.fanout", "from sssnbus.delivery import policy"),
        ("sssnbus.bus", "from sssnbus.stores import Store, registry"),
        ("sssnbus.stores.registry", "def f():\n    from sssnbus.stores.sqlite import SQLiteStore"),
        ("sssnbus.stores.sqlite.connection", "from sssnbus.stores.sqlite import schema"),
        ("sssnbus.stores.memory", "from sssnbus.stores.base import Store\nimport sssnbusiness"),
    ],
)
def test_downward_import_is_allowed(module: str, source: str) -> None:
    """The check itself lets the plan's own imports pass."""
    assert violations(module, source) == []
