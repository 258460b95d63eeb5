"""Mailing one-time codes to the addresses of a request, or else giving them to the operator."""

from __future__ import annotations

import io
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import TYPE_CHECKING, Final

from tokensign.cli.inputs import password_from
from tokensign.errors import NetworkError, TokensignError, UsageError
from tokensign.pki.names import mailboxes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokensign.authority.request_records import Request
    from tokensign.cli.command import Cli
    from tokensign.smime.transport.servers import Server

__all__ = ["deliver_codes"]

_TEXT: Final = """\
Somebody asks for a certificate that has this address, {address}.

The request is number {number}, of {requester}, to the CA {authority}.

If that is you, tell your registration authority this code within 24 hours:

    {code}

They enter it with: tokensign ra verify {number} CODE

If it is not you, do nothing; without the code there will be no certificate.
"""


def deliver_codes(cli: Cli, request: Request, codes: Mapping[str, str], sender: str | None) -> dict[str, str]:
    """Mail each code to its address, where [mail] of the configuration names a submission server.

    Args:
        cli: The common options.
        request: The request.
        codes: The codes by address.
        sender: From whom the mail is; None for the account on the submission server.

    Returns:
        The codes that were not mailed because no server is configured; those the operator is to send.

    Raises:
        UsageError: The sender is not known.
        NetworkError: The server failed or refused a recipient; the request stays, and new codes can be sent.
    """
    from tokensign.smime.transport.servers import SUBMISSION_SCHEMES, parse_server

    if not codes or not cli.settings.mail.submission:
        return dict(codes)
    try:
        server = parse_server(cli.settings.mail.submission, SUBMISSION_SCHEMES)
        origin = sender or server.user
        if not origin:
            raise UsageError("it is not known from whom the codes are mailed")
        mailboxes((origin,))  # that it is an address
        for address, code in codes.items():
            _send(cli, server, address, _mail(request, address, code, origin))
            cli.output.status(f"a code was mailed to {address}")
    except TokensignError as error:
        again = f"send new codes with `tokensign ra challenge {request.id} --from ADDRESS`"
        error.hint = f"request {request.id} is recorded; {again}"
        raise
    return {}


def _mail(request: Request, address: str, code: str, sender: str) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = address
    mail["Date"] = formatdate(localtime=False)
    mail["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    mail["Subject"] = f"Code for certificate request {request.id}"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine shall answer
    mail.set_content(
        _TEXT.format(
            address=address,
            number=request.id,
            requester=request.requester,
            authority=request.authority,
            code=code,
        )
    )
    return mail


def _send(cli: Cli, server: Server, address: str, mail: EmailMessage) -> None:
    from tokensign.smime.transport.servers import verified_tls
    from tokensign.smime.transport.submission import send_mail

    settings = cli.settings.mail
    secret = settings.password_source or "prompt"
    result = send_mail(
        io.BytesIO(mail.as_bytes()),
        server,
        verified_tls(settings.trust),
        lambda: password_from(secret, f"{server.user} at {server.host}").reveal().decode(),
        recipients=(address,),  # and not what the header of a mail makes of it
    )
    for reply in result.refused.values():
        raise NetworkError(f"the code was not sent to {address}: {reply}")
