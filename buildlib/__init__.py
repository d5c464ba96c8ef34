"""buildlib: an incremental build engine for Python monorepos, on top of doit."""

__version__ = "0.1.0"
