"""Trust in certificates, and the making of them.

- `tokensign.pki.trust`: from a certificate to a trust anchor (RFC 5280 section 6). Start here to verify.
- `tokensign.pki.ca`, `tokensign.pki.request`: certificates and certification requests, signed on the token.
- `tokensign.pki.mailbox`: which e-mail addresses a CA may certify (RFC 9598).
- The rest are parts of the first (`policy`, `anchors`, `issuers`, `purpose`, `strength`, `rules`,
  `revocation`, `reasons`, `validated_path`, `chain_cache`) and of the second (`names`, `extensions`,
  `signer_key`).

Private keys are known by the protocol `tokensign.keys.Signer` only. What is fetched goes through
`tokensign.pki.http`, and nothing is unless the policy allows it.
"""
