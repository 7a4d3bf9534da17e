"""What AF_ALG costs, beside a library in user space: the question of the proposal's first reply (2010)."""
