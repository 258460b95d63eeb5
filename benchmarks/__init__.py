"""Side by side with the peers, in one run, alternating, so that the machine's mood is the same for all.

    python -m benchmarks.signing        CMS signatures of 10 kB beside the raw token loop, pyHanko, endesive
    python -m benchmarks.verifying      the same messages verified
    python -m benchmarks.large_files    sign, verify, encrypt and decrypt a large file beside `openssl cms`
    python -m benchmarks.mail           mail beside `openssl cms`, endesive and python-smail
    python -m benchmarks.ocsp           OCSP answers beside `openssl ocsp`
    python -m benchmarks.agent          signing through the agent beside signing with the token at hand
    python -m benchmarks.service        signatures through the service beside the raw token loop
    python -m benchmarks.journal        what the service records a second
    python -m benchmarks.faults         how soon the service signs again after each fault

Each prints medians and ratios. They need the dependency group `bench` and SoftHSM; tokens and files are
throw-away.
"""
