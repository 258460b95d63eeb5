"""How mail travels: submission over SMTP, and fetching over IMAP, always over verified TLS.

`submission.send_mail` hands a mail to a submission server, `imap.fetch_mails` writes the mails of a mailbox
to files. Both leave the octets of a mail as they are. `smtp_client` is the client that both `mail send` and
the gateway hand mail over with; it reads the mail from a stream and holds none of it in memory.
"""

from __future__ import annotations

__all__: list[str] = []
