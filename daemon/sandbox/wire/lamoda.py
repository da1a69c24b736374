"""Lamoda's SellerCenter on the wire, and ``save_csv``, by which the integration service hands a catalogue to it.

Held to: a signature over exactly the parameters that came, a timestamp of the last minutes, known actions, XML or JSON as
asked, errors as ErrorResponse under HTTP 200, FeedStatus throttled after its free calls. Timestamps carry no zone.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4
from xml.etree.ElementTree import Element, SubElement, tostring
from zoneinfo import ZoneInfo

import openpyxl
from aiohttp import web

from daemon.domain.value import Value
from daemon.sandbox.systems.lamoda import FEED_STATUS, FEEDS, KEPT, shown
from daemon.sandbox.wire.listener import See, respond
from daemon.sandbox.world import Said, Spoken, World

USER: Final = "integration@shop.example"
ZONE: Final = ZoneInfo("Asia/Almaty")
SERVICE: Final = "lamoda-integration"
_FRESH: Final = timedelta(minutes=10)
_FREE: Final = 50
_APART: Final = timedelta(minutes=2)

Tree = Any


class Refused(Exception):
    """An ErrorResponse: its code and what it says."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"E{code:03}: {message}")
        self.code = code


@dataclass(slots=True)
class Throttle:
    """FeedStatus: so many calls free, then one in two minutes."""

    free: int = _FREE
    last: datetime | None = None

    def admit(self, now: datetime) -> None:
        """Count a call. Raises ``Refused``."""
        if self.free > 0:
            self.free -= 1
        elif self.last is not None and now - self.last < _APART:
            raise Refused(429, "Too Many Requests")
        self.last = now


def environment(url: str, key: str) -> Mapping[str, str]:
    """Address and secrets under the names by which ``config.yaml`` asks for them."""
    return {"LAMODA_URL": url, "LAMODA_USER": USER, "LAMODA_KEY": key}


def application(see: See, key: str, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> web.Application:
    """SellerCenter for the user who has this key. ``wall``: the time that signatures are checked by."""
    throttle = Throttle()

    async def api(request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        try:
            authorised(query, key, wall())
            if query["Action"] == "FeedStatus":
                throttle.admit(wall())
            head, body = await see(lambda world: _answer(world, query))
        except Refused as refused:
            head = {"RequestAction": query.get("Action", ""), "ErrorType": "Sender", "ErrorCode": str(refused.code)}
            return _said(query, "ErrorResponse", {**head, "ErrorMessage": str(refused)}, "")
        head = {"RequestId": "", "RequestAction": query["Action"], **head, "Timestamp": wall().isoformat(timespec="seconds")}
        return _said(query, "SuccessResponse", head, body)

    app = web.Application()
    app.router.add_get("/", api)
    return app


def authorised(query: Mapping[str, str], key: str, now: datetime) -> None:
    """Raises ``Refused`` unless the request is signed, by us, just now."""
    for name in ("Action", "Timestamp", "UserID", "Version", "Signature"):
        if not query.get(name):
            raise Refused(1, f"Parameter {name} is mandatory")
    if query["Version"] != "1.0":
        raise Refused(2, "Invalid Version")
    if abs(_moment(query["Timestamp"], 4) - now) > _FRESH:
        raise Refused(3, "Timestamp has expired")
    rest = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()) if name != "Signature")
    expected = hmac.new(key.encode(), rest.encode(), hashlib.sha256).hexdigest()
    if query["UserID"] != USER or not hmac.compare_digest(expected, query["Signature"]):
        raise Refused(7, "Login failed. Signature mismatching")


def _answer(world: World, query: Mapping[str, str]) -> tuple[Mapping[str, str], Tree]:
    """Head and body of a success. Raises ``Refused``."""
    match query["Action"]:
        case "GetOrders":
            return _orders(list(world.rows["lamoda.orders"].values()), query)
        case "GetOrder":
            found = world.find("lamoda.orders", "id", query.get("OrderId", ""))
            if not found:
                raise Refused(16, f'"{query.get("OrderId", "")}" Invalid Order ID')
            return {"ResponseType": "Order"}, {"Orders": {"Order": [_order(row) for row in found]}}
        case "FeedStatus":
            return _feed_status(world, query)
        case "FeedList" | "FeedOffsetList":
            return {"ResponseType": "Feed"}, {"Feed": [_feed(row) for row in _feeds(world, query)]}
        case "FeedCount":
            return {"ResponseType": "FeedCount"}, {"FeedCount": {"Total": str(len(world.rows[FEEDS]))}}
    raise Refused(8, "Invalid Action")


def _orders(rows: Sequence[Mapping[str, Value]], query: Mapping[str, str]) -> tuple[Mapping[str, str], Tree]:
    after = query.get("CreatedAfter")
    if after is None:
        raise Refused(1, "Parameter CreatedAfter or UpdatedAfter is mandatory")
    begin, offset, limit = _moment(after, 17), _whole(query, "Offset", 0, 14), _whole(query, "Limit", 100, 19)
    newest = query.get("SortDirection", "ASC") == "DESC"
    fitting = sorted((row for row in rows if _since(row, begin)), key=lambda row: str(row["created_at"]), reverse=newest)
    page = [_order(row) for row in fitting[offset : offset + limit]]
    return {"ResponseType": "Orders", "TotalCount": str(len(fitting))}, {"Orders": {"Order": page} if page else ""}


def _feeds(world: World, query: Mapping[str, str]) -> Sequence[Mapping[str, Value]]:
    listed = [shown(row, world.now) for row in world.rows[FEEDS].values() if _since(row, world.now - KEPT)]
    if query["Action"] == "FeedList":
        return listed
    offset, size = _whole(query, "Offset", 0, 14), _whole(query, "PageSize", 100, 15)
    return sorted(listed, key=lambda row: str(row["created_at"]), reverse=True)[offset : offset + size]


def _feed_status(world: World, query: Mapping[str, str]) -> tuple[Mapping[str, str], Tree]:
    row = world.rows[FEED_STATUS].get(query.get("FeedID", ""))
    if row is None:
        raise Refused(12, "Invalid Feed ID")
    now = shown(row, world.now)
    errors = [
        {"Code": str(number), "Message": str(error.get("message")), "SellerSku": str(error.get("sku") or "")}
        for number, error in enumerate(row for row in _list(now["errors"]) if isinstance(row, Mapping))
    ]
    return {"ResponseType": "FeedDetail"}, {"FeedDetail": {**_feed(now), "FeedErrors": {"Error": errors} if errors else ""}}


def _order(row: Mapping[str, Value]) -> Tree:
    return {
        "OrderId": row["id"],
        "OrderNumber": row["number"],
        "PaymentMethod": "Prepaid",
        "Price": f"{float(str(row['amount'])):.2f}",
        "CreatedAt": _written(row["created_at"]),
        "UpdatedAt": _written(row["created_at"]),
        "AddressShipping": {"FirstName": "", "Phone": ""},
        "ItemsCount": "1",
        "PromisedShippingTime": _written(row["ship_by"]),
        "ExtraAttributes": "",
        "Statuses": {"Status": str(row["status"]).split(", ")},
    }


def _feed(row: Mapping[str, Value]) -> Tree:
    texts = {"Feed": "feed", "Status": "status", "Action": "action", "Source": "source"}
    counts = {"TotalRecords": "total", "ProcessedRecords": "processed", "FailedRecords": "failed"}
    times = {"CreationDate": "created_at", "UpdatedDate": "updated_at"}
    said = {name: str(row[of] or "") for name, of in texts.items()} | {name: _written(row[of]) for name, of in times.items()}
    return said | {name: "" if row[of] is None else str(row[of]) for name, of in counts.items()}


def _list(value: Value) -> Sequence[Value]:
    return value if isinstance(value, list) else []


def _since(row: Mapping[str, Value], begin: datetime) -> bool:
    created = row["created_at"]
    return isinstance(created, datetime) and created >= begin


def _written(at: Value) -> str:
    return f"{at.astimezone(ZONE):%Y-%m-%d %H:%M:%S}" if isinstance(at, datetime) else ""


def _moment(text: str, code: int) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(code, f'"{text}" Invalid Date Format') from None
    return at if at.tzinfo else at.replace(tzinfo=ZONE)


def _whole(query: Mapping[str, str], name: str, otherwise: int, code: int) -> int:
    text = query.get(name, str(otherwise))
    if not text.isdigit():
        raise Refused(code, f'"{text}" Invalid {name}')
    return int(text)


def _said(query: Mapping[str, str], root: str, head: Mapping[str, str], body: Tree) -> web.Response:
    """In the format that was asked for, under HTTP 200 whatever it is."""
    tree = {"Head": dict(head), "Body": body}
    if query.get("Format") == "JSON":
        return web.Response(text=json.dumps({root: _translated(tree)}, ensure_ascii=False), content_type="application/json")
    return web.Response(body=xml(root, tree), content_type="text/xml")


def _translated(tree: Tree) -> Tree:
    """As the XML would be translated: a list of one is that one."""
    if isinstance(tree, Mapping):
        return {name: _translated(each) for name, each in tree.items()}
    if isinstance(tree, list):
        return _translated(tree[0]) if len(tree) == 1 else [_translated(each) for each in tree]
    return tree


def xml(root: str, tree: Tree) -> bytes:
    """A tree of maps, lists and texts as a document."""
    element = Element(root)
    _grow(element, tree)
    document: bytes = tostring(element, encoding="UTF-8", xml_declaration=True)
    return document


def _grow(parent: Element, tree: Tree) -> None:
    if not isinstance(tree, Mapping):
        parent.text = str(tree)
        return
    for name, each in tree.items():
        for one in each if isinstance(each, list) else [each]:
            _grow(SubElement(parent, name), one)


# ── save_csv of the integration service ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Upload:
    """What came with ``save_csv``."""

    headers: str = ""
    separator: str = ""
    name: str = ""
    data: bytes = field(default=b"", repr=False)

    def products(self) -> Sequence[Mapping[str, str]]:
        """SKU and price of each product. Raises ``ValueError`` for a file that cannot be read as it says."""
        rows = list(self._sheet() if self.headers == "xlsx" else self._text())
        titles = [title.replace(" ", "").lower() for title in rows[0]] if rows else []
        if not {"sellersku", "price"} <= set(titles):
            raise ValueError("wrong headers")
        named = [dict(zip(titles, row, strict=False)) for row in rows[1:]]
        return [{"sku": row.get("sellersku", ""), "price": row.get("price", "")} for row in named]

    def _text(self) -> Sequence[Sequence[str]]:
        return list(csv.reader(io.StringIO(self.data.decode("utf-8-sig")), delimiter=self.separator))

    def _sheet(self) -> Sequence[Sequence[str]]:
        book = openpyxl.load_workbook(io.BytesIO(self.data), read_only=True, data_only=True)
        return [["" if cell is None else str(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)]


def extend(app: web.Application, see: See, token: str) -> None:
    """Give the integration service its ``save_csv``. It answers as Lamoda answered it."""
    feeds: dict[str, str] = {}

    async def save_csv(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {token}":
            return web.json_response({"success": False, "error": "unauthorized"}, status=401)
        try:
            upload = await _uploaded(request)
            products = upload.products()
        except Exception as error:  # whatever is wrong with the file, the service's answer is the same
            return web.json_response({"success": False, "error": f"file: {error}"}, status=422)
        key = request.headers.get("Idempotency-Key", "")
        feed = feeds.setdefault(key, str(uuid4())) if key else str(uuid4())
        said: Said = await see(lambda world: _save(world, feed, upload.name, products, key))
        if not (isinstance(said, Spoken) and said.status == 200 and "json" in said.headers.get("Content-Type", "")):
            return await respond(request, said)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        head = {"RequestId": feed, "RequestAction": "ProductCreate", "ResponseType": "", "Timestamp": now}
        return web.Response(body=xml("SuccessResponse", {"Head": head, "Body": ""}), content_type="text/xml")

    app.router.add_post("/save_csv", save_csv)


def _save(world: World, feed: str, name: str, products: Sequence[Mapping[str, str]], key: str) -> Said:
    args = {"name": name, "feed": feed, "products": products}
    return world.perform(f"{SERVICE}.save_csv", args, key, world.now)


async def _uploaded(request: web.Request) -> Upload:
    form = await request.post()
    file = form.get("file")
    if not isinstance(file, web.FileField):
        raise ValueError("there is none")
    headers, separator = str(form.get("headers", "")), str(form.get("separator", ""))
    if headers not in ("csv", "xlsx") or (headers == "csv" and len(separator) != 1):
        raise ValueError("headers must be csv with a separator, or xlsx")
    with file.file as content:
        return Upload(headers, separator, file.filename, content.read())

