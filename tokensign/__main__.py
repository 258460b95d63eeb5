"""`python -m tokensign` is the command line."""

from tokensign.cli import main

main()
