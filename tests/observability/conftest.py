"""The project's tools under a name of their own: in tests, `tools` is tests/tools.py."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "tools"
spec = importlib.util.spec_from_file_location("project_tools", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])
assert spec is not None
sys.modules.setdefault("project_tools", importlib.util.module_from_spec(spec))
