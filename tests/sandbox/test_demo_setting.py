"""The demo gives the daemon files and environment, and changes nothing that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from daemon.demo.setting import CannotDemo, lay_out, with_storm
from daemon.demo.watch import sentence

FAMILY = """\
name: order-not-sent
matrix:
  - {name: kaspi-order-not-sent,  shop: kaspi,  title: Kaspi,  method: fetchorder}
  - {name: namshi-order-not-sent, shop: namshi, title: Namshi, method: notifyOrder}

detect: {}
"""


def test_the_family_gets_a_fifth_member_and_keeps_the_rest() -> None:
    before, after = yaml.safe_load(FAMILY), yaml.safe_load(with_storm(FAMILY))
    storm = after["matrix"].pop()
    assert (storm["name"], storm["shop"]) == ("storm-order-not-sent", "storm")
    assert after == before


def test_a_family_of_another_shape_is_refused_in_one_line() -> None:
    with pytest.raises(CannotDemo, match="namshi-order-not-sent"):
        with_storm("matrix: []\n")


def test_a_folder_without_the_shipped_files_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CannotDemo, match="run the demo in the project's own folder"):
        lay_out(tmp_path, tmp_path / "config.yaml", "127.0.0.1:1")


def test_the_second_configuration_file_points_at_its_own_rules(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    (shipped / "rules").mkdir(parents=True)
    (shipped / "config.yaml").write_text("{}")
    (shipped / "rules" / "order-not-sent.yaml").write_text(FAMILY)
    folder = tmp_path / "demo"
    folder.mkdir()
    setting = lay_out(folder, shipped / "config.yaml", "127.0.0.1:1")
    over = yaml.safe_load(setting.configs[1].read_text())
    assert setting.configs[0] == shipped / "config.yaml"
    assert (folder / over["rules"]["path"] / "order-not-sent.yaml").is_file()
    assert (shipped / "rules" / "order-not-sent.yaml").read_text() == FAMILY
    assert "storm-db" in over["connectors"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"at": "2026-03-02T12:00:00Z", "level": "info", "message": "incident ended", "key": "OZ-1"}', "12:00:00 incident ended OZ-1"),
        ('{"at": "2026-03-02T12:00:00Z", "message": "decision changed", "key": "ST-1"}', None),
        ("Traceback", "Traceback"),
        ("[]", "[]"),
        ("", None),
    ],
)
def test_a_line_of_the_log_reads_as_a_sentence_unless_it_is_about_one_of_a_crowd(line: str, told: str | None) -> None:
    assert sentence(line, frozenset({"ST-1"})) == told
