"""Requests of a registration authority, as JSON has them and as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tokensign.authority.mailbox_proofs import MailboxProof
    from tokensign.authority.request_records import Request
    from tokensign.cli.command import Cli

__all__ = ["request_document", "request_fields", "tell_codes", "tell_request"]


def request_document(request: Request) -> dict[str, Any]:
    """A request as JSON has it."""
    return {
        "id": request.id,
        "state": request.state.value,
        "authority": request.authority,
        "profile": request.profile,
        "subject": request.subject,
        "requester": request.requester,
        "submitter": request.submitter,
        "addresses": [
            {
                "address": proof.address,
                "proved_at": proof.proved_at and proof.proved_at.isoformat(),
                "code_expires_at": proof.expires_at.isoformat(),
            }
            for proof in request.proofs
        ],
        "hosts": list(request.hosts),
        "approvals_needed": request.approvals_needed,
        "approvers": list(request.approvers),
        "reason": request.reason,
        "submitted_at": request.submitted_at.isoformat(),
        "decided_at": request.decided_at and request.decided_at.isoformat(),
    }


def request_fields(request: Request) -> dict[str, Any]:
    """All that there is about a request, for people."""
    fields = request_document(request) | {
        "addresses": [f"{proof.address} ({_told(proof)})" for proof in request.proofs],
        "submitted_at": _moment(request.submitted_at),
        "decided_at": request.decided_at and _moment(request.decided_at),
    }
    return {name: value for name, value in fields.items() if value is not None}


def tell_codes(cli: Cli, request: Request, codes: Mapping[str, str]) -> None:
    """Say what became of a request, and give the codes that the operator is to send."""
    cli.output.document(request_document(request) | {"codes": dict(codes)})
    for address, code in codes.items():
        cli.output.text(f"{address}: {code}")
    if codes:
        cli.output.status("send each code to its address, and to nobody else")


def tell_request(cli: Cli, request: Request) -> None:
    """Say what became of a request."""
    cli.output.document(request_document(request))
    missing = request.approvals_needed - len(request.approvers)
    unproved = ", ".join(proof.address for proof in request.proofs if not proof.proved_at)
    text = {
        "unproved": f"waits for the code that went to {unproved}",
        "waiting": f"waits for {missing} approval{'s' if missing > 1 else ''}",
        "approved": f"approved; issue it with `tokensign ra issue {request.id}`",
    }.get(request.state.value, request.state.value)
    cli.output.status(f"request {request.id}: {text}")


def _told(proof: MailboxProof) -> str:
    if proof.proved_at:
        return f"proved {_moment(proof.proved_at)}"
    return f"not proved; code until {_moment(proof.expires_at)}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
