"""Trust in certificates, and the making of them.

- `tokensign.pki.trust`: from a certificate to a trust anchor (RFC 5280 section 6). Start here to verify.
- `tokensign.pki.ca`, `tokensign.pki.request`: certificates and certification requests, signed on the token.
- The rest are parts of the two: `anchors`, `purpose`, `strength`, `revocation`; `names`, `extensions`,
  `signer_key`.

Private keys are known by the protocol `tokensign.keys.Signer` only, and nothing is fetched from a network.
"""
