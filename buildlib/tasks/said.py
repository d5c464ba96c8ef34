"""What is said: lines of steps, the summary, warnings and errors. Data on stdout, everything else on stderr.

Knows words, columns and colours. Does not know when to say what. Imports nothing heavy: a no-op says its one line
through here.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

WORDS = ("built", "fetched", "remote", "unchanged", "failed", "skipped", "refused", "up to date")
"""The words of a summary, in its order."""

_COLOURS = {"built": "32", "fetched": "36", "remote": "36", "unchanged": "2", "failed": "31", "skipped": "33"}


def summary(counts: dict[str, int], seconds: float) -> str:
    """Return the last line of a run: words with a count of zero left out, but `0 built` said when nothing was."""
    said = [f"{counts.get(word, 0)} {word}" for word in WORDS if counts.get(word)]
    if not any(counts.get(word) for word in ("built", "fetched", "remote", "unchanged")):
        said.insert(0, "0 built")
    return f"{', '.join(said)} in {seconds:.2f}s"


def step_line(task: str, word: str, seconds: float, reason: str, width: int, colour: bool) -> str:
    """Return the line of one step: `wheel orders  built  0.05s  libs/orders/orders/log.py changed`."""
    shown = f"\033[{_COLOURS[word]}m{word}\033[0m" if colour and word in _COLOURS else word
    name, pad = task.replace(":", " ", 1), " " * (9 - len(word))
    return f"{name:<{width}}  {shown}{pad}  {seconds:.2f}s  {plain(reason)}".rstrip()


def plain(text: str) -> str:
    """Return `text` on one line: a file's name may hold line breaks, control characters and bytes that are no text."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def coloured(stream: "TextIO") -> bool:
    """Return whether `stream` shows colours: a terminal, and neither NO_COLOR nor a dumb one."""
    return (
        not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
        and hasattr(stream, "isatty")
        and stream.isatty()
    )


def out(text: str, stream: "TextIO | None" = None) -> None:
    """Write a line of data; a name that is not UTF-8 is escaped, a reader that went away is no error."""
    _write(stream or sys.stdout, text)


def err(text: str) -> None:
    """Write a line of progress, a warning or an error."""
    _write(sys.stderr, text)


def _write(stream: "TextIO", text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    safe = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(f"{safe}\n")
        stream.flush()
    except OSError as error:
        # Nothing can be written there any more; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        # Who reads us through a pipe may have seen enough (`doit list | head`): the build goes on.
        if not isinstance(error, BrokenPipeError) and stream is not sys.stderr:
            from buildlib.errors import BuildlibError

            raise BuildlibError(
                "output", f"cannot be written ({error.strerror})", "free disk space, or write it elsewhere"
            ) from None
