"""The embedded server: it serves, it shares, it survives a crash, and it leaves everybody's folders alone."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from daemon.store import embedded
from daemon.store.embedded import EmbeddedError, EmbeddedPostgres, refuse_embedded, start_embedded

AS_ROOT = os.geteuid() == 0
HOLDER = """
import sys
from pathlib import Path
from daemon.store.embedded import start_embedded
with start_embedded(Path(sys.argv[1]) if sys.argv[1:] else None, durable=False) as server:
    print(server.pid, server.cluster, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with start_embedded(durable=False) as running:
        yield running


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for fresh folders that only this test knows, so that what is left in it is ours."""
    place = Path(tempfile.mkdtemp(prefix="oh-", dir="/var/tmp"))
    place.chmod(0o755)
    monkeypatch.setattr(embedded, "_OUTSIDE_HOMES", place)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    shutil.rmtree(place)


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder whose server stays, its path short enough for a socket; what root's server has elsewhere goes too."""
    folder = Path(tempfile.mkdtemp(prefix="oh-"))
    yield folder / "kept"
    with suppress(OSError):
        shutil.rmtree((folder / "kept" / "home").readlink())
    shutil.rmtree(folder)


def answer(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def modes(path: Path) -> dict[Path, int]:
    """The mode of the path and of every folder above it."""
    return {folder: folder.stat().st_mode for folder in (path, *path.parents)}


def hold(*arguments: str) -> tuple[subprocess.Popen[str], int, Path]:
    """Another process that uses a server until its input ends; with it the postmaster's pid and data folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid, cluster = process.stdout.readline().split(" ", 1)
    return process, int(pid), Path(cluster.strip())


def end(process: subprocess.Popen[str], how: signal.Signals | None = None) -> None:
    if how:
        process.send_signal(how)
    process.communicate()


def test_it_serves_utf8_in_utc_whatever_the_machine_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "6000", "PGDATA": "/", "LC_ALL": "C", "LANG": "no_SUCH", "TZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(name, value)
    with start_embedded(durable=False) as server:
        assert answer(server.dsn(), "SELECT lower('ЗАКАЗ')") == "заказ"
        assert answer(server.dsn(), "SELECT current_setting('TimeZone')") == "UTC"


def test_a_database_is_made_under_any_name_copied_and_dropped(server: EmbeddedPostgres) -> None:
    name = """shop's "own" база"""
    with psycopg.connect(server.create_database(name)) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 7 AS id")
    assert answer(server.create_database("copy", template=name), "SELECT id FROM orders") == 7
    for database in (name, "copy"):
        server.drop_database(database)
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(server.dsn(database))


def test_nobody_but_its_user_can_reach_the_socket_and_no_port_is_open(server: EmbeddedPostgres) -> None:
    assert server.cluster.stat().st_mode & 0o777 == 0o700
    assert answer(server.dsn(), "SELECT current_setting('listen_addresses')") == ""


def test_no_folder_that_we_did_not_make_changes_its_mode(data: Path) -> None:
    package = embedded._package()
    watched = (data.parent, package, package / "pginstall" / "bin" / "postgres", package / "pginstall" / "lib")
    before = [modes(path) for path in watched]
    for asked in (None, data):
        with start_embedded(asked, durable=False) as running:
            assert answer(running.dsn(), "SELECT 1") == 1
        assert [modes(path) for path in watched] == before


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user's server stays where it was asked for")
def test_for_root_files_and_data_lie_outside_any_home_and_run_as_an_ordinary_user(data: Path) -> None:
    with start_embedded(data, durable=False) as running:
        program = Path(f"/proc/{running.pid}/exe").readlink()
        assert running.cluster.is_relative_to("/var/tmp")
        assert program.is_relative_to("/var/tmp")
        assert Path(f"/proc/{running.pid}").stat().st_uid != 0


def test_kept_data_are_there_the_next_time(data: Path) -> None:
    with start_embedded(data, durable=False) as running:
        dsn = running.create_database("ledger")
    with start_embedded(data, durable=False) as running:
        assert running.dsn("ledger") == dsn
        assert answer(dsn, "SELECT 1") == 1


def test_fresh_data_are_gone_afterwards(scratch: Path) -> None:
    with start_embedded(durable=False) as running:
        assert running.cluster.is_relative_to(scratch)
    assert list(scratch.iterdir()) == []


def test_the_last_user_of_a_folder_stops_the_server_and_no_earlier_one(data: Path) -> None:
    first, pid, cluster = hold(str(data))
    second, same_pid, _ = hold(str(data))
    assert same_pid == pid
    end(first)
    assert answer(EmbeddedPostgres(cluster).dsn(), "SELECT 1") == 1
    end(second)
    assert not (cluster / "postmaster.pid").exists()


def test_a_server_whose_user_was_killed_is_taken_over_and_stopped(data: Path) -> None:
    killed, pid, cluster = hold(str(data))
    end(killed, signal.SIGKILL)
    with start_embedded(data, durable=False) as running:
        assert running.pid == pid
    assert not (cluster / "postmaster.pid").exists()


def test_a_fresh_server_whose_user_was_killed_is_swept_away_by_the_next() -> None:
    killed, _, cluster = hold()
    living, _, held = hold()
    end(killed, signal.SIGKILL)
    with start_embedded(durable=False):
        assert not cluster.parent.exists()
        assert held.exists()
    end(living)


def test_a_killed_initdb_is_not_taken_for_a_database(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = embedded._run

    def die_half_way(home: Path, program: str, *arguments: str) -> None:
        run(home, program, *arguments)
        (Path(arguments[-1]) / "global" / "pg_control").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_run", die_half_way)
        with pytest.raises(KeyboardInterrupt), start_embedded(data, durable=False):
            pass
    with start_embedded(data, durable=False) as running:
        assert answer(running.dsn(), "SELECT 1") == 1


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user has no link")
def test_data_that_vanished_are_an_error_and_not_an_empty_database(data: Path) -> None:
    with start_embedded(data, durable=False) as running:
        embedded_home = running.cluster.parent
    shutil.rmtree(embedded_home)
    with pytest.raises(EmbeddedError, match="remove the link"), start_embedded(data):
        pass


def test_a_server_that_cannot_start_says_why_in_one_line(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_SERVER", "-c no_such_setting=1")
    with pytest.raises(EmbeddedError, match=r"pg_ctl .* failed: .*store\.url") as caught, start_embedded():
        pass
    assert "\n" not in str(caught.value)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
def test_data_too_deep_for_a_socket_have_it_elsewhere_and_only_while_it_is_served(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    deep, short = scratch / ("d" * 80), scratch / "s"
    for folder in (deep, short):
        folder.mkdir(mode=0o755)
    monkeypatch.setattr(embedded, "_OUTSIDE_HOMES", deep)
    monkeypatch.setattr(embedded, "_SOCKETS", short)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with start_embedded(deep / "kept" if kept else None, durable=False) as server:
        assert answer(server.dsn(), "SELECT 1") == 1
        assert server.cluster.is_relative_to(deep)
        assert server.sockets.parent == short
        assert server.sockets.stat().st_mode & 0o777 == 0o700
    assert list(short.iterdir()) == []


def test_without_the_package_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"orderheal\[embedded\]"), start_embedded():
        pass


@pytest.mark.parametrize(
    ("environment", "env", "refused"),
    [
        pytest.param("test", {}, None, id="elsewhere it is welcome"),
        pytest.param("production", {}, "production", id="a production needs a database of its own"),
        pytest.param("test", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes", id="it would end with its pod"),
    ],
)
def test_it_is_refused_where_incidents_must_outlive_it(
    environment: str, env: dict[str, str], refused: str | None
) -> None:
    reason = refuse_embedded(environment, env)
    assert reason is None if refused is None else reason is not None and refused in reason and "store.url" in reason
