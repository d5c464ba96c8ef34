"""The build tasks are generated from the pyproject.toml files below libs/ and services/; add tasks of your own here."""

from buildlib.tasks.dodo import DOIT_CONFIG

__all__ = ["DOIT_CONFIG"]
