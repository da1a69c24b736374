"""Promises of signing: exactly what SellerCenter computes, with a new time and signature for each try."""

import hashlib
import hmac
from datetime import datetime, timedelta
from itertools import count
from urllib.parse import parse_qsl, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from daemon.connectors.lamoda import signed
from daemon.domain.shape import Absent
from daemon.settings import Secret
from tests.connectors_lamoda.market import KEY, NOW, recorded, told
from tests.net.loopback import answer

EXPIRED = "<ErrorResponse><Head><ErrorCode>3</ErrorCode><ErrorMessage>E003: Timestamp has expired</ErrorMessage></Head><Body/></ErrorResponse>"


def test_a_signature_is_the_documented_one() -> None:
    params = {"Action": "FeedList", "Format": "XML", "Timestamp": "2015-07-01T11:11:11+00:00", "UserID": "look@me.com", "Version": "1.0"}
    text = "Action=FeedList&Format=XML&Timestamp=2015-07-01T11%3A11%3A11%2B00%3A00&UserID=look%40me.com&Version=1.0"
    expected = hmac.new(b"b1bdb357ced10fe4e9a69840cdd4f0e9c03d77fe", text.encode(), hashlib.sha256).hexdigest()
    assert signed(params, Secret("b1bdb357ced10fe4e9a69840cdd4f0e9c03d77fe")) == f"{text}&Signature={expected}"


@given(st.dictionaries(st.text("abcXYZ_", min_size=1), st.text(max_size=20), min_size=1))
def test_whatever_the_values_the_other_side_computes_the_same(params: dict[str, str]) -> None:
    query, _, signature = signed(params, Secret(KEY)).rpartition("&Signature=")
    assert dict(parse_qsl(query, keep_blank_values=True)) == params
    assert hmac.new(KEY.encode(), query.encode(), hashlib.sha256).hexdigest() == signature


async def test_each_try_carries_its_own_time_and_signature() -> None:
    seconds = count()

    def now() -> datetime:
        return NOW + timedelta(seconds=next(seconds))

    async with told(answer(503), answer(200, EXPIRED), answer(200, recorded("linio_ErrorResponse_E012.xml")), now=now) as (lamoda, server, _):
        assert await lamoda.ask("feed_status", "feed", ["f"], True) == {"f": Absent()}
    queries = [dict(parse_qsl(urlsplit(seen.target).query)) for seen in server.seen]
    assert len(queries) == 3
    assert len({query["Timestamp"] for query in queries}) == 3
    assert len({query["Signature"] for query in queries}) == 3


async def test_an_expired_timestamp_is_signed_anew_once_and_no_more() -> None:
    async with told(answer(200, EXPIRED)) as (lamoda, server, _):
        await lamoda.ask("feed_status", "feed", ["f"], True)
        assert len(server.seen) == 2


async def test_the_key_itself_never_goes_out() -> None:
    async with told(answer(200, recorded("linio_ErrorResponse_E012.xml"))) as (lamoda, server, _):
        await lamoda.ask("feed_status", "feed", ["f"], True)
        assert KEY not in server.seen[0].target
        assert KEY not in str(server.seen[0].headers)
