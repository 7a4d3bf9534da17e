"""Loads the runner; tests and their fixtures are below tests/."""

pytest_plugins = ["vm.run.plugin"]
