"""The demo as a person starts it: the real daemon in its own process, real sockets, every fault at its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from daemon.sandbox.faults import faults

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@contextmanager
def demo(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running demo, and the mark by which everything it starts is known in this machine's list of processes."""
    mark = f"ORDERHEAL_TEST_MARK={uuid4().hex}"
    env = os.environ | dict([mark.split("=")])
    command = [sys.executable, "-m", "daemon", "demo", *words]
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process, mark
        finally:
            process.kill()


def alive(mark: str) -> list[int]:
    """Processes that carry the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_every_fault_ends_as_its_scenario_says_and_nothing_is_left_running() -> None:
    with demo("--json") as (process, mark):
        out, err = process.communicate()
    told = json.loads(out)
    assert [fault for fault in told["faults"] if not fault["ok"]] == [], err
    assert (process.returncode, told["ok"]) == (0, True)
    assert [fault["fault"] for fault in told["faults"]] == [fault.name for fault in faults()]
    assert {rule["rule"] for rule in told["rules"]} >= {fault.rule for fault in faults()}
    assert not alive(mark)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_in_the_middle_it_takes_everything_down(number: signal.Signals) -> None:
    with demo() as (process, mark):
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "attempt ended" in line:
                break
        running = alive(mark)
        assert len(running) > 1
        process.send_signal(number)
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        process.stdout.read()
        rest.join()
        assert process.wait() == 130
    assert not alive(mark)


def test_without_the_shipped_files_it_says_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "daemon", "demo", "--config", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert "run the demo in the project's own folder" in done.stderr
    assert "Traceback" not in done.stderr
