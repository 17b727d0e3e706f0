"""``sssnbus init``."""

from pathlib import Path

import pytest

from tests.cli.tools import Run, done


def test_init(cli: Run, tmp_path: Path) -> None:
    """It makes the default database here, and keeps one that is there (SB-065, SB-247)."""
    path = tmp_path / ".sssnbus.db"
    assert cli("init") == (0, "", f"Initialized sssnbus database: {path}\n")
    assert path.stat().st_size > 0
    cli("write", "q", "x")
    for words in ([], ["--force"]):
        assert cli("init", *words) == (0, "", f"sssnbus database already exists: {path}\n")
    assert cli("--quiet", "init") == done()
    assert cli("read", "q") == done("x\n")


def test_name(cli: Run, tmp_path: Path) -> None:
    """It honours the name of the default database, and stays in this directory (SB-247)."""
    (tmp_path / "global").mkdir()
    env = {"SSSNBUS_DEFAULT_DB_NAME": "q/jobs.db", "SSSNBUS_DEFAULT_DB_LOCATION": str(tmp_path / "global")}
    assert cli("init", env=env).code == 0
    assert (tmp_path / "q" / "jobs.db").is_file()
    assert list((tmp_path / "global").iterdir()) == []


@pytest.mark.parametrize("words", [["-d", "."], ["-f", "x.db"], ["--dir=."], ["--url", "sqlite:///x.db"]])
def test_no_place(cli: Run, words: list[str], tmp_path: Path) -> None:
    """It refuses a place rather than ignoring it (SB-248)."""
    code, out, err = cli(*words, "init")
    assert (code, out) == (1, "")
    assert "takes no --dir, --file or --url" in err
    assert list(tmp_path.iterdir()) == []


def test_something_else_there(cli: Run, tmp_path: Path) -> None:
    """What is no database of ours is named and kept (SB-254)."""
    path = tmp_path / ".sssnbus.db"
    path.write_text("mine" * 200)
    code, out, err = cli("init")
    assert (code, out) == (1, "")
    assert str(path) in err
    assert path.read_text() == "mine" * 200
