"""Runs as jobs of CI systems."""
