"""A declared service, opened against a loopback server."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from daemon.connectors.http import KIND, HttpConnector, HttpSettings
from daemon.domain.shape import FieldType
from daemon.domain.value import Value
from daemon.language import places
from tests.net.loopback import Server, World, Write, serving

SERVICE = """
type: http
url: http://127.0.0.1:1
headers: {Authorization: Bearer tell-nobody-this}
timezone: Asia/Dubai
records:
  orders:
    list:
      params: {within: duration, state: string}
      request:
        method: POST
        path: /orders/list
        query: {state: "${state}"}
        body: {created_after: "${now - within}", next_token: "${cursor}", limit: "${limit}"}
      items: ${body.orders}
      next: {cursor: "${body.next_token}"}
    by:
      number:
        request: {method: GET, path: "/orders/${key}"}
        present: status == 200 && body.order_nr == key
        absent: status == 404 && body.error == "order_not_found"
        item: ${body}
      posting:
        request: {method: POST, path: /orders/find, body: {postings: "${keys}"}}
        max_keys: 3
        present: status == 200
        absent: status == 200 && size(body.orders) == 0
        items: ${body.orders}
    key: ${number}
    fields:
      number: {type: string, value: "${item.order_nr}"}
      posting: {type: string|null, value: "${item.posting_nr}"}
      state: {type: string, value: '${item.status in ["Pending", "confirmed"] ? "new" : "other"}'}
      amount: {type: number, value: "${item.total}"}
      paid: bool|null
      created_at: timestamp|null
      city: {type: string|null, value: "${item.address.city}"}
      lines: list|null
      extra: map|null
  pages:
    list:
      request: {path: /pages, query: {page: "${page}"}}
      items: ${body.items}
      next: {page: "${page < body.pages}"}
    by: {id: {request: {path: "/pages/${key}"}, present: status == 200, item: "${body}"}}
    key: ${id}
    fields: {id: string}
  links:
    list: {request: {path: /links}, items: "${body.items}", next: {link: "${body.links.next}"}}
    by: {id: {request: {path: "/links/${key}"}, present: status == 200, item: "${body}"}}
    key: ${id}
    fields: {id: string}
calls:
  upload_order:
    method: POST
    path: /upload_order
    body: {id: "${id}", number_type: "${number_type}"}
    idempotent: true
    done: status == 200 && body.success == true
    refused: status == 422 || status == 200 && body.success == false
  plain: {path: /plain, done: status == 200}
  comment:
    method: PUT
    path: /orders/${order}/comments/${lang}-${kind}
    query: {tag: "${tags}", at: "${at}"}
    headers: {X-Author: "${author}"}
    body: "text: ${text}"
    timeout: 2s
    done: status in [200, 204]
    later: status == 409 && body.contains("busy")
    refused: status == 418
  form:
    path: /form
    headers: {Content-Type: application/x-www-form-urlencoded}
    body: {a: "${a}", fixed: 1}
    done: status == 200
"""


@cache
def settings(text: str = SERVICE) -> HttpSettings:
    """The settings, which must hold no mistake."""
    loaded = places.load(text, "service.yaml").raise_for_mistakes()
    tree = {key: value for key, value in loaded.tree.items() if key != "type"}
    found, mistakes = places.validate(HttpSettings, tree, loaded)
    assert found is not None, mistakes
    assert [str(mistake) for mistake in KIND.lint("shop", found, loaded.place)] == []
    return found


@asynccontextmanager
async def service(*answers: Write, text: str = SERVICE, **changes: Any) -> AsyncIterator[tuple[HttpConnector, Server, World]]:
    """The connector, the server behind it, and what it did."""
    world = World("tell-nobody-this")
    async with serving(*answers) as server:
        connector = HttpConnector("shop", settings(text).model_copy(update={"url": server.address} | changes), world.tools)
        try:
            yield connector, server, world
        finally:
            await connector.close()


TYPES: Mapping[FieldType, type] = {FieldType.STRING: str, FieldType.BOOL: bool, FieldType.LIST: list, FieldType.MAP: dict}
ARGS: Mapping[str, Value] = {"id": "1", "number_type": "posting_number"}
