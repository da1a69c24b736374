"""A small installation, and ways to break it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from daemon.config import Config, load_config

BASE = """\
environment: production
timezone: Europe/Moscow
language: ru
store: {url: "${env:DB}"}
http: {listen: "127.0.0.1:0"}
engine: {lease: 30s, poll: 1s, cycles: 8, page: 1000, keep: 90d}
logs: {format: auto}
rules:
  path: rules/
  defaults: {mode: observe, every: 5m}
  overrides:
    some-rule: {mode: enforce}
alerts: {via: telegram}
currencies: {base: RUB, rates: {KZT: 0.18}}
causes:
  - {cause: address, if: 'text.matches("address")'}
connectors:
  shop-db:
    type: sql
    url: ${env:SHOP_DB}
    timezone: Europe/Moscow
    records:
      orders:
        query: SELECT number, amount FROM orders
        key: ${number}
        by: [number]
        fields: {number: string, amount: number|null}
  shop:
    type: http
    url: ${env:SHOP_URL}
    headers: {Authorization: "Bearer ${env:SHOP_TOKEN}"}
    timeout: 30s
    rate: 10/s
    slots: 4
    lag: 1s
    records:
      orders:
        list:
          params: {within: duration}
          request: {method: POST, path: /list, body: {after: "${now - within}"}}
          items: ${body.orders}
          next: {cursor: "${body.next}"}
        by:
          number:
            request: {path: "/orders/${key}"}
            present: status == 200
            absent: status == 404 && body.error == "none"
            item: ${body}
        key: ${number}
        fields:
          number: {type: string, value: "${item.nr}"}
          ship_by: timestamp|null
    calls:
      upload:
        method: POST
        path: /upload
        body: {id: "${id}"}
        idempotent: true
        done: status == 200 && body.success == true
        refused: status == 422
        later: status == 503
      fetch: {extends: upload, path: /fetch}
  other: {extends: shop, url: "https://other.example", headers: {Authorization: "Bearer ${env:OTHER_TOKEN}"}}
  telegram: {type: telegram, token: "${env:TOKEN}"}
contacts:
  team:
    title: Team
    channels: [{via: telegram, chat: "-100", thread: "7"}]
    hours: Mo-Fr 09:00-18:00
    timezone: Asia/Almaty
    language: ru
    external: false
    rate: 20/h
    fallback: boss
    send_resolved: true
  boss: {channels: [{via: telegram, chat: "5"}]}
"""
ENV = {
    "DB": "postgresql://heal:own-password@db/orderheal",
    "SHOP_DB": "postgresql://heal:shop-password@db/shop",
    "SHOP_URL": "https://shop.example/api",
    "SHOP_TOKEN": "shop-token-1",
    "OTHER_TOKEN": "other-token-1",
    "TOKEN": "123456:telegram-token-telegram-token-telegram",
}
Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load texts as files that are laid over each other."""

    def load(*texts: str, env: Mapping[str, str] = ENV, offline: bool = False) -> Config:
        files = [tmp_path / f"{number}.yaml" for number, _ in enumerate(texts, 1)]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text, encoding="utf-8")
        return load_config(files, env, offline=offline)

    return load
