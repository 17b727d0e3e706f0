"""``sssnbus write``."""

import os
import pty
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.tools import COMMAND, NOTHING, Run, done, environment

LIMIT = 10 * 1024 * 1024

MESSAGES = [
    "ship it", "", " ", "\n", "a\nb\n", "tab\there", "\"quoted\" 'twice'", "back\\slash", "\x01\x1b[31m\x7f",
    "naïve ünïcode 日本語 🚀", "-", "--", "--cleanup", "-q", "--help", "$(rm -rf /); `x` && | > <",
    "'; DROP TABLE message; --", "\r\n", "x" * 100_000,
]  # fmt: skip


def test_first_write_makes_the_store(process: Run, tmp_path: Path) -> None:
    """Nothing is set up before the first write; there is one database in the directory (SB-006, SB-007).

    What is written is read back, and gone then (SB-010, SB-110). Only its owner can read the files (SB-124).
    """
    assert process("write", "tasks", "ship it") == done()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {".sssnbus.db", ".sssnbus.db.wlock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert process("read", "tasks") == done("ship it\n")
    assert process("read", "tasks") == NOTHING


@pytest.mark.parametrize("message", [m for m in MESSAGES if m != "-"])
def test_messages_are_kept_byte_for_byte(cli: Run, message: str) -> None:
    """Whatever a message holds, it is data, and comes back as it was (SB-120, SB-123)."""
    assert cli("write", "q", message) == done()
    assert cli("write", "q", stdin=message) == done()
    assert cli("read", "q") == done(message + "\n")
    assert cli("read", "q", "--all").out == message + "\n"


@pytest.mark.parametrize("words", [[], ["-"]])
def test_stdin(cli: Run, words: list[str]) -> None:
    """Without a message, or for ``-``, stdin is the message, to its last newline (SB-011, SB-012, SB-013)."""
    assert cli("write", "q", *words, stdin="hi\n") == done()
    assert cli("write", "q", *words, stdin="") == done()
    assert cli("read", "q") == done("hi\n\n")
    assert cli("read", "q") == done("\n")


def test_two_dashes(cli: Run) -> None:
    """``--`` may stand before the operands (SB-050)."""
    assert cli("write", "q", "--", "--a") == done()
    assert cli("write", "--", "q", "b") == done()
    assert cli("read", "q", "--all") == done("--a\nb\n")


def test_missing_and_surplus_words(cli: Run, tmp_path: Path) -> None:
    """Without a queue, and with a word too many, nothing is written (SB-051)."""
    assert cli("write").code == 1
    assert "required: queue" in cli("write").err
    assert "unrecognized arguments: b" in cli("write", "q", "a", "b").err
    assert "unrecognized arguments" in cli("write", "q", "a", "--dir=sub").err
    assert list(tmp_path.iterdir()) == []


def test_help(cli: Run) -> None:
    """In place of the queue, which it cannot be, ``--help`` is one."""
    for word in ("-h", "--help"):
        code, out, err = cli("write", word)
        assert (code, err) == (0, "")
        assert "usage: sssnbus write" in out
        assert "examples:" in out


def test_terminal(tmp_path: Path) -> None:
    """Nobody waits for a message to be typed unless ``-`` asks for it."""
    parent, child = pty.openpty()
    try:
        ended = subprocess.run(
            [COMMAND, "write", "q"],
            stdin=child,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
        )
    finally:
        os.close(parent)
        os.close(child)
    assert ended.returncode == 1
    assert "message is required when stdin is a terminal; pass a message or pipe input" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_locale(process: Run) -> None:
    """A message is the bytes that were given, in UTF-8, whatever the locale says they are."""
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert process("write", "q", "naïve 日本語 🚀", env=plain) == done()
    assert process("read", "q", env=plain) == done("naïve 日本語 🚀\n")


def test_stdin_that_is_no_text(cli: Run) -> None:
    """Bytes that are no UTF-8 are refused, and so is an argument."""
    code, out, err = cli("write", "q", stdin=b"abc\xff")
    assert (code, out) == (1, "")
    assert "not UTF-8 (byte 3)" in err
    assert cli("write", "q", os.fsdecode(b"\xff")).err == "sssnbus: error: the message is not UTF-8\n"
    assert cli("list") == done()


def test_size(cli: Run) -> None:
    """The limit counts bytes of UTF-8, and is the largest message that is taken (SB-122)."""
    for words, stdin in ((["x" * LIMIT], ""), ([], "é" * (LIMIT // 2))):
        assert cli("write", "q", *words, stdin=stdin) == done()
    sizes = [len(line.encode()) for line in cli("read", "q", "--all").lines]
    assert sizes == [LIMIT, LIMIT]
    for words, stdin in ((["x" * LIMIT + "y"], ""), ([], "é" * (LIMIT // 2) + "x")):
        code, out, err = cli("write", "q", *words, stdin=stdin)
        assert (code, out) == (1, "")
        assert f"exceeds maximum size of {LIMIT} bytes" in err
    assert cli("broadcast", "-", stdin="x" * (LIMIT + 1)).code == 1
    assert cli("peek", "q") == NOTHING


def test_eleven_megabytes(process: Run, tmp_path: Path) -> None:
    """Far too much on stdin fails soon, and leaves no store behind (SB-122)."""
    code, out, err = process("write", "q", "-", stdin=b"x" * 11 * 1024 * 1024, timeout=10)
    assert (code, out) == (1, "")
    assert "exceeds maximum size" in err
    assert process("write", "q", "123456", env={"SSSNBUS_MAX_MESSAGE_SIZE": "5"}).code == 1
    assert list(tmp_path.iterdir()) == []


def test_size_setting(cli: Run) -> None:
    """SSSNBUS_MAX_MESSAGE_SIZE is the limit instead, in both directions (SB-122, SB-234)."""
    small, large = {"SSSNBUS_MAX_MESSAGE_SIZE": "5"}, {"SSSNBUS_MAX_MESSAGE_SIZE": str(LIMIT + 1)}
    assert cli("write", "q", "12345", env=small) == done()
    assert "exceeds maximum size of 5 bytes" in cli("write", "q", "123456", env=small).err
    assert "exceeds maximum size of 5 bytes" in cli("broadcast", "123456", env=small).err
    assert cli("write", "q", "x" * (LIMIT + 1), env=large) == done()
    assert cli("broadcast", "x" * (LIMIT + 1), env=large) == done()
    assert [len(line) for line in cli("read", "q", "--all").lines] == [5, LIMIT + 1, LIMIT + 1]
