"""S/MIME (RFC 8551): CMS messages as MIME entities, and mail that is signed and encrypted.

`canonical` makes line ends what is signed, `entity` and `mime` find the parts of a MIME entity over its raw
bytes, `compose` writes multipart/signed and application/pkcs7-mime, `unwrap` opens a file in any form.

`compose_mail` signs and encrypts whole mails: `mail_draft` is the mail that came, `entity_writer` writes what
is signed, `mail_layers` go around it, and `mail_recipients` says who reads which copy. `open_mail` takes the
layers off. `header_protection` is about the header fields in both directions (RFC 9788).
"""
