"""docs/metrics.md names every metric there is, as the daemon itself describes it."""

from project_tools.metrics import PAGE, described, written


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == written(), "run make docs"


def test_every_metric_says_what_it_means() -> None:
    for one in described():
        assert one.help.endswith("."), one.name


def test_units_are_base_units_and_counters_are_totals() -> None:
    for one in described():
        assert not one.name.endswith(("_ms", "_minutes", "_hours", "_kb")), one.name
        assert one.name.endswith("_total") is (one.kind == "counter"), one.name
