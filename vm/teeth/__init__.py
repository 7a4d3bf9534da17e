"""Changed kernels, to see which tests notice: ``python -m vm teeth``."""
