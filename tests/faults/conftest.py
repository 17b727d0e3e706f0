"""Fixtures of the tests of faults."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile the library that notes, or fails, what a process does to files; return its path."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        pytest.skip("the shim is written for Linux on 64 bits")
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    made = subprocess.run(
        [cc, "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, source, "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return str(library)
