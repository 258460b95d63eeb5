"""Enhanced security services for S/MIME (RFC 2634, RFC 5035): receipts, labels, histories of mailing lists.

All of them are signed attributes. `attributes` reads what a signature carries; `receipt_request`, `labels`
and `mailing_list` have one structure each; `receipts` makes a signed receipt and holds one against what was
sent; `receipt_rules` and `label_policy` decide.

Nothing here may be acted upon before the signature that it stands under was verified (RFC 2634 sections 2.3,
3.1.2 and 4.1).
"""
