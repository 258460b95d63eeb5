"""Every error that tokensign raises, in one tree.

::

    TokensignError
    ├── UsageError                    2   a call or a configuration that cannot be meant
    │   ├── ConfigurationError
    │   └── IdempotencyError          2   an Idempotency-Key that was used before
    │       ├── ConflictError
    │       └── MismatchError
    ├── TokenError                    3   the token, its module, or a key on it
    │   ├── ModuleError
    │   ├── TokenNotFoundError
    │   ├── TokenRemovedError
    │   ├── KeyNotFoundError
    │   ├── AmbiguousNameError
    │   ├── MechanismError
    │   ├── WeakKeyError
    │   ├── AgentError
    │   ├── LaneError                     a worker process of the signing service
    │   │   ├── LaneBusyError
    │   │   └── LaneDownError
    │   └── PinError
    │       ├── PinUnavailableError
    │       ├── PinIncorrectError
    │       └── PinLockedError
    ├── MessageError                  4   a message that cannot be used
    │   ├── MalformedError
    │   ├── UnsupportedError
    │   │   └── LegacyAlgorithmError
    │   ├── NoRecipientError
    │   └── DecryptionError
    ├── BadSignatureError             1   one signature is not that of this content by this key
    ├── VerificationError             1   a signature that does not hold; carries the report
    ├── UntrustedError                1   a certificate that does not lead to a trust anchor
    │   └── PolicyError               1   a certificate, or a mail, that the user's own rules refuse
    ├── SigningError                  1   a fresh signature that its own public key refuses
    ├── AccessError                   1   what the signing service does not do for whoever asks
    │   ├── UnauthenticatedError
    │   ├── ForbiddenError
    │   └── RateError
    ├── FileError                     5   a file or a stream
    │   └── OutputExistsError
    └── NetworkError                  5   a server that gave no answer, or none that may be taken

The number is the exit code of the command line. Each error says what failed, to which object, and
in `hint` what to do next. No message ever holds a PIN, a key or decrypted content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tokensign.report import VerificationReport

__all__ = [
    "AccessError",
    "AgentError",
    "AmbiguousNameError",
    "BadSignatureError",
    "ConfigurationError",
    "ConflictError",
    "DecryptionError",
    "FileError",
    "ForbiddenError",
    "IdempotencyError",
    "KeyNotFoundError",
    "LaneBusyError",
    "LaneDownError",
    "LaneError",
    "LegacyAlgorithmError",
    "MalformedError",
    "MechanismError",
    "MessageError",
    "MismatchError",
    "ModuleError",
    "NetworkError",
    "NoRecipientError",
    "OutputExistsError",
    "PinError",
    "PinIncorrectError",
    "PinLockedError",
    "PinUnavailableError",
    "PolicyError",
    "RateError",
    "SigningError",
    "TokenError",
    "TokenNotFoundError",
    "TokenRemovedError",
    "TokensignError",
    "UnauthenticatedError",
    "UnsupportedError",
    "UntrustedError",
    "UsageError",
    "VerificationError",
    "WeakKeyError",
]


class TokensignError(Exception):
    """Anything that tokensign refuses or fails to do.

    Args:
        message: What happened, and to which object. One sentence, no full stop.
        hint: What the user can do next, or None where nothing helps.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TokensignError):
    """The call itself cannot be meant: contradicting options, an unknown name."""

    exit_code = 2


class ConfigurationError(UsageError):
    """The configuration file or an environment variable cannot be understood."""


class TokenError(TokensignError):
    """The token, its PKCS#11 module, or an object on it."""

    exit_code = 3


class ModuleError(TokenError):
    """The PKCS#11 module cannot be found, loaded or initialised."""


class TokenNotFoundError(TokenError):
    """No token, or none that fits the name."""


class TokenRemovedError(TokenError):
    """The token was there and is gone."""


class KeyNotFoundError(TokenError):
    """No key or certificate on the token fits the name."""


class AmbiguousNameError(TokenError):
    """A name fits several tokens, keys or certificates; they are listed in the message."""


class MechanismError(TokenError):
    """The token cannot do what was asked of it."""


class WeakKeyError(TokenError):
    """A key lacks the protection that a token key must have."""


class AgentError(TokenError):
    """The agent is not there, is locked, or is not to be trusted; or a person refused the use of a key."""


class LaneError(TokenError):
    """A lane, the worker process of the signing service that holds a token, does not do what it is asked."""


class LaneBusyError(LaneError):
    """So much waits for the token that this is not taken on, or was not begun in time. Nothing was signed."""


class LaneDownError(LaneError):
    """The lane is down, or ended while it held the request; whether the token did it is not known then.

    Args:
        message: What happened, and to which lane.
        retry_after: Seconds after which it is worth to ask again; None where somebody must act first.
        hint: What the user can do next.
    """

    def __init__(self, message: str, *, retry_after: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class PinError(TokenError):
    """Anything about a PIN. The PIN itself is in no message."""


class PinUnavailableError(PinError):
    """No PIN can be had from the source that was named, or none was named."""


class PinIncorrectError(PinError):
    """The token refused the PIN. It was tried once and is not tried again."""


class PinLockedError(PinError):
    """The PIN is locked, or the next wrong one would lock it."""


class MessageError(TokensignError):
    """A message, certificate or key that cannot be used."""

    exit_code = 4


class MalformedError(MessageError):
    """The bytes are not what they should be: broken encoding, missing or contradicting fields."""


class UnsupportedError(MessageError):
    """The message is well-formed and uses something that tokensign does not do."""


class LegacyAlgorithmError(UnsupportedError):
    """The message uses an algorithm that is read only behind the legacy switch."""


class NoRecipientError(MessageError):
    """The message is for others: no key here fits any of its recipients."""


class DecryptionError(MessageError):
    """The message cannot be decrypted here.

    One class and one text for every cause after a recipient was found, so that an attacker who may
    ask for decryptions learns nothing from it (RFC 3218, RFC 8551 section 6).
    """


class BadSignatureError(TokensignError):
    """A signature is not that of this content by this key: one of the three was changed."""

    exit_code = 1


class VerificationError(TokensignError):
    """A signature does not hold: its integrity, the trust in its signer, the signer's identity, or a policy.

    Args:
        message: The verdict in one sentence.
        report: All that was found; see `tokensign.report.VerificationReport`.
        hint: What the user can do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, report: VerificationReport, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class UntrustedError(TokensignError):
    """A certificate cannot be trusted: no path to an anchor, expired, revoked, or not meant for this use."""

    exit_code = 1


class PolicyError(UntrustedError):
    """A certificate that the user's rules refuse, wherever it leads; or a mail, by RFC 2634.

    A certificate's algorithms are too weak, it lacks the certificate policies that are demanded, or nothing
    tells whether it was revoked although that is demanded. A mail's security label exceeds what the reader
    may see, no receipt is owed for it, or it went through a mailing list before.
    """


class SigningError(TokensignError):
    """A signature that the token made does not verify with the key's own public key.

    It is not released: it may reveal the key (fault attacks), and nobody could use it.
    """

    exit_code = 1


class AccessError(TokensignError):
    """The signing service does not do this for whoever asks."""

    exit_code = 1


class UnauthenticatedError(AccessError):
    """Nobody is known by the certificate, token or API key that came with a request, or none came.

    The message is for the operator's log. Whoever asked is told no more than that: which of the checks failed
    would help to guess.
    """


class ForbiddenError(AccessError):
    """No grant allows the operation: not for this principal, key, scheme or time."""


class RateError(AccessError):
    """More was asked for in a time than a rate allows.

    Args:
        message: Which rate.
        retry_after: Seconds after which the same would be allowed.
        hint: What the user can do next.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class IdempotencyError(UsageError):
    """An Idempotency-Key was used before, so that the request cannot be taken."""


class ConflictError(IdempotencyError):
    """The request with this Idempotency-Key is still running."""


class MismatchError(IdempotencyError):
    """The request with this Idempotency-Key had another body."""


class FileError(TokensignError):
    """A file cannot be read or written."""

    exit_code = 5


class OutputExistsError(FileError):
    """The output exists already; nothing is overwritten unless asked."""


class NetworkError(TokensignError):
    """A server gave no answer, or none that may be taken: in time, in size, or because of where it is."""

    exit_code = 5
