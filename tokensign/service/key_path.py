"""The id of a key in a path: LANE/LABEL, two segments, also where a client has sent the slash as %2F."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path
from starlette.convertors import Convertor, register_url_convertor

__all__ = ["KEY", "KeyId"]

KEY: Final = "{key:key_id}"
"""The place of a key in the path of a route."""

KeyId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9._=-]+/[A-Za-z0-9._=~-]+$",
        max_length=1024,
        description="LANE/LABEL, as GET /v1/keys lists it.",
    ),
]
"""The id of a key, as `tokensign.service.lane_keys.key_id` makes it."""


class _KeyIdConvertor(Convertor[str]):
    regex = "[^/]+/[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("key_id", _KeyIdConvertor())
