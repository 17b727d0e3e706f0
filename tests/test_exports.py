"""The front doors: what they export exists, is ours, is sorted, and is all there is."""

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints, is_typeddict

import pytest

import sssnbus

DOORS = ["sssnbus", "sssnbus.stores", "sssnbus.testing"]

# Modules that are public as a whole: each of their classes must be at the front door.
SURFACE = ["sssnbus.clock", "sssnbus.errors", "sssnbus.message", "sssnbus.settings", "sssnbus.stored"]

# Public in those modules for the sake of other rooms, yet nothing that users need a name for: what stores
# keep, how the keyword arguments of `write` are spelt, and the protocol that asyncio's own timers fulfil.
INTERNAL = {"Dedupe", "Draft", "Envelope", "Stored", "Timer"}

# Entered with `async with` where it is made, and never held.
PASSING = {"Claiming"}


def defined(module_name: str) -> set[str]:
    """Return the public classes that a module itself defines."""
    module = importlib.import_module(module_name)
    return {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def mentioned(hint: Any) -> Iterator[type]:
    """Yield the classes of ours that an annotation speaks of."""
    # A TypedDict only spells keyword arguments, which callers write out.
    if inspect.isclass(hint) and hint.__module__.startswith("sssnbus") and not is_typeddict(hint):
        yield hint
    for arg in get_args(hint):
        # The parameters of a Callable come as a list.
        for part in arg if isinstance(arg, list) else [arg]:
            yield from mentioned(part)


def handed_out(exported: type) -> Iterator[type]:
    """Yield the classes of ours that users meet as arguments and results of a class's public methods."""
    # The message classes are imported where they are used; annotations name them before that.
    door = {name: getattr(sssnbus, name) for name in sssnbus.__all__}
    for name, member in inspect.getmembers(exported):
        function = getattr(member, "fget", member)
        ours = inspect.isfunction(function) and function.__module__.startswith("sssnbus")
        if ours and not name.startswith("_"):
            for hint in get_type_hints(function, localns=door).values():
                yield from mentioned(hint)


@pytest.mark.parametrize("door", DOORS)
def test_exported_names_exist(door: str) -> None:
    """Every exported name is there and appears once, and the list is sorted."""
    module = importlib.import_module(door)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert list(module.__all__) == sorted(set(module.__all__))


@pytest.mark.parametrize("door", DOORS)
def test_exported_names_are_ours(door: str) -> None:
    """No door hands on what belongs to another package."""
    module = importlib.import_module(door)
    values = [getattr(module, name) for name in module.__all__]
    # Constants and type aliases have no home of their own.
    homes = {
        value: value.__module__ for value in values if inspect.isclass(value) or inspect.isroutine(value)
    }
    assert [value for value, home in homes.items() if home.split(".")[0] != "sssnbus"] == []


@pytest.mark.parametrize("door", DOORS)
def test_nothing_else_at_the_door(door: str) -> None:
    """What a door imports it exports: no public name is there by accident."""
    module = importlib.import_module(door)
    names = {name for name, value in vars(module).items() if not inspect.ismodule(value)}
    assert {name for name in names if not name.startswith("_")} <= set(module.__all__)


@pytest.mark.parametrize("module", SURFACE)
def test_nothing_public_is_missing(module: str) -> None:
    """Every public class of the modules that users work with is at the front door."""
    assert defined(module) - INTERNAL - set(sssnbus.__all__) == set()


@pytest.mark.parametrize("door", ["sssnbus", "sssnbus.testing"])
def test_what_users_meet_has_a_name(door: str) -> None:
    """A class that an exported class takes or returns can be imported from a front door too."""
    known = {
        getattr(module, name) for module in map(importlib.import_module, DOORS) for name in module.__all__
    }
    values = [getattr(importlib.import_module(door), name) for name in importlib.import_module(door).__all__]
    met = {met for value in values if inspect.isclass(value) for met in handed_out(value)}
    assert {value.__qualname__ for value in met - known} - INTERNAL - PASSING == set()


def test_internal_names_stay_inside() -> None:
    """What is listed as internal exists, and is not exported after all."""
    assert set().union(*map(defined, SURFACE)) >= INTERNAL
    assert not INTERNAL & set(sssnbus.__all__)


def test_import_is_light() -> None:
    """A bus loads neither the command line, nor what only it needs, nor any engine, nor the models yet."""
    heavy = ["sssnbus.cli", "sssnbus.testing", "rich", "redis", "nats", "asyncpg", "psycopg", "sqlite3"]
    heavy += ["pydantic", "pydantic_core", "anyio"]
    code = f"import sys; from sssnbus import Bus; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.strip() == "[]"


def test_the_door_says_the_same_thrice() -> None:
    """What type checkers read, what is listed and what Python looks up are one list."""
    tree = ast.parse(Path(sssnbus.__file__ or "").read_text())
    read = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sssnbus.")
        for alias in node.names
    }
    assert read == sssnbus._HOMES
    assert {*read, "__version__"} == set(sssnbus.__all__) <= set(dir(sssnbus))


def test_an_unknown_name() -> None:
    """A misspelt name is the error that every module gives."""
    with pytest.raises(AttributeError, match="module 'sssnbus' has no attribute 'Buss'"):
        sssnbus.Buss  # type: ignore[attr-defined]  # noqa: B018
