"""What is done with a mail before it goes on: signed and encrypted on its way out, opened on its way in."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tokensign.contacts.choosing import choose_algorithms, recipients_for
from tokensign.errors import (
    DecryptionError,
    MalformedError,
    MessageError,
    NoRecipientError,
    UnsupportedError,
    UsageError,
)
from tokensign.files import spool
from tokensign.gateway.delivery import Copy, Refused
from tokensign.gateway.policy import covers
from tokensign.gateway.results import delivery_field, forged, result_of, results_field, unopened
from tokensign.mailboxes import same_mailbox
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.entity_writer import SEALED_TYPES
from tokensign.smime.mime import read_entity
from tokensign.smime.open_mail import open_mail
from tokensign.smime.sender import read_sender
from tokensign.smime.transport.header_lines import without_fields
from tokensign.smime.transport.smtp_client import lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokensign.contacts.contact import Recipient
    from tokensign.contacts.contact_store import ContactStore
    from tokensign.gateway.policy import IncomingSettings, SenderRule
    from tokensign.keys import DecryptionKey, Signer
    from tokensign.pki.policy import TrustPolicy
    from tokensign.smime.mime import Entity
    from tokensign.smime.transport.smtp_client import Envelope
    from tokensign.verification import Expectations

__all__ = ["Incoming", "Outgoing"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Signs and encrypts what goes out.

    Attributes:
        rules: What is done with whose mail; the first that fits From decides.
        signers: The keys by their names in the rules.
        contacts: The certificates of recipients; None: nothing is encrypted.
        trust: Whom to trust for them; None takes what is in the contacts.
    """

    rules: Sequence[SenderRule]
    signers: Mapping[str, Signer]
    contacts: ContactStore | None = None
    trust: TrustPolicy | None = None

    def process(self, envelope: Envelope, content: BinaryIO, mail: str) -> Sequence[Copy]:
        """Sign a mail, and encrypt it where the rule of its sender says so.

        A mail without a rule goes on as it is. So does one that is signed or encrypted already, unless it
        must be encrypted: a gateway cannot tell what is inside.

        Raises:
            Refused: From is not who sends it, it is damaged, or it must be encrypted and cannot be.
            TokenError: The token failed.
        """
        entity = _entity(content, envelope)
        rule = self._rule(envelope, entity)
        if rule is None:
            return [_copy(content, envelope.recipients, delivery_field(mail), "passed on")]
        if entity.content_type in SEALED_TYPES:
            if rule.encrypt == "require" and not _is_encrypted(entity):
                raise Refused("a signed mail is not encrypted here; send it unsigned", envelope.recipients)
            return [_copy(content, envelope.recipients, delivery_field(mail), "passed on")]
        signer = self.signers[rule.key]
        readers = self._readers(rule, envelope)
        try:
            if readers:
                return self._encrypted(content, entity, readers, signer, mail)
            with spool() as signed:
                sign_mail(content, [signer], signed)
                signed.seek(0)
                return [_copy(signed, envelope.recipients, delivery_field(mail), "signed")]
        except MessageError as error:
            raise Refused(f"the mail cannot be signed: {error.message}", envelope.recipients) from error

    def _rule(self, envelope: Envelope, entity: Entity) -> SenderRule | None:
        """The rule for a mail.

        Raises:
            Refused: From and the sender of the envelope differ, so that somebody would sign in another one's
                name.
        """
        sender = read_sender(entity.fields)
        of_from = self._rule_of(sender.address) if sender.address else None
        of_envelope = self._rule_of(envelope.sender)
        if not envelope.sender or (of_from is None and of_envelope is None):
            return None  # bounces are nobody's mail, and are not signed
        if sender.address is None or not same_mailbox(envelope.sender, sender.address):
            raise Refused("From is not the one address that sends this mail", envelope.recipients)
        return of_from

    def _rule_of(self, address: str) -> SenderRule | None:
        return next((rule for rule in self.rules if covers(rule.sender, address)), None)

    def _readers(self, rule: SenderRule, envelope: Envelope) -> list[Recipient]:
        """The recipients with their certificates; nobody, where the mail is not encrypted.

        Raises:
            Refused: It must be encrypted, and some have no certificate, or read weak ciphers only.
        """
        if rule.encrypt == "off" or self.contacts is None:
            return []
        found: list[Recipient] = []
        unknown: list[str] = []
        for address in envelope.recipients:
            try:
                readers = recipients_for([address], self.contacts, trust=self.trust)
                choose_algorithms(readers)  # who reads weak ciphers only is as one without a certificate
            except (UsageError, UnsupportedError):
                unknown.append(address)
            else:
                found += readers
        if unknown and rule.encrypt == "require":
            raise Refused(
                "no certificate to encrypt to is known for this recipient, or only weak ciphers are", unknown
            )
        return [] if unknown else found

    def _encrypted(
        self, content: BinaryIO, entity: Entity, readers: Sequence[Recipient], signer: Signer, mail: str
    ) -> list[Copy]:
        """One copy for all that To and Cc name, and one for each other recipient, whom nobody else sees."""
        named = [box.address for name in ("To", "Cc") for box in entity.fields.addresses(name)]
        visible = [reader for reader in readers if any(same_mailbox(reader.address, to) for to in named)]
        hidden = [reader for reader in readers if reader not in visible]
        groups = [(visible, None)] if visible else []
        copies: list[Copy] = []
        with contextlib.ExitStack() as on_failure:
            for group, blind in [*groups, *(([reader], reader.address) for reader in hidden)]:
                algorithms = choose_algorithms(group)
                options = MailOptions(
                    cipher=algorithms.cipher, key_transport=algorithms.transport, every_recipient=False
                )
                with spool() as encrypted:
                    certificates = [reader.certificate for reader in group]
                    content.seek(0)
                    encrypt_mail(content, certificates, encrypted, options, signers=[signer], bcc=blind)
                    encrypted.seek(0)
                    addresses = tuple(reader.address for reader in group)
                    copy = _copy(encrypted, addresses, delivery_field(mail), "signed and encrypted")
                on_failure.callback(copy.content.close)
                copies.append(copy)
            on_failure.pop_all()
        return copies


@dataclass(frozen=True, slots=True)
class Incoming:
    """Opens what comes in, and says what it found.

    Attributes:
        settings: For whom, and what is written.
        keys: The keys by their names in the rules.
        expectations: What signatures are held against.
    """

    settings: IncomingSettings
    keys: Mapping[str, DecryptionKey]
    expectations: Expectations

    def process(self, envelope: Envelope, content: BinaryIO, mail: str) -> Sequence[Copy]:
        """Open a mail for each group of recipients whose mail the same keys decrypt.

        What cannot be opened goes on as it was received, and so does what is signed and not encrypted: the
        signature is the recipient's to see.

        Raises:
            TokenError: The token failed.
        """
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for recipient in envelope.recipients:
            groups[self._keys_of(recipient)].append(recipient)
        with contextlib.ExitStack() as on_failure:
            copies: list[Copy] = []
            for names, recipients in groups.items():
                content.seek(0)
                copy = self._opened(content, [self.keys[name] for name in names], tuple(recipients), mail)
                on_failure.callback(copy.content.close)
                copies.append(copy)
            on_failure.pop_all()
        return copies

    def _keys_of(self, recipient: str) -> tuple[str, ...]:
        rules = self.settings.recipients
        return next((rule.keys for rule in rules if covers(rule.recipient, recipient)), ())

    def _opened(
        self, content: BinaryIO, keys: Sequence[DecryptionKey], recipients: tuple[str, ...], mail: str
    ) -> Copy:
        with spool() as opened:
            source, outcome = content, "verified"
            try:
                report = open_mail(content, self.expectations, keys, opened)
            except (NoRecipientError, DecryptionError):
                result, outcome = unopened("encrypted, and not opened here"), "passed on closed"
            except (MalformedError, UnsupportedError):
                result, outcome = unopened("this mail cannot be read here"), "passed on unread"
            else:
                result = result_of(report)
                if not report.encrypted or not report.holds:
                    pass
                elif report.authenticated or self.settings.open_unauthenticated:
                    source, outcome = opened, "opened"
                else:
                    result = unopened("encrypted without protection from changes, and not signed")
                    outcome = "passed on closed"
            source.seek(0)
            name = self.settings.authserv_id
            front = delivery_field(mail) + (results_field(name, result) if name else b"")
            return _copy(source, recipients, front, outcome, name)


def _entity(content: BinaryIO, envelope: Envelope) -> Entity:
    try:
        return read_entity(content)
    except MalformedError as error:
        raise Refused(f"the mail is damaged: {error.message}", envelope.recipients) from error


def _is_encrypted(entity: Entity) -> bool:
    if entity.content_type == "multipart/encrypted":
        return True
    return entity.parameters.get("smime-type", "").lower() in ("enveloped-data", "authenveloped-data")


def _copy(
    source: BinaryIO,
    recipients: tuple[str, ...],
    front: bytes,
    outcome: str,
    authserv_id: str | None = None,
) -> Copy:
    """A mail with fields of the gateway in front, and without those that claim to be."""
    source.seek(0)
    copy = spool()
    try:
        copy.write(front)
        copy.writelines(without_fields(lines(source), forged(authserv_id)))
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return Copy(copy, recipients, outcome)
