"""What a `dodo.py` imports: it declares that its tasks come from buildlib, and stops under doit's own loader.

    from buildlib.tasks.dodo import DOIT_CONFIG

Under the stock loader there would be no build tasks and another database; that is said in one line instead.
"""

import sys
from typing import Any

from doit.exceptions import InvalidDodoFile

DOIT_CONFIG: dict[str, Any] = {}
"""doit's settings, to be extended in `dodo.py` (`default_tasks`, `verbosity`, …)."""

if "buildlib.tasks.loader" not in sys.modules:
    raise InvalidDodoFile(
        "dodo.py: loaded without buildlib; run doit in the directory of dodo.py, without -f, -d or -k, "
        'and keep loader = "buildlib" in [tool.doit] of its pyproject.toml'
    )
