"""Certificates of issuers that a message left out, from where certificates say (RFC 5280 section 4.2.2.1).

What is fetched is believed no more than what comes along in a message: it may lie on a path, and the path is
validated.
"""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Final

from tokensign.certificates import load_certificates
from tokensign.cms.certificates_only import read_certificates_only
from tokensign.errors import MessageError, TokensignError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.certificates import Certificate
    from tokensign.pki.http import Fetch

__all__ = ["ISSUER_FETCHES_MAXIMUM", "ISSUER_URLS_MAXIMUM", "fetch_issuers", "issuer_urls"]

ISSUER_URLS_MAXIMUM: Final = 2  # of one certificate; a second one is for when the first does not answer
ISSUER_FETCHES_MAXIMUM: Final = 4  # levels of one path; longer chains come with the message

_log: Final = logging.getLogger(__name__)


def issuer_urls(certificate: Certificate) -> tuple[str, ...]:
    """Where the issuer's certificate is: caIssuers of authorityInfoAccess, over HTTP, in their order.

    The list ends after ISSUER_URLS_MAXIMUM. Those with other schemes, such as ldap, are left out.
    """
    return tuple(_locations(certificate))[:ISSUER_URLS_MAXIMUM]


def fetch_issuers(certificate: Certificate, fetch: Fetch) -> list[Certificate]:
    """The certificates at the first of the `issuer_urls` that answers with some.

    Args:
        certificate: Whose issuers are wanted.
        fetch: Asks for a URL, within limits of its own.

    Returns:
        What was there: a certificate, DER or PEM, or those of a certs-only message; empty where nothing was.
    """
    for url in issuer_urls(certificate):
        try:
            return _certificates(fetch(url))
        except TokensignError as error:  # the path is missing its issuer then, and says so
            _log.info("no issuer of %s from %s: %s", certificate.subject, url, error)
    return []


def _locations(certificate: Certificate) -> Iterator[str]:
    for entry in certificate.asn1.authority_information_access_value or ():
        location = entry["access_location"]
        if entry["access_method"].native == "ca_issuers" and location.name == "uniform_resource_identifier":
            url = location.chosen.contents.decode("ascii", "replace")  # an IA5String as it is
            if url.lower().startswith(("http://", "https://")) and url.isprintable():
                yield url


def _certificates(answer: bytes) -> list[Certificate]:
    try:
        return load_certificates(answer)
    except MessageError:
        return list(read_certificates_only(io.BytesIO(answer)).certificates)
