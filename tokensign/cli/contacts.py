"""`tokensign contacts`: the certificates and capabilities of correspondents."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.address_book import contacts_option, learn_sender, open_contacts, tell_change
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Group
from tokensign.cli.inputs import read_certificates, require_valid_now
from tokensign.cli.trust import TrustOptions, trust_options
from tokensign.errors import UsageError
from tokensign.files import open_input, read_small

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.contacts import Change, Contact, ContactStore
    from tokensign.contacts.dnssec import Resolver

__all__ = ["contacts"]

_DNS_PORT = 53


@click.group(cls=Group)
def contacts() -> None:
    """Look after the certificates and capabilities of correspondents."""


@contacts.command()
@click.argument("files", metavar="[CERT]...", type=PATH, nargs=-1)
@click.option("--email", metavar="ADDRESS", help="Whose certificates. [default: as they say themselves]")
@click.option("--from-mail", metavar="IN.eml", type=PATH, help="Learn from this signed mail.")
@click.option("--smimea", metavar="ADDRESS", help="Look up what the domain publishes in the DNS (RFC 8162).")
@click.option("--nameserver", metavar="IP[#PORT]", help="The resolver to ask. [default: the system's]")
@click.option("--dns-anchor", metavar="FILE", type=PATH, help="DS records to trust instead of the root's.")
@click.option("--trust-resolver", is_flag=True, help="Believe the resolver that it checked DNSSEC.")
@click.option(
    "--revocation",
    type=click.Choice(["off", "prefer", "require"]),
    help="Whether certificates of the mail were revoked; as for `verify`.",
)
@trust_options
@contacts_option
@click.pass_obj
def add(
    cli: Cli,
    files: tuple[str, ...],
    email: str | None,
    from_mail: str | None,
    smimea: str | None,
    nameserver: str | None,
    dns_anchor: str | None,
    trust_resolver: bool,
    revocation: str | None,
    place: str | None,
    trusting: TrustOptions,
) -> None:
    """Add certificates of correspondents from files, mail or the DNS.

    A certificate from a file is believed because you give it, and goes before all that is learned otherwise.
    From a mail is learned only where everything about its signature is proved, so it needs --trust. An answer
    of the DNS must be proved by DNSSEC signatures from the root down, unless --trust-resolver believes your
    own resolver that it checked them.

    \b
    Examples:
      tokensign contacts add bob.pem
      tokensign contacts add old.pem --email bob@acme.example
      tokensign contacts add --from-mail hello.eml --trust ca.pem
      tokensign contacts add --smimea bob@acme.example
    """
    if sum(map(bool, (files, from_mail, smimea))) != 1:
        raise UsageError(
            "a contact comes from certificate files, from a mail, or from the DNS",
            hint="give CERT, --from-mail or --smimea",
        )
    with open_contacts(cli, place) as store:
        if from_mail:
            changes = [_learn(cli, store, from_mail, trusting, revocation)]
        elif smimea:
            resolver = _resolver(nameserver)
            changes = _look_up(store, smimea, resolver, dns_anchor, trust_resolver=trust_resolver)
        else:
            given = read_certificates(files)
            store.add_issuers(certificate for certificate in given if certificate.is_ca)
            changes = [
                store.add(certificate, address)
                for certificate in given
                if not certificate.is_ca
                for address in _owners(certificate, email)
            ]
    for change in changes:
        tell_change(cli, change)
    cli.output.document([_change_document(change) for change in changes])


@contacts.command("list")
@contacts_option
@click.pass_obj
def list_contacts(cli: Cli, place: str | None) -> None:
    """List correspondents, and the certificate in use for each.

    \b
    Example:
      tokensign contacts list
    """
    now = datetime.now(UTC)
    with open_contacts(cli, place) as store:
        found = store.all()
    cli.output.document([_document(contact, now) for contact in found])
    rows = []
    for contact in found:
        chosen = contact.chosen(now)
        about = ("none can be used", "", "")
        if chosen:
            certificate = chosen.certificate
            about = (certificate.subject, chosen.origin.value, f"{certificate.not_after:%Y-%m-%d}")
        rows.append((contact.address, *about))
    cli.output.table(("address", "certificate", "from", "valid until"), rows, empty="There is no contact.")


@contacts.command()
@click.argument("address", metavar="ADDRESS")
@contacts_option
@click.pass_obj
def show(cli: Cli, address: str, place: str | None) -> None:
    """Tell all that is known of a correspondent.

    That are the certificates, retired ones too, and what the correspondent's software can read.

    \b
    Example:
      tokensign contacts show bob@acme.example
    """
    now = datetime.now(UTC)
    with open_contacts(cli, place) as store:
        contact = _require(store, address)
    document = _document(contact, now)
    cli.output.document(document)
    if contact.capabilities is None:
        cli.output.text(f"{contact.address}: nobody told what can be read")
    else:
        cli.output.text(
            f"{contact.address} reads: {', '.join(document['capabilities']) or 'nothing known here'}"
        )
    cli.output.table(
        ("state", "certificate", "from", "stated", "valid until", "sha256"),
        [
            (
                contact.state(known, now),
                known.certificate.subject,
                known.origin.value,
                f"{known.stated_at:%Y-%m-%d}",
                f"{known.certificate.not_after:%Y-%m-%d}",
                known.certificate.sha256.hex(),
            )
            for known in contact.certificates
        ],
        empty="There is no certificate.",
    )


@contacts.command()
@click.argument("address", metavar="ADDRESS")
@click.option("--certificate", metavar="SHA256", help="Forget this certificate only; a beginning is enough.")
@contacts_option
@click.pass_obj
def remove(cli: Cli, address: str, certificate: str | None, place: str | None) -> None:
    """Forget a correspondent, or one certificate of a correspondent.

    \b
    Examples:
      tokensign contacts remove bob@acme.example
      tokensign contacts remove bob@acme.example --certificate 5f70bf18a0860070
    """
    with open_contacts(cli, place) as store:
        contact = _require(store, address)
        named = _named(contact, certificate) if certificate else None
        store.remove(address, named)
    what = f"certificate {named.sha256.hex()[:16]} of {contact.address}" if named else contact.address
    cli.output.status(f"forgotten: {what}")
    cli.output.document({"address": contact.address, "certificate_sha256": named and named.sha256.hex()})


def _learn(
    cli: Cli, store: ContactStore, source: str, trusting: TrustOptions, revocation: str | None
) -> Change:
    from tokensign.pki.purpose import Purpose
    from tokensign.smime.open_mail import open_mail
    from tokensign.verification import Expectations

    policy = trusting.policy(cli, Purpose.EMAIL_PROTECTION, revocation)
    expectations = Expectations(trust=policy, certificates=trusting.certificates(cli))
    with open_input(source) as stream:
        return learn_sender(store, open_mail(stream, expectations), policy)


def _look_up(
    store: ContactStore, address: str, resolver: Resolver, anchor: str | None, *, trust_resolver: bool
) -> list[Change]:
    from tokensign.contacts import Origin
    from tokensign.contacts.dnssec import ROOT_ANCHORS, Validator, read_trust_anchors
    from tokensign.contacts.smimea import lookup_smimea

    validator = None
    if not trust_resolver:
        text = read_small(anchor).decode("ascii", "replace") if anchor else None
        validator = Validator(resolver, read_trust_anchors(text) if text is not None else ROOT_ANCHORS)
    found = lookup_smimea(address, resolver, validator)
    return [store.add(certificate, address, Origin.SMIMEA) for certificate in found]


def _resolver(nameserver: str | None) -> Resolver:
    from tokensign.contacts.dnssec import Resolver, system_resolver

    if nameserver is None:
        return system_resolver()
    address, _, port = nameserver.partition("#")
    try:
        return Resolver(str(ip_address(address)), int(port or _DNS_PORT))
    except ValueError as error:
        raise UsageError(
            f"{nameserver} is not a resolver", hint="write 192.0.2.1 or 192.0.2.1#5353"
        ) from error


def _owners(certificate: Certificate, email: str | None) -> tuple[str, ...]:
    require_valid_now(certificate, "ask for a current one")
    owners = (email,) if email else certificate.emails
    if not owners:
        raise UsageError(
            f"the certificate of {certificate.subject} names no address", hint="say whose it is with --email"
        )
    return owners


def _require(store: ContactStore, address: str) -> Contact:
    found = store.find(address)
    if found is None:
        raise UsageError(f"{address} is not among the contacts", hint="see `tokensign contacts list`")
    return found


def _named(contact: Contact, beginning: str) -> Certificate:
    found = [
        known.certificate
        for known in contact.certificates
        if known.certificate.sha256.hex().startswith(beginning.lower())
    ]
    if len(found) != 1:
        raise UsageError(
            f"{beginning} is the beginning of {len(found)} certificates of {contact.address}, not of one",
            hint=f"see `tokensign contacts show {contact.address}`",
        )
    return found[0]


def _document(contact: Contact, now: datetime) -> dict[str, Any]:
    """A contact as JSON has it."""
    return {
        "address": contact.address,
        "capabilities": None if contact.capabilities is None else _names(contact),
        "capabilities_at": contact.capabilities_at and contact.capabilities_at.isoformat(),
        "certificates": [
            {
                "state": contact.state(known, now),
                "origin": known.origin.value,
                "encrypts": known.encrypts,
                "stated_at": known.stated_at.isoformat(),
                "revoked_at": known.revoked_at and known.revoked_at.isoformat(),
            }
            | certificate_document(known.certificate)
            for known in contact.certificates
        ],
    }


def _change_document(change: Change) -> dict[str, Any]:
    return {
        "address": change.contact.address,
        "certificate_sha256": change.after and change.after.sha256.hex(),
        "previous_sha256": change.before and change.before.sha256.hex(),
        "key_changed": change.replaces_key,
        "problem": change.problem,
    }


def _names(contact: Contact) -> list[str]:
    """The capabilities by name, those without one dotted."""
    from tokensign.algorithms import CONTENT_CIPHERS, RSAES_OAEP_OID

    names = {entry.oid: entry.name for entry in CONTENT_CIPHERS.values()} | {RSAES_OAEP_OID: "rsaes-oaep"}
    found = (names.get(entry.oid, entry.oid) for entry in contact.capabilities or ())
    return list(dict.fromkeys(found))
