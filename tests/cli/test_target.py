"""Where the database is: directories, files, links, projects."""

import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cli.tools import COMMAND, Run, done, environment, inside

SCOPE = {"SSSNBUS_PROJECT_SCOPE": "1"}
CONFIG = 'version = 1\nbackend = "sqlite"\ntarget = "data/jobs.db"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a directory with two more below it."""
    (tmp_path / "project" / "a" / "b").mkdir(parents=True)
    return tmp_path / "project"


def test_directory_and_file(cli: Run, tmp_path: Path) -> None:
    """A directory has its own database, unless others are named (SB-030, SB-031, SB-240)."""
    sub = tmp_path / "sub"
    sub.mkdir()
    for words, path in (
        ([], ".sssnbus.db"), (["-d", "sub"], "sub/.sssnbus.db"), (["--dir=sub"], "sub/.sssnbus.db"),
        (["-f", "x.db"], "x.db"), (["-d", "sub", "-f", "y.db"], "sub/y.db"),
        (["--file=sub/z.db"], "sub/z.db"),
        (["-d", str(sub), "--file", "y.db"], "sub/y.db"), (["-f", "./dot.db"], "dot.db"),
    ):  # fmt: skip
        assert cli(*words, "write", "q", path) == done()
        assert (tmp_path / path).is_file(), path
        assert cli(*words, "read", "q") == done(f"{path}\n")
    assert cli("-d", "sub", "list", "--stats").out != cli("list", "--stats").out


def test_absolute_file(cli: Run, tmp_path: Path) -> None:
    """An absolute file carries its directory, with which ``-d`` must agree (SB-032, SB-033, SB-147)."""
    path = tmp_path / "sub" / "x.db"
    path.parent.mkdir()
    assert cli("-f", str(path), "write", "q", "x") == done()
    assert cli("-d", str(path.parent), "-f", str(path), "read", "q") == done("x\n")
    code, out, err = cli("-d", str(tmp_path), "-f", str(path), "read", "q")
    assert (code, out) == (1, "")
    assert "Inconsistent paths" in err
    assert "conflicts with directory" in err


def test_old_sqlite(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an SQLite that is too old the error says which one is needed (SB-005)."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    code, out, err = cli("write", "q", "x")
    assert (code, out) == (1, "")
    assert "SQLite 3.35 or newer is needed" in err


def test_removed_directory(cli: Run, tmp_path: Path) -> None:
    """In a directory that was removed a command says what is wrong; an absolute path works there too."""
    path = tmp_path / "x.db"
    assert cli("-f", str(path), "write", "q", "x") == done()
    (tmp_path / "gone").mkdir()
    script = f'cd gone && rmdir ../gone && "$@" && {COMMAND} read q'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", COMMAND, "-f", str(path), "peek", "q"],
        capture_output=True, text=True, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "x\n")
    assert "The current directory was removed" in ended.stderr


def test_empty_directory(cli: Run, tmp_path: Path) -> None:
    """Nothing there is no error."""
    (tmp_path / "sub").mkdir()
    assert cli("-d", "sub", "list") == cli("-d", "sub", "-f", "x.db", "list") == done()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-d", "missing"], "Directory not found: missing"),
        (["-d", "file"], "Path is a file, not a directory"),
        (["-f", "../x.db"], "must not contain parent directory references"),
        (["--file=a/../../x.db"], "must not contain parent directory references"),
        (["-f", "/tmp/../x.db"], "must not contain parent directory references"),
        (["-f", "missing/x.db"], "directory does not exist"),
        (["-f", "sub"], "not a regular file"),
        (["-f", "n" * 300], "sssnbus: error: "),
        (["--url", "sqlite:///x.db", "-f", "y.db"], "--url cannot be used with"),
        (["--url", "nonsense"], "Invalid store URL"),
        (["--url", "ftp://x"], "Invalid store URL"),
        (["--url", "memory://"], "ends with this command"),
        *((["-d", f"a{sign}b"], "must not contain the character") for sign in "|&;$`\"'<>*?\n\r\t\x7f\x01"),
        *((["-f", f"a{sign}b"], "must not contain the character") for sign in "|&;$`\"'<>*?\n\r\t\x7f\x01"),
    ],
)
def test_refused_places(cli: Run, words: list[str], why: str, tmp_path: Path) -> None:
    """What cannot be meant is refused with a reason, before anything is made (SB-030, SB-034)."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "sub").mkdir()
    code, out, err = cli(*words, "write", "q", "x")
    assert (code, out) == (1, "")
    assert why in err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "sub"]


def test_links(cli: Run, tmp_path: Path) -> None:
    """A relative file must not lead out of its directory; other links are followed (SB-034)."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.mkdir()
    run = partial(inside, cwd=home)
    (home / "away.db").symlink_to(outside / "x.db")
    (home / "again.db").symlink_to("away.db")
    (home / "folder").symlink_to(outside)
    for name in ("away.db", "again.db", "folder/x.db"):
        code, out, err = run("-f", name, "write", "q", "x")
        assert (code, out) == (1, "")
        assert "must be within the working directory" in err
    assert list(outside.iterdir()) == []
    (home / "near.db").symlink_to("real.db")
    (home / "chain.db").symlink_to("near.db")
    assert run("-f", "chain.db", "write", "q", "x") == done()
    assert (home / "real.db").is_file()
    assert run("-f", str(home / "away.db"), "write", "q", "y") == done()
    assert (outside / "x.db").is_file()
    (home / "loop.db").symlink_to("loop.db")
    assert run("-f", "loop.db", "write", "q", "x").code == 1


def foreign_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield files that are no stores of ours, and what is said of each."""
    text = folder / "text.db"
    text.write_text("root:x:0:0:root:/root:/bin/bash\n" * 40)
    yield text, "not a valid SQLite database"
    short = folder / "short.db"
    short.write_text("x")
    yield short, "not a valid SQLite database"
    other = folder / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE meta (key TEXT, value TEXT)")
    connection.close()
    yield other, "of another program"
    marked = folder / "marked.db"
    with sqlite3.connect(marked) as connection:
        connection.executescript("CREATE TABLE t (x); PRAGMA application_id = 123456;")
    connection.close()
    yield marked, "of another program"
    newer = folder / "newer.db"
    inside("-f", str(newer), "write", "q", "x")
    with sqlite3.connect(newer) as connection:
        connection.executescript("PRAGMA journal_mode = DELETE; PRAGMA user_version = 99;")
    connection.close()
    (folder / "newer.db.wlock").unlink()
    yield newer, "version 99"


def test_foreign_files(cli: Run, tmp_path: Path) -> None:
    """A file that is no store of ours is refused by all verbs and left as it was (SB-024, SB-254)."""
    for path, why in foreign_files(tmp_path):
        before = path.read_bytes()
        for words in (
            ["write", "q", "x"], ["read", "q"], ["list"], ["--status"], ["--vacuum"], ["--cleanup"],
            ["watch", "q"], ["delete", "--all"], ["alias", "list"],
        ):  # fmt: skip
            code, out, err = cli("-f", path.name, *words)
            assert (code, out) == (1, ""), (path, words)
            assert why in err, (path, words)
            assert "untouched" in err
        code, out, err = cli("-f", path.name, "list", "--json")
        assert (code, out) == (1, "")
        assert err.startswith('{"error": "ERROR", "message": ')
        assert path.read_bytes() == before
        assert sorted(other.name for other in tmp_path.glob(f"{path.name}*")) == [path.name]
        path.rename(tmp_path / ".sssnbus.db")
        assert cli("init").code == 1
        assert cli("--cleanup").code == 1
        (tmp_path / ".sssnbus.db").unlink()


def test_system_file(cli: Run) -> None:
    """A file of the system is no database either."""
    before = Path("/etc/passwd").read_bytes()
    code, out, err = cli("-f", "/etc/passwd", "write", "q", "x")
    assert (code, out) == (1, "")
    assert "sqlite" in err.lower()
    assert Path("/etc/passwd").read_bytes() == before


def test_damaged_database(cli: Run, tmp_path: Path) -> None:
    """A damaged database of ours is refused in one sentence, and kept."""
    cli("write", "q", "x")
    path = tmp_path / ".sssnbus.db"
    data = bytearray(path.read_bytes())
    data[100:4096] = os.urandom(3996)
    path.write_bytes(data)
    for words in (["read", "q"], ["--cleanup"], ["list"]):
        code, out, err = cli(*words)
        assert (code, out) == (1, "")
        assert "Traceback" not in err
    assert path.read_bytes() == bytes(data)


def test_url(cli: Run, tmp_path: Path) -> None:
    """``--url`` names any store there is; SSSNBUS_URL does so when nothing nearer is named."""
    url = f"sqlite:///{tmp_path}/by-url.db"
    assert cli("--url", url, "write", "q", "x") == done()
    assert cli(f"--url={url}", "peek", "q") == done("x\n")
    env = {"SSSNBUS_URL": url}
    assert cli("read", "q", env=env) == done("x\n")
    assert cli("-f", "other.db", "write", "q", "y", env=env) == done()
    assert {path.name for path in tmp_path.glob("*.db")} == {"by-url.db", "other.db"}
    assert cli("--url", url, "init").code == 1
    code, out, err = cli("--url", url, "--cleanup")
    assert (code, out) == (1, "")
    assert "delete --all" in err


def test_location_and_name(cli: Run, tmp_path: Path) -> None:
    """The environment moves and names the default database (SB-231, SB-235, SB-242, SB-244)."""
    (tmp_path / "global").mkdir()
    env = {"SSSNBUS_DEFAULT_DB_LOCATION": str(tmp_path / "global"), "SSSNBUS_DEFAULT_DB_NAME": ".jobs/q.db"}
    assert cli("write", "q", "x", env=env) == done()
    assert (tmp_path / "global" / ".jobs" / "q.db").is_file()
    assert cli("read", "q", env=env) == done("x\n")
    for name in ("/abs.db", "a/b/c.db", "../x.db", "a/", "..", "x/.."):
        code, _, err = cli("list", env={"SSSNBUS_DEFAULT_DB_NAME": name})
        assert code == 1
        assert "SSSNBUS_DEFAULT_DB_NAME" in err
    assert "SSSNBUS_DEFAULT_DB_LOCATION" in cli("list", env={"SSSNBUS_DEFAULT_DB_LOCATION": "rel"}).err
    missing = {"SSSNBUS_DEFAULT_DB_LOCATION": str(tmp_path / "missing")}
    assert "Directory not found" in cli("list", env=missing).err


def test_scope_finds_the_database_above(project: Path) -> None:
    """With scope one database serves all directories below (SB-236, SB-241, SB-243, SB-244, SB-257)."""
    elsewhere = {"SSSNBUS_DEFAULT_DB_LOCATION": str(project.parent)}
    for name in (".sssnbus.db", "named.db", ".jobs/q.db"):
        env = SCOPE | elsewhere | {"SSSNBUS_DEFAULT_DB_NAME": name}
        assert inside("init", cwd=project, env=env).code == 0
        assert (project / name).is_file()
        assert inside("write", "q", name, cwd=project / "a" / "b", env=env) == done()
        assert inside("read", "q", cwd=project / "a", env=env) == done(f"{name}\n")
    assert [path for path in (project / "a").rglob("*") if path.is_file()] == []
    assert inside("write", "q", "own", cwd=project / "a") == done(), "without scope each directory is alone"
    assert (project / "a" / ".sssnbus.db").is_file()


def test_scope_without_a_project(project: Path) -> None:
    """With project scope and no project, nothing is made, and the error says what to do (SB-246)."""
    for words in (["write", "q", "x"], ["read", "q"], ["list"], ["--status"], ["--cleanup"]):
        code, out, err = inside(*words, cwd=project, env=SCOPE)
        assert (code, out) == (1, "")
        for part in ("SSSNBUS_PROJECT_SCOPE", ".sssnbus.db", "Run 'sssnbus init'"):
            assert part in err
    assert [path for path in project.rglob("*") if path.is_file()] == []
    assert inside("-f", "x.db", "write", "q", "x", cwd=project, env=SCOPE) == done()


def test_scope_passes_what_is_not_ours(project: Path, tmp_path: Path) -> None:
    """The search passes foreign files and links in a circle, and has an end (SB-253, SB-254)."""
    inside("init", cwd=project)
    for level, make in ((project / "a", "text"), (project / "a" / "b", "loop")):
        path = level / ".sssnbus.db"
        path.write_text("no database " * 100) if make == "text" else path.symlink_to(path)
    assert inside("write", "q", "x", cwd=project / "a" / "b", env=SCOPE) == done()
    assert inside("read", "q", cwd=project) == done("x\n")
    deep = project.joinpath(*["d"] * 110)
    deep.mkdir(parents=True)
    assert "Run 'sssnbus init'" in inside("list", cwd=deep, env=SCOPE).err, (
        "100 levels are far enough (SB-252)"
    )


def test_project_file(project: Path) -> None:
    """A project file says where the database is, and beats one that lies beside it (SB-249, SB-272)."""
    (project / ".sssnbus.toml").write_text(CONFIG)
    below = project / "a" / "b"
    inside("init", cwd=below)
    assert inside("init", cwd=below, env=SCOPE).err.startswith("Initialized")
    target = project / "data" / "jobs.db"
    assert target.is_file()
    assert inside("init", cwd=below, env=SCOPE).err == f"sssnbus database already exists: {target}\n"
    assert inside("write", "q", "x", cwd=below, env=SCOPE) == done()
    assert inside("--status", cwd=project, env=SCOPE).lines[0] == "total_messages: 1"
    assert inside("read", "q", cwd=project / "a", env=SCOPE) == done("x\n")
    assert inside("list", "--stats", cwd=below) == done()
    assert inside("--cleanup", cwd=below, env=SCOPE).err == f"Database cleaned up: {target}\n"
    assert not target.exists()
    assert inside("write", "q", "again", cwd=below, env=SCOPE) == done()


def test_project_file_by_another_name(project: Path) -> None:
    """Name and directory of the project file are settings (SB-232, SB-233, SB-245)."""
    (project / ".conf").mkdir()
    (project / ".conf" / "jobs.toml").write_text(CONFIG.replace("data/", ""))
    for env in (
        {"SSSNBUS_PROJECT_CONFIG_NAME": "jobs.toml", "SSSNBUS_PROJECT_CONFIG_PATH": ".conf"},
        {"SSSNBUS_PROJECT_CONFIG_NAME": "jobs.toml", "SSSNBUS_PROJECT_CONFIG_PATH": str(project / ".conf")},
        {"SSSNBUS_PROJECT_CONFIG_NAME": ".conf/jobs.toml"},
    ):
        assert inside("write", "q", "x", cwd=project / "a", env=SCOPE | env) == done()
    assert inside("-f", str(project / ".conf" / "jobs.db"), "stats", "q") == done("q: 3\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("junk", "cannot be read"),
        ('version = 2\nbackend = "sqlite"\ntarget = "x"', "version = 1"),
        ('version = true\nbackend = "sqlite"\ntarget = "x"', "version = 1"),
        ('backend = "sqlite"\ntarget = "x"', "version = 1"),
        ('version = 1\ntarget = "x"', "backend must be"),
        ('version = 1\nbackend = "sqlite"', "target must be"),
        ('version = 1\nbackend = "sqlite"\ntarget = 3', "target must be"),
        ('version = 1\nbackend = "sqlite"\ntarget = "redis://x"', "path of a file"),
        ('version = 1\nbackend = "oracle"\ntarget = "x"', "sqlite, postgresql, redis or nats"),
        ('version = 1\nbackend = "redis://u:secret@x"\ntarget = "x"', "backend='***' cannot be used"),
        (CONFIG + "surprise = 1", "'surprise' is not one of"),
        (CONFIG + "[backend_options]\nsurprise = 1", "backend_options may hold"),
        ("\xff", "cannot be read"),
    ],
)
def test_bad_project_file(project: Path, text: str, why: str) -> None:
    """A project file that is not understood is an error that names it, and nothing is made (SB-251)."""
    (project / ".sssnbus.toml").write_bytes(text.encode("latin-1"))
    for words in (["write", "q", "x"], ["init"]):
        code, out, err = inside(*words, cwd=project, env=SCOPE)
        assert (code, out) == (1, "")
        assert why in err
        assert ".sssnbus.toml" in err
    assert [path.name for path in project.rglob("*") if path.is_file()] == [".sssnbus.toml"]


def test_precedence(project: Path) -> None:
    """Six worked cases, the strongest place first (SB-237, SB-250)."""
    below = project / "a" / "b"
    server = {"SSSNBUS_BACKEND": "postgres", "SSSNBUS_BACKEND_HOST": "127.0.0.1", "SSSNBUS_BACKEND_PORT": "9"}

    def where(*words: str, **env: str) -> str:
        code, _, err = inside(*words, "write", "q", "x", cwd=below, env=env)
        if code:
            return "server" if "postgresql" in err else err
        (found,) = [path for path in project.rglob("*.db") if inside("-f", str(path), "read", "q").code == 0]
        return str(found.relative_to(project))

    assert where() == "a/b/.sssnbus.db", "1. nothing is set: here"
    (below / ".sssnbus.db").unlink()
    assert where(**server) == "server", "2. the environment names another store"
    assert where("-f", "x.db", **server, **SCOPE) == "a/b/x.db", "3. the words win against all"
    inside("init", cwd=project)
    assert where(**SCOPE, **server) == ".sssnbus.db", "4. a project database wins against the environment"
    (project / "a" / ".sssnbus.toml").write_text(CONFIG)
    inside("init", cwd=below)
    assert where(**SCOPE, **server) == "a/data/jobs.db", "5. a project file wins against nearer databases"
    (project / "a" / ".sssnbus.toml").write_text(
        'version = 1\nbackend = "postgresql"\ntarget = "postgresql://me@127.0.0.1:9/x"\n'
    )
    assert where(**SCOPE) == "server", "6. a project file may name a server"


def test_modes_of_directories_that_are_made(project: Path) -> None:
    """The directory that a project file names is made, and the file is its owner's alone (SB-124, SB-256)."""
    (project / ".sssnbus.toml").write_text(CONFIG)
    assert inside("write", "q", "x", cwd=project, env=SCOPE) == done()
    assert stat.S_IMODE((project / "data" / "jobs.db").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_access(cli: Run, tmp_path: Path) -> None:
    """A database that may not be written is refused in one sentence (SB-256)."""
    cli("write", "q", "x")
    (tmp_path / ".sssnbus.db").chmod(0o444)
    assert "read-only" in cli("write", "q", "x").err


def test_closed_doors(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be read is passed by the search, as if it were not there (SB-255)."""
    inside("init", cwd=project)
    inside("init", cwd=project / "a")
    shut = str(project / "a" / ".sssnbus.db")

    def guarded(path: str, mode: str) -> object:
        if path == shut:
            raise PermissionError(path)
        return open(path, mode)

    monkeypatch.setattr("sssnbus.cli.target.open", guarded, raising=False)
    assert inside("write", "q", "x", cwd=project / "a" / "b", env=SCOPE) == done()
    monkeypatch.undo()
    assert inside("read", "q", cwd=project) == done("x\n")
