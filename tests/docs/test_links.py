"""A link leads somewhere, in the repository and on the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.reading import PAGES, anchors, links, name_of

LINKS = [(page, target) for page in PAGES for target in links(page)]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda value: name_of(value) if isinstance(value, Path) else value)
def test_a_link_leads_to_a_file_and_a_place_in_it(page: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    assert file.exists()
    if anchor:
        assert anchor in anchors(file)


def test_links_are_seen_at_all() -> None:
    assert len(LINKS) > 200
    assert sum("#" in target for _, target in LINKS) > 10
