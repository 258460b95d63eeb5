"""Finding the content key: which matches are tried, how often, and what may refuse a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tokensign.cms.content_key import find_content_key
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    NoRecipientError,
    TokenError,
    UnsupportedError,
)
from tokensign.keys import Password

if TYPE_CHECKING:
    from tokensign.keys import DecryptionKey

PASSWORD = Password("x")
OTHER_KEY = object()
RIGHT = bytes(range(16))


@dataclass
class Recipient:
    """A recipient that gives what it is told to."""

    result: bytes | Exception = RIGHT
    refusal: Exception | None = None
    hides_failure: bool = False
    fits: bool = True
    asked: int = field(default=0, init=False)

    def is_for(self, key: DecryptionKey) -> bool:  # noqa: ARG002 - the protocol's parameter
        return self.fits

    def require_strength(self, *, legacy: bool) -> None:
        if self.refusal and not legacy:
            raise self.refusal

    def content_key(self, key: DecryptionKey) -> bytes:  # noqa: ARG002 - the protocol's parameter
        self.asked += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def __str__(self) -> str:
        return "somebody"


def find(*recipients: Recipient, keys: object = (OTHER_KEY,), legacy: bool = False) -> tuple[bytes, bool]:
    return find_content_key(recipients, keys, 16, legacy=legacy)  # type: ignore[arg-type]


def test_every_match_is_tried_also_after_one_succeeded() -> None:
    recipients = [Recipient(DecryptionError("no")), Recipient(), Recipient(bytes(16))]
    assert find(*recipients) == (RIGHT, True)
    assert [recipient.asked for recipient in recipients] == [1, 1, 1]


@pytest.mark.parametrize("result", [DecryptionError("no"), b"", bytes(15), bytes(17)], ids=str)
def test_a_random_key_stands_in_and_only_hidden_failures_are_not_noted(result: bytes | Exception) -> None:
    first, genuine = find(Recipient(result))
    second, hidden = find(Recipient(result, hides_failure=True))
    assert len(first) == len(second) == 16
    assert first != second
    assert (genuine, hidden) == (False, True)


def test_other_sizes_are_taken_where_the_caller_says_so() -> None:
    key, genuine = find_content_key([Recipient(bytes(24))], [PASSWORD], 32, legacy=False, sizes=range(16, 65))
    assert (key, genuine) == (bytes(24), True)


def test_a_weak_match_does_not_stop_a_strong_one_and_is_not_asked() -> None:
    weak, strong = Recipient(refusal=LegacyAlgorithmError("old")), Recipient()
    assert find(weak, strong) == (RIGHT, True)
    assert (weak.asked, strong.asked) == (0, 1)


def test_a_message_with_weak_matches_only_is_refused_for_the_first() -> None:
    weak, unknown = Recipient(refusal=LegacyAlgorithmError("old")), Recipient(refusal=UnsupportedError("new"))
    with pytest.raises(LegacyAlgorithmError, match="old"):
        find(weak, unknown)
    assert find(weak, legacy=True) == (RIGHT, True)


def test_no_match_lists_for_whom_the_message_is() -> None:
    with pytest.raises(NoRecipientError) as error:
        find(*[Recipient(fits=False) for _ in range(7)])
    assert error.value.hint == f"it is for: {'; '.join(['somebody'] * 5)} and 2 more"
    with pytest.raises(NoRecipientError) as error:
        find()
    assert error.value.hint == "it is for: nobody"


def test_a_failing_token_is_told() -> None:
    with pytest.raises(TokenError, match="gone"):
        find(Recipient(TokenError("gone")))


def test_a_message_does_not_cause_any_number_of_operations() -> None:
    recipients = [Recipient() for _ in range(33)]
    with pytest.raises(UnsupportedError, match="33 keys would have to be tried, more than 32") as error:
        find(*recipients)
    assert "--key" in str(error.value.hint)
    assert not any(recipient.asked for recipient in recipients)


def test_a_message_does_not_cause_any_number_of_password_derivations() -> None:
    recipients = [Recipient() for _ in range(5)]
    with pytest.raises(UnsupportedError, match="5 passwords"):
        find(*recipients, keys=[PASSWORD])
    assert not any(recipient.asked for recipient in recipients)
    assert find(*recipients[:4], keys=[PASSWORD]) == (RIGHT, True)
