"""Real programs of Debian, run under each policy, and what they do with AF_ALG recorded: `make programs`."""
