"""CAdES baseline signatures: CMS signatures that outlive their certificates (ETSI EN 319 122-1).

Each level stands on the one before it:

- **B-B**: a CMS signature with signed attributes that name the signer's certificate and a signing time. Every
  signature of tokensign is one; `tokensign.cms.signed` makes them.
- **B-T**: with a timestamp over the signature, which proves that it existed before its certificate expired or
  was revoked.
- **B-LT**: with all certificates, CRLs and OCSP responses that a validation needs, in SignedData.
- **B-LTA**: with a timestamp over all of that, which proves that it existed while its algorithms were strong
  and those who signed it were still to be believed. It is renewed before that ends.

Who reads on: `levels` (which is which), `archive` (what an archive timestamp is over), `extend` (to a higher
level; no token is needed) and `validate` (what the timestamps of a signature prove).
"""

from __future__ import annotations
