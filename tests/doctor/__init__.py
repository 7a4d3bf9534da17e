"""Says why AF_ALG does not work on a kernel: ``python -m tests.doctor``."""
