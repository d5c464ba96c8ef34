"""The one root exception: a place, a cause and a cure, on one line.

Knows how an error is said. Does not know who raises or prints it.
"""


class BuildlibError(Exception):
    """Something a person can act on.

    Args:
        place: where, relative to the workspace root (`libs/orders/pyproject.toml`), or the thing's name.
        cause: what is wrong there.
        cure: what to do about it; empty only where nothing can be done.
        detail: longer output (a backend's log) that is shown above the line, never part of it.
    """

    def __init__(self, place: str, cause: str, cure: str = "", detail: str = "") -> None:
        self.place, self.cause, self.cure, self.detail = place, cause, cure, detail
        super().__init__(str(self))

    def __str__(self) -> str:
        line = f"{self.place}: {self.cause}" + (f"; {self.cure}" if self.cure else "")
        return " ".join(line.split())
