"""Side by side with the peers, in one run, alternating, so that the machine's mood is the same for all.

    python -m benchmarks.signing        CMS signatures of 10 kB beside the raw token loop, pyHanko, endesive
    python -m benchmarks.verifying      the same messages verified
    python -m benchmarks.large_files    sign, verify, encrypt and decrypt a large file beside `openssl cms`
    python -m benchmarks.mail           mail beside `openssl cms`, endesive and python-smail

Each prints medians and ratios. They need the dependency group `bench` and SoftHSM; tokens and files are
throw-away.
"""
