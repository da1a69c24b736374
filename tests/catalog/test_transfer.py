"""Promises of a transfer: sent once, followed to its end; after silence it is looked for and never sent again by itself."""

import base64
import email
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.catalog import (
    CatalogSettings,
    Format,
    Import,
    Memory,
    NoSuchImport,
    NotEnded,
    NotKnown,
    NotPushed,
    Transfer,
    Verdict,
    follow,
    read,
    request_id_of,
)
from daemon.catalog import Catalogue as File
from daemon.connectors.http import HttpConnector
from daemon.domain.attempt import Outcome, Reply, Result
from daemon.engine.ports import Unreachable
from daemon.language.mistake import Mistakes
from daemon.sandbox.scenario import Answer, Word
from tests.catalog.conftest import ROOT, Ways, declared, opened, text, workbook
from tests.net.loopback import NOW, World, answer, serving

SIX_HOURS = timedelta(hours=6)


def catalogue(folder: Path, data: bytes | None = None, format_: Format = "csv") -> File:
    file = folder / f"каталог \"KZ\".{format_}"
    file.write_bytes(data or text().encode())
    return read(file, format_, ";" if format_ == "csv" else "", CatalogSettings())


def transfer(ways: Ways, folder: Path) -> Transfer:
    return Transfer(ways.service, ways.lamoda, ways.clock, Memory(folder / ".orderheal"))


def script(ways: Ways, *words: Word) -> None:
    ways.market.world.script("lamoda-integration.save_csv", [Answer(answer=word) for word in words])


def arrived(ways: Ways, feed: str, total: int = 3) -> None:
    """Somebody's import begins."""
    row = {"feed": feed, "created_at": ways.market.world.now, "total": total}
    ways.market.world.change({"lamoda.feeds": (row,), "lamoda.feed_status": ({**row, "errors": []},)})


async def followed(ways: Ways, request_id: str) -> tuple[Import, list[Import | str]]:
    shown: list[Import | str] = []
    return await follow(ways.lamoda, request_id, ways.clock, SIX_HOURS, shown.append, at_once=False), shown


async def test_a_catalogue_is_pushed_and_followed_until_its_import_has_ended(tmp_path: Path) -> None:
    async with opened() as ways:
        pushed = await transfer(ways, tmp_path).push(catalogue(tmp_path), NOW)
        assert pushed.request_id in ways.market.world.rows["lamoda.feeds"]
        ended, shown = await followed(ways, pushed.request_id or "")
        assert (ended.status, ended.total, ended.processed, ended.failed) == ("Finished", 3, 3, 1)
        assert ended.errors == ({"sku": "A-2", "message": "Negative value is not allowed"},)
        assert ended.verdict is Verdict.PARTIAL
        assert [(each.status, each.processed) for each in shown if isinstance(each, Import)] == [("Processing", n) for n in (0, 0, 1)]
        assert len(ways.market.uploads) == 1


@pytest.mark.parametrize("format_", ["csv", "xlsx"])
async def test_either_format_is_taken(tmp_path: Path, format_: Format) -> None:
    data = workbook() if format_ == "xlsx" else text().encode()
    async with opened() as ways:
        pushed = await transfer(ways, tmp_path).push(catalogue(tmp_path, data, format_), NOW)
        assert ways.market.world.rows["lamoda.feed_status"][pushed.request_id or ""]["total"] == 3


async def test_a_file_arrives_byte_by_byte_whatever_is_in_it() -> None:
    every = bytes(range(256)) * 4
    said = {"headers": "csv", "separator": ";", "file_name": 'a "b"\r\n.csv', "file": base64.b64encode(every).decode()}
    async with serving(answer(200, "<SuccessResponse/>")) as server:
        http = HttpConnector("lamoda-integration", declared(server.address), World().tools)
        request = http.prepare("save_csv", said, "k")
        assert request == http.prepare("save_csv", said, "k"), "pure"
        assert (await http.perform(request)).result is Result.DONE
        await http.close()
    (seen,) = server.seen
    parts = email.message_from_bytes(b"Content-Type: " + seen.headers["content-type"].encode() + b"\r\n\r\n" + seen.body).get_payload()
    found = {part.get_param("name", header="content-disposition"): part for part in parts}  # type: ignore[union-attr]
    assert list(found) == ["headers", "separator", "file"]
    assert found["separator"].get_payload() == ";"  # type: ignore[union-attr]
    assert found["file"].get_filename() == "a %22b%22%0D%0A.csv"  # type: ignore[union-attr]
    assert b"\r\n\r\n" + every + b"\r\n--" in seen.body


async def test_finished_means_nothing_by_itself() -> None:
    def verdict(status: str, total: int | None, failed: int | None, errors: Sequence[dict[str, str]] = ()) -> Verdict:
        return Import("f", status, "ProductCreate", total, total, failed, tuple(errors)).verdict

    assert verdict("Finished", 3, 0) is Verdict.OK
    assert verdict("Finished", 3, 1) is Verdict.PARTIAL
    assert verdict("Finished", 3, 3) is Verdict.FAILED
    assert verdict("Finished", 3, None) is Verdict.UNKNOWN
    assert verdict("Finished", 3, 0, [{"sku": "a", "message": "b"}]) is Verdict.PARTIAL
    assert verdict("Error", 3, 0) is Verdict.FAILED
    assert verdict("Canceled", 3, 0) is Verdict.FAILED


async def test_the_first_look_comes_after_half_a_minute_and_later_ones_more_seldom(tmp_path: Path) -> None:
    async with opened() as ways:
        ways.market.world.change({"lamoda.feed_status": ({"feed": "f", "status": "Processing", "created_at": NOW, "errors": []},)})
        with pytest.raises(NotEnded, match="Processing"):
            await follow(ways.lamoda, "f", ways.clock, timedelta(minutes=20), lambda found: None, at_once=False)
        waits = ways.clock.slept
        assert waits[0] == 30
        assert waits[:-1] == sorted(waits[:-1])
        assert max(waits) == 120
        assert sum(waits) == 20 * 60


async def test_following_goes_on_through_throttling_and_outages(tmp_path: Path) -> None:
    async with opened() as ways:
        pushed = await transfer(ways, tmp_path).push(catalogue(tmp_path), NOW)
        seller, shown = ways.listeners[0], list[Import | str]()
        await seller.shut()

        async def sleep(seconds: float, inner: object = ways.clock.sleep) -> None:
            await inner(seconds)  # type: ignore[operator]
            if len(ways.clock.slept) == 3:
                await seller.open()

        ways.clock.sleep = sleep  # type: ignore[method-assign]
        ended = await follow(ways.lamoda, pushed.request_id or "", ways.clock, SIX_HOURS, shown.append, at_once=False)
        assert ended.status == "Finished"
        assert isinstance(shown[0], str)


async def test_an_import_that_lamoda_does_not_know_is_said_at_once_or_after_some_looks() -> None:
    async with opened() as ways:
        for at_once, looks in ((True, 0), (False, 5)):
            ways.clock.slept.clear()
            with pytest.raises(NoSuchImport):
                await follow(ways.lamoda, "none", ways.clock, SIX_HOURS, lambda found: None, at_once=at_once)
            assert len(ways.clock.slept) == looks


async def test_after_silence_the_import_that_has_begun_since_is_ours(tmp_path: Path) -> None:
    async with opened(timedelta(milliseconds=300)) as ways:
        arrived(ways, "another-and-older")
        script(ways, Word.TIMEOUT_AFTER_EFFECT)
        pushed = await transfer(ways, tmp_path).push(catalogue(tmp_path), NOW)
        assert pushed.request_id not in (None, "another-and-older")
        assert pushed.request_id in ways.market.world.rows["lamoda.feeds"]
        assert len(ways.market.uploads) == 1


async def test_after_silence_without_an_import_nothing_is_sent_again_by_itself(tmp_path: Path) -> None:
    async with opened() as ways:
        script(ways, Word.RESET, Word.DONE)
        moved, file = transfer(ways, tmp_path), catalogue(tmp_path)
        with pytest.raises(NotKnown):
            await moved.push(file, NOW)
        assert (len(ways.market.uploads), ways.market.imports) == (1, 0)
        before = moved.memory.last(file.digest)
        assert before is not None
        assert before.request_id is None
        with pytest.raises(NotKnown):
            await moved.arrived(before)
        again = await moved.push(file, NOW)  # a person said so
        assert again.request_id is not None
        assert len(ways.market.uploads) == 2
        assert len(set(ways.market.uploads)) == 1, "the key stays until the outcome is known"


async def test_a_push_that_was_cut_off_is_found_by_what_has_begun_since(tmp_path: Path) -> None:
    async with opened() as ways:
        script(ways, Word.RESET)
        moved, file = transfer(ways, tmp_path), catalogue(tmp_path)
        with pytest.raises(NotKnown):
            await moved.push(file, NOW)
        arrived(ways, "late")
        before = moved.memory.last(file.digest)
        assert before is not None
        found = await transfer(ways, tmp_path).arrived(before)
        assert found.request_id == "late"
        assert moved.memory.last(file.digest) == found


async def test_the_import_of_another_file_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    async with opened() as ways:
        script(ways, Word.RESET, Word.DONE)
        moved, large = transfer(ways, tmp_path), catalogue(tmp_path)
        with pytest.raises(NotKnown):
            await moved.push(large, NOW)
        await moved.push(catalogue(tmp_path, text().replace("A-1", "B-1").encode()), NOW)
        before = moved.memory.last(large.digest)
        assert before is not None
        with pytest.raises(NotKnown, match="no import of it"):
            await moved.arrived(before)


async def test_of_several_imports_none_is_taken_for_ours(tmp_path: Path) -> None:
    async with opened() as ways:
        script(ways, Word.RESET)
        moved, file = transfer(ways, tmp_path), catalogue(tmp_path)
        with pytest.raises(NotKnown):
            await moved.push(file, NOW)
        arrived(ways, "one")
        arrived(ways, "two")
        before = moved.memory.last(file.digest)
        assert before is not None
        with pytest.raises(NotKnown, match="one, two"):
            await moved.arrived(before)


@pytest.mark.parametrize(("word", "refused"), [(Word.REFUSED, True), (Word.LATER, False)])
async def test_what_was_not_taken_leaves_no_trace(tmp_path: Path, word: Word, refused: bool) -> None:
    async with opened() as ways:
        script(ways, word)
        moved, file = transfer(ways, tmp_path), catalogue(tmp_path)
        with pytest.raises(NotPushed) as found:
            await moved.push(file, NOW)
        assert found.value.refused is refused
        assert moved.memory.last(file.digest) is None


async def test_nothing_is_sent_while_lamoda_cannot_be_looked_at(tmp_path: Path) -> None:
    async with opened() as ways:
        await ways.listeners[0].shut()
        with pytest.raises(Unreachable):
            await transfer(ways, tmp_path).push(catalogue(tmp_path), NOW)
        assert ways.market.uploads == []


async def test_another_push_of_the_same_file_carries_another_key(tmp_path: Path) -> None:
    async with opened() as ways:
        moved, file = transfer(ways, tmp_path), catalogue(tmp_path)
        first, second = await moved.push(file, NOW), await moved.push(file, NOW)
        assert first.request_id != second.request_id
        assert (first.number, second.number) == (1, 2)
        assert len(set(ways.market.uploads)) == 2


@pytest.mark.parametrize(
    ("body", "request_id"),
    [
        ((ROOT / "tests/data/lamoda/linio_ProductCreate.xml").read_text(), "cb106552-87f3-450b-aa8b-412246a24b34"),
        ("<SuccessResponse><Head><RequestId/></Head><Body/></SuccessResponse>", None),
        ("<html>", None),
        ("", None),
        ('{"success": true}', None),
        ('<!DOCTYPE a [<!ENTITY b "c">]><SuccessResponse><Head><RequestId>&b;</RequestId></Head></SuccessResponse>', None),
    ],
)
def test_the_request_id_is_read_from_lamodas_answer_or_there_is_none(body: str, request_id: str | None) -> None:
    assert request_id_of(Outcome(Result.DONE, reply=Reply(200, {}, body))) == request_id


def test_a_damaged_memory_is_a_mistake_and_no_clean_slate(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text("{")
    with pytest.raises(Mistakes, match="damaged"):
        Memory(tmp_path).last("x")
