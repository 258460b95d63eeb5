"""Hold the report on a mail against the JSON Schema that is promised to programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource
from reports import SCHEMA as VERIFICATION_SCHEMA

MAIL_SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "docs" / "mail-report.schema.json").read_text()
)
_VALIDATOR = jsonschema.Draft202012Validator(
    MAIL_SCHEMA,
    registry=Registry().with_resource(
        "verification-report.schema.json", Resource.from_contents(VERIFICATION_SCHEMA)
    ),
)


def check_mail_document(document: Any) -> None:  # noqa: ANN401 - JSON
    """Fail unless a JSON report, as it is written, is what docs/mail.md promises."""
    _VALIDATOR.validate(json.loads(json.dumps(document)))
