"""Coverage-guided fuzzing of everything that reads what a stranger sends, with atheris.

    python -m fuzz.read_message [options of libFuzzer] [folder]...

Without a folder the seeds beside this file are used and, where the public test data is at hand
(TOKENSIGN_CORPORA, or ../shared/corpora), the messages in it. Useful options: -max_total_time=600,
-rss_limit_mb=2048, -timeout=5, -jobs=2. A finding is written as crash-… or timeout-… into the working folder;
give its path as the only argument to see it again.

`python -m fuzz.make_seeds` makes the seeds anew. The keys in keys/ protect nothing.
"""
