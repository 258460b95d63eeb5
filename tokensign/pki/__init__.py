"""Trust in certificates, and the making of them.

- `tokensign.pki.trust`: from a certificate to a trust anchor (RFC 5280 section 6). Start here to verify.
- `tokensign.pki.ca`, `tokensign.pki.request`: certificates and certification requests, signed on the token.
- The rest are parts of the first (`policy`, `anchors`, `purpose`, `strength`, `rules`, `revocation`,
  `reasons`) and of the second (`names`, `extensions`, `signer_key`).

Private keys are known by the protocol `tokensign.keys.Signer` only, and nothing is fetched from a network.
"""
