"""The patterns of the documentation, run by a shell as people write them."""

from pathlib import Path

import pytest

from tests.cli.test_read import write_by_library
from tests.cli.tools import CROWD_PATIENCE, Result, Run, done, shells

pytestmark = pytest.mark.timeout(CROWD_PATIENCE + 10)


def shell(folder: Path, script: str, **env: str) -> Result:
    """Run a script; it ends at the first command that fails."""
    (ended,) = shells("set -e\n" + script, cwd=folder, env=env)
    return ended


def test_worker_loop(tmp_path: Path) -> None:
    """A loop over ``read`` ends when the queue is empty (SB-140)."""
    write_by_library(tmp_path, "one", "two words", "$HOME `x`")
    script = """
    while msg=$(sssnbus read q 2>/dev/null); do
        printf '[%s]\\n' "$msg"
    done
    """
    assert shell(tmp_path, script) == done("[one]\n[two words]\n[$HOME `x`]\n")


def test_pipes(tmp_path: Path) -> None:
    """Commands write into queues, and queues feed commands (SB-141, SB-143, SB-144, SB-145)."""
    (tmp_path / "logs").mkdir()
    for name in ("a", "b c"):
        (tmp_path / "logs" / f"{name}.log").write_text("x")
    script = """
    df -P . | sssnbus write monitoring -
    find logs -name '*.log' | sort | while read f; do sssnbus write logfiles "$f"; done
    sssnbus list
    sssnbus read monitoring | head -1 | cut -d' ' -f1
    sssnbus read logfiles --all | xargs -P 4 -I {} echo 'got {}' | sort
    """
    assert shell(tmp_path, script) == done(
        "logfiles: 2\nmonitoring: 1\nFilesystem\ngot logs/a.log\ngot logs/b c.log\n"
    )


def test_elsewhere(tmp_path: Path) -> None:
    """A queue in another directory, as over ssh, or by its file (SB-146, SB-147, SB-205)."""
    (tmp_path / "app" / ".tool").mkdir(parents=True)
    script = """
    echo "remote task" | sh -c "cd app && sssnbus write tasks -"
    sh -c "cd app && sssnbus read tasks"
    sssnbus -f "$PWD/app/q.db" write tasks "back up"
    sssnbus -f "$PWD/app/q.db" read tasks
    """
    assert shell(tmp_path, script) == done("remote task\n\nback up\n")


def test_reservation(tmp_path: Path) -> None:
    """Messages are moved aside for work, and deleted by id when it is done (SB-127, SB-148, SB-149)."""
    write_by_library(tmp_path, "a", "b")
    script = """
    sssnbus move q in-process --all --json | while IFS= read -r line; do
        id=$(printf '%s' "$line" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
        printf '%s' "$line" | python3 -c 'import json, sys; print(json.load(sys.stdin)["message"])'
        sssnbus delete in-process -m "$id"
    done
    sssnbus stats in-process
    """
    assert shell(tmp_path, script) == done("a\nb\nin-process: 0 (2 total, 2 claimed)\n")


def test_dead_letter_loop(tmp_path: Path) -> None:
    """What fails goes to a queue of its own, and back for another try (SB-126, SB-150)."""
    write_by_library(tmp_path, "good", "bad")
    script = """
    while line=$(sssnbus peek q -t); do
        id=${line%%\t*}
        case $line in
            *bad) sssnbus move q dlq -m "$id" >/dev/null ;;
            *) echo "done ${line#*\t}"; sssnbus delete q -m "$id" ;;
        esac
    done
    sssnbus list
    sssnbus move dlq q --all
    """
    assert shell(tmp_path, script) == done("done good\ndlq: 1\nbad\n")


WORKER = """
last=0
[ -f checkpoint ] && last=$(cat checkpoint)
seen=0
while line=$(sssnbus peek q -t --after "$last"); do
    id=${line%%\t*}
    job=${line#*\t}
    if [ "$job" = "$FAIL" ]; then
        echo "failed $job" >&2
        exit 1
    fi
    echo "$job"
    last=$id
    printf '%s' "$last" > checkpoint.new && mv checkpoint.new checkpoint
    seen=$((seen + 1))
    [ "$seen" -lt 100 ] || break
done
"""


def test_worker_with_a_checkpoint(tmp_path: Path) -> None:
    """A worker that keeps a checkpoint takes up again where it failed (SB-137, SB-151)."""
    write_by_library(tmp_path, "a", "b", "c")
    first = shell(tmp_path, WORKER, FAIL="b")
    assert first == (1, "a\n", "failed b\n")
    assert shell(tmp_path, WORKER, FAIL="none") == done("b\nc\n")


def test_worker_with_claims(tmp_path: Path) -> None:
    """Claims: what is acked is done, what fails too often becomes a dead letter."""
    write_by_library(tmp_path, "ok", "bad", max_deliveries=1)
    script = """
    while line=$(sssnbus claim q --for 60); do
        id=$(printf '%s' "$line" | cut -f1) token=$(printf '%s' "$line" | cut -f2)
        case $line in
            *bad) sssnbus nack q "$id" "$token" --error "cannot" ;;
            *) sssnbus ack q "$id" "$token"; echo "done" ;;
        esac
    done
    sssnbus dead q list | cut -f2,3,4
    """
    assert shell(tmp_path, script) == done("done\nfailed\t1\tbad\n")


def test_pipeline_of_a_project(tmp_path: Path) -> None:
    """Steps of a build in different directories share one queue (SB-257)."""
    (tmp_path / "frontend").mkdir()
    (tmp_path / "backend" / "deep").mkdir(parents=True)
    script = """
    sssnbus -q init
    (cd frontend && sssnbus write build "compile assets")
    (cd backend/deep && sssnbus read build && sssnbus write registry "api:8080")
    sssnbus peek registry
    """
    assert shell(tmp_path, script, SSSNBUS_PROJECT_SCOPE="true") == done("compile assets\napi:8080\n")
    assert [path.name for path in tmp_path.rglob(".sssnbus.db")] == [".sssnbus.db"]


def test_example_of_claim_help(tmp_path: Path, process: Run) -> None:
    """What the help of ``claim`` shows works as it is printed there."""
    write_by_library(tmp_path, "x y")
    printed = process("claim", "--help").out
    example = printed[printed.index("sssnbus claim jobs --for 60 |") : printed.index("\n\nexit codes")]
    script = 'work() { echo "worked on $1"; }\n' + example.replace("jobs", "q")
    (tmp_path / "example.sh").write_text(script)
    (ended,) = shells("exec bash example.sh", cwd=tmp_path)
    assert ended == done("worked on x y\n")
    assert process("stats", "q") == done("q: 0 (1 total, 1 claimed)\n")
