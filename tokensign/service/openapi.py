"""The OpenAPI document, also of routes that read their bodies themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from tokensign.service.problems import ProblemDocument

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

__all__ = ["binary_answer", "binary_body", "described", "json_body"]


def described(app: FastAPI) -> dict[str, Any]:
    """The document of an application, with what its problems are and how clients show who they are."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document["components"]
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= problem.pop("$defs")
    components["schemas"][ProblemDocument.__name__] = problem
    components["securitySchemes"] = {
        "certificate": {
            "type": "mutualTLS",
            "description": "Known by a URI in its subjectAltName, or its key",
        },
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token (RFC 7519)"},
    }
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{"certificate": []}, {"bearer": []}]
    return document


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A required body that a model without nested models describes."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": model.model_json_schema()}},
        }
    }


def binary_body(*media_types: str) -> dict[str, Any]:
    """A required body that is a document."""
    schema = {"type": "string", "format": "binary"}
    return {
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": schema} for media_type in media_types},
        }
    }


def binary_answer(media_type: str, description: str) -> dict[str, Any]:
    """An answer that is a document."""
    return {
        "description": description,
        "content": {media_type: {"schema": {"type": "string", "format": "binary"}}},
    }
