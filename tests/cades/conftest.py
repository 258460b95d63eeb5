"""People with certificates, and timestamp authorities that answer on the loopback address."""

# ruff: noqa: ANN401 - options are passed on

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from reports import check_document
from timestamping import Holder, OpensslTsa, certify

from tokensign.cades.extend import ExtensionMeans, extend_signatures
from tokensign.cms.signed import sign_detached
from tokensign.cms.signed_data import SignedData, read_signed_data
from tokensign.errors import VerificationError
from tokensign.pki.http import EVERYWHERE, HttpClient, Limits
from tokensign.pki.trust import TrustPolicy
from tokensign.pki.tsa_client import TimestampAuthority
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from loopback import Website

    from tokensign.cades.levels import Level
    from tokensign.report import SignerReport

CONTENT = b"the contract between Alice and Bob"


@dataclass
class World:
    """A root, a CA that issued Alice's certificate, a CA that issued a TSA's, and the TSA itself."""

    folder: Path
    site: Website
    content: bytes = CONTENT
    root: Holder = field(default_factory=lambda: certify("Root", ca=True, days=3650))

    def __post_init__(self) -> None:
        self.people = self.root.issue("People CA", ca=True, days=1000)
        self.times = self.root.issue("Time CA", ca=True, days=2000)
        self.alice = self.people.issue("Alice", days=365)
        self.url = self.tsa("tsa")

    def tsa(self, name: str, *, chained: bool = True, days: int = 1500, **options: Any) -> str:
        """Another TSA; its URL."""
        holder = self.times.issue(f"TSA {name}", timestamping=True, days=days, **options)
        return self.site.serve(f"/{name}", OpensslTsa(self.folder / name, holder, chained=chained).page)

    @property
    def crls(self) -> tuple[bytes, ...]:
        """Of all CAs: nobody was revoked."""
        return self.root.crl(), self.people.crl(), self.times.crl()

    @property
    def policy(self) -> TrustPolicy:
        """Trust in the root, with the CRLs of all CAs."""
        return TrustPolicy((self.root.certificate,), revocation="require", crls=self.crls)

    @property
    def archivist(self) -> TrustPolicy:
        """Somebody who has nothing but the root, and insists on revocation information."""
        return replace(self.policy, crls=())

    def means(self, url: str | None = None, **options: Any) -> ExtensionMeans:
        client = HttpClient(Limits(private_networks=EVERYWHERE))
        authority = TimestampAuthority(url=url or self.url, fetch=client, trust=self.policy)
        return ExtensionMeans(**{"authority": authority, "trust": self.policy, **options})

    def signed(self, *signers: Holder) -> bytes:
        """A detached signature; Alice's unless others are named."""
        return sign_detached(io.BytesIO(self.content), signers or [self.alice])

    def raised(self, level: Level, signature: bytes | None = None, **options: Any) -> bytes:
        """A detached signature at a level; Alice's fresh one unless one is given."""
        output = io.BytesIO()
        means = options.pop("means", None) or self.means(**options)
        extend_signatures(read(signature or self.signed()), level, means, output, io.BytesIO(self.content))
        return output.getvalue()

    def report(
        self, signature: bytes, *, at: datetime | None = None, trust: TrustPolicy | None = None
    ) -> SignerReport:
        """What the archivist finds about the first signature, whether it holds or not."""
        expectations = Expectations(trust=trust or self.archivist, moment=at)
        try:
            report = verify(io.BytesIO(signature), expectations, io.BytesIO(self.content))
        except VerificationError as error:
            report = error.report
        check_document(report.to_json())
        return report.signers[0]


def read(encoded: bytes) -> SignedData:
    return read_signed_data(io.BytesIO(encoded))


@pytest.fixture
def world(tmp_path: Path, website: Website) -> World:
    return World(tmp_path, website)
