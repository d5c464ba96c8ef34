"""Cleaning: what a step made goes, an image's name in the engine too, and its record; nothing else.

Knows records and the engine. Does not know doit.
"""

import os
import sys
from collections.abc import Generator, Iterator

from buildlib.errors import BuildlibError
from buildlib.plan import Output, Record
from buildlib.steps.publish import remove
from buildlib.tasks import said
from buildlib.tasks.session import Session


def clean(session: Session, name: str, dryrun: bool) -> Iterator[str]:
    """Remove the outputs of the step called `name` and forget it; yield a line for each thing removed.

    What the engine refuses to give up stays known as ours, for the next time. Without an engine the name is left to it.
    """
    record = session.records.get(name) or session.database.record(name)
    if record is None:
        return
    for path in _paths(record):
        if os.path.lexists(path) and not os.path.isdir(path):
            yield f"{name} - removing {path}"
            if not dryrun:
                remove(path)
    refused = False
    for output in record.outputs:
        if output.path.startswith("image:"):
            refused |= yield from _clean_image(name, output, dryrun)
    if not dryrun and not refused:
        session.database.drop(name)
        session.records.pop(name, None)


def _paths(record: Record) -> list[str]:
    every = {*(output.path for output in record.outputs), *record.intent}
    return sorted(path for path in every if not path.startswith("image:"))


def _clean_image(name: str, output: Output, dryrun: bool) -> Generator[str, None, bool]:
    """Take the image's name off, if it is still ours; return whether the engine refused."""
    from buildlib.image.build import BuildFailed, remove_tag
    from buildlib.image.endpoint import find_endpoint

    try:
        if dryrun or remove_tag(find_endpoint(os.environ), output.name, output.sha256):
            yield f"{name} - removing {output.name} from the engine"
    except BuildlibError as error:
        # doit swallows what a cleaning action writes to sys.stderr.
        said.out(f"warning: {error}", sys.__stderr__)
        return isinstance(error, BuildFailed)
    return False
