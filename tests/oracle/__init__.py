"""What the right answer is: independent of the kernel, and tested itself in tests/selftests."""
