"""A table of five million orders is scanned in flat memory (bench/big_table.py, which judges itself)."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "big_table.py"


@pytest.mark.slow
def test_big_table_is_scanned_in_flat_memory() -> None:
    measured = subprocess.run(
        [sys.executable, BENCH], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(measured.stdout)
    assert measured.returncode == 0, measured.stdout


def test_memory_does_not_grow_with_the_table() -> None:
    """The same with a table of three hundred thousand, for every run."""
    measured = subprocess.run(
        [sys.executable, BENCH, "--rows", "300000"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert measured.returncode == 0, measured.stdout
