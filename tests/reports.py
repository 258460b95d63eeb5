"""Hold a report against the JSON Schema that is promised to programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "docs" / "verification-report.schema.json").read_text()
)
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def check_document(document: Any) -> None:  # noqa: ANN401 - JSON
    """Fail unless a JSON report, as it is written, is what docs/verification.md promises."""
    _VALIDATOR.validate(json.loads(json.dumps(document)))
