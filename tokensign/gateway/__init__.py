"""A content filter for mail servers: signs and encrypts what goes out, opens what comes in, by policy.

It stands between two instances of Postfix, or between Postfix and whatever takes mail next. Mail comes by
LMTP (RFC 2033), because LMTP has an answer for each recipient after the content; it goes on by SMTP or LMTP.
The gateway has no queue: it accepts a mail for a recipient when the next hop has, and not before, so that
whoever sent it keeps it until then.

    lmtp.py        one connection: commands, limits, the content into a private file
    server.py      the listening socket, a thread a connection, the orderly end
    policy.py      what is to be done with whose mail, from the configuration
    processing.py  signs, encrypts and opens: one mail in, copies for groups of recipients out
    results.py     Authentication-Results (RFC 8601, RFC 7281)
    delivery.py    one mail from its end to its answers
    journal.py     who has which mail now, so that none goes twice
    next_hop.py    asks the process of handover.py, and starts it
    handover.py    the process that talks to the next hop, and survives the gateway by a mail's length

Two processes, because the dangerous things (a PKCS#11 module, the parsing of what strangers send) can end a
process at any time, and the one moment in which an end does harm is the one after the content was sent and
before the next hop's answer is written down. In that moment, none of the dangerous things is in the process
that waits.
"""

from __future__ import annotations

__all__: list[str] = []
