"""Logs say one sentence with fields, and no secret, whoever speaks."""

import asyncio
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from daemon.engine.events import Attempted, Requested, Sighted, Trouble
from daemon.telemetry.crash import Crew, watch_loop, watch_uncaught
from daemon.telemetry.fanout import Fanout
from daemon.telemetry.logs import Format, LogEvents, logging_to

CANARY = 'can"ary-\\7f3e-ключ'


def scrub(text: str) -> str:
    return text.replace(CANARY, "***")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(stream: io.StringIO) -> Iterator[logging.Logger]:
    with logging_to(stream, "json", scrub) as logger:
        yield logger


def test_an_event_is_one_sentence_with_its_fields_and_a_zoned_time(log: logging.Logger, stream: io.StringIO) -> None:
    LogEvents(log)(Attempted("r", "17", "OZ-1", "call:upload_order", 2, "refused", "422"))
    (line,) = lines(stream)
    assert str(line.pop("at")).endswith("Z")
    assert line == {
        "level": "info", "message": "attempt ended", "rule": "r", "incident": "17", "key": "OZ-1",
        "step": "call:upload_order", "number": 2, "result": "refused", "reason": "422",
    }  # fmt: skip


def test_ordinary_requests_do_not_drown_the_log_but_failed_ones_show(log: logging.Logger, stream: io.StringIO) -> None:
    LogEvents(log)(Requested("ozon-db", "orders", "ok", 0.1))
    LogEvents(log)(Sighted("r", {"clean": 5}))
    LogEvents(log)(Requested("ozon-db", "orders", "error", 0.1, "timed out"))
    assert [(line["level"], line["reason"]) for line in lines(stream)] == [("warning", "timed out")]


def canary_in_a_sentence(log: logging.Logger) -> None:
    log.info("it was %s", CANARY)


def canary_in_a_field(log: logging.Logger) -> None:
    LogEvents(log)(Trouble("went wrong", {"reply": f"echo {CANARY}"}))


def canary_in_nested_fields(log: logging.Logger) -> None:
    log.info("nested", extra={"fields": {"a": [{CANARY: (CANARY, {CANARY})}], "b": Exception(CANARY)}})


def canary_in_a_traceback(log: logging.Logger) -> None:
    try:
        raise RuntimeError(f"connect to postgresql://u:{CANARY}@h failed")
    except RuntimeError:
        log.exception("could not")


def canary_in_a_library_s_warning(log: logging.Logger) -> None:
    logging.getLogger("asyncio").warning("socket.send() raised exception: %s", CANARY)


def canary_in_python_s_warning(log: logging.Logger) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(CANARY, stacklevel=1)


def canary_in_an_uncaught_exception(log: logging.Logger) -> None:
    before, thread = sys.excepthook, __import__("threading").excepthook
    watch_uncaught(log)
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.excepthook, __import__("threading").excepthook = before, thread


def canary_in_a_line_that_cannot_be_made(log: logging.Logger) -> None:
    log.info("%d", CANARY)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "leak",
    [
        canary_in_a_sentence,
        canary_in_a_field,
        canary_in_nested_fields,
        canary_in_a_traceback,
        canary_in_a_library_s_warning,
        canary_in_python_s_warning,
        canary_in_an_uncaught_exception,
        canary_in_a_line_that_cannot_be_made,
    ],
    ids=lambda leak: leak.__name__,
)
def test_no_secret_is_written(leak, form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with logging_to(stream, form, scrub) as log:
        leak(log)
    assert stream.getvalue()
    written = stream.getvalue() + "".join(capsys.readouterr())
    assert "ary-" not in written.replace("canary_in", "")


def test_text_from_outside_forges_no_line_and_steers_no_terminal() -> None:
    stream = io.StringIO()
    with logging_to(stream, "text", scrub) as log:
        log.info("said", extra={"fields": {"reply": "ok\n12:00:00Z info all is well \x1b[2J"}})
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("form", "stream", "coloured", "is_json"),
    [
        ("auto", io.StringIO(), False, True),
        ("auto", Terminal(), True, False),
        ("json", Terminal(), False, True),
        ("text", io.StringIO(), False, False),
    ],
    ids=["auto in a pipe is JSON", "auto on a terminal reads well", "json even on a terminal", "text without colour"],
)
def test_the_form_follows_setting_and_stream(form: Format, stream: io.StringIO, coloured: bool, is_json: bool) -> None:
    with logging_to(stream, form, scrub) as log:
        log.warning("hello", extra={"fields": {"rule": "r"}})
    text = stream.getvalue()
    assert ("\x1b[" in text) is coloured
    assert text.startswith("{") is is_json


def test_logging_is_put_back_as_it_was() -> None:
    before = logging.getLogger().handlers[:]
    with logging_to(io.StringIO(), "json", scrub):
        assert logging.getLogger().handlers != before
    assert logging.getLogger().handlers == before


def test_telling_cannot_fail() -> None:
    heard: list[object] = []

    def broken(event: object) -> None:
        raise OSError("disk full")

    fanout = Fanout([broken, heard.append])
    fanout(Sighted("r"))
    assert (heard, fanout.failures) == ([Sighted("r")], 1)


async def test_a_crashed_task_is_named_and_ends_the_crew(log: logging.Logger, stream: io.StringIO) -> None:
    async def worker() -> None:
        raise RuntimeError(CANARY)

    crew = Crew(log)
    crew.start("cycle-3", worker())
    await crew.fallen.wait()
    await crew.leave()
    (line,) = lines(stream)
    assert (line["message"], line["task"], line["error"]) == ("task cycle-3 crashed", "cycle-3", "RuntimeError")
    assert "ary-" not in stream.getvalue()


async def test_a_task_that_ends_unasked_ends_the_crew(log: logging.Logger, stream: io.StringIO) -> None:
    crew = Crew(log)
    crew.start("notifier", returns())
    await crew.fallen.wait()
    assert lines(stream)[0]["message"] == "task notifier ended unasked"


async def returns() -> None:
    return


async def forever() -> None:
    await asyncio.Event().wait()


async def test_leaving_is_no_crash(log: logging.Logger, stream: io.StringIO) -> None:
    crew = Crew(log)
    crew.start("worker", forever())
    await crew.leave()
    assert not crew.fallen.is_set()
    assert stream.getvalue() == ""


async def test_what_the_loop_could_hand_to_nobody_is_said(log: logging.Logger, stream: io.StringIO) -> None:
    loop = asyncio.get_running_loop()
    watch_loop(loop, log)
    try:
        loop.call_exception_handler({"message": "callback failed", "exception": ValueError(CANARY)})
    finally:
        loop.set_exception_handler(None)
    assert lines(stream)[0]["message"] == "event loop: callback failed"
    assert "ary-" not in stream.getvalue()
