"""Requests held to the official description of an API, by an OpenAPI validator that nobody here wrote."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest

from tests.net.loopback import Seen


class Described:
    """An API as it is described, on ``host``: where the descriptions say that it is they do not all say rightly."""

    def __init__(self, description: dict[str, Any], host: str) -> None:
        own = Config(spec_validator_cls=None)  # official ones have a mistake or two of their own: a version that is a number
        self._api = OpenAPI.from_dict({**_patterned(description), "servers": [{"url": host}]}, config=own)
        self._host = host

    def hold(self, seen: Seen) -> None:
        """Raises the validator's error for a request that is not as described, and for a path that is none."""
        url = urlsplit(seen.target)
        self._api.validate_request(
            MockRequest(
                self._host,
                seen.method.lower(),
                url.path,
                args={name: values[0] for name, values in parse_qs(url.query).items()},
                headers=dict(seen.headers),
                data=seen.body or None,
                content_type=seen.headers.get("content-type", ""),
            )
        )


def _patterned(node: Any) -> Any:
    """Without patterns that are no regular expressions: `` YYYY-MM-DDThh:mm:ssZ`` describes a date to people."""
    if isinstance(node, dict):
        return {key: _patterned(value) for key, value in node.items() if not (key == "pattern" and "YYYY" in str(value))}
    return [_patterned(value) for value in node] if isinstance(node, list) else node
