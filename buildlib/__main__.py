"""`./doit`: doit in the workspace that BUILDLIB_ROOT names, whatever directory it is called from.

A no-op is answered here, from the quick index, before doit is imported: the same function that the loader asks, the
same output. Inside a project's folder, no task means that project, and a file's path is meant from there. Knows the
command line only as far as that.
"""

import os
import sys


def main() -> int:
    """Run `doit` with the arguments of this process; return its exit code."""
    root = os.environ.pop("BUILDLIB_ROOT", "") or os.getcwd()
    here = os.path.relpath(os.getcwd(), root)
    arguments = sys.argv[1:]
    inside = here != "." and not here.startswith("..")
    if here != ".":
        arguments = [_from_root(a, root) for a in arguments]
    os.chdir(root)
    meant = _project_task(here) if inside and not _names_something(arguments) else []
    if not meant and _answered(arguments):
        return 0
    sys.argv[0] = "doit"
    try:
        from doit.doit_cmd import DoitMain
    except ModuleNotFoundError as error:
        print(f"doit: {error.name} is not installed; install buildlib with its dependencies", file=sys.stderr)
        return 1
    DoitMain.BIN_NAME = "doit"
    try:
        # The loader has to know that nobody named this project: without an engine its image is skipped then.
        doit = DoitMain(extra_config={"GLOBAL": {"meant": meant}})
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are both
        print(f"pyproject.toml: not valid TOML ({error}); mend the syntax", file=sys.stderr)
        return 3
    return int(doit.run([*arguments, *meant]) or 0)


def _from_root(argument: str, root: str) -> str:
    """Return the path of a file named from here as it is named from the root; anything else as it is."""
    if argument.startswith("-") or "/" not in argument or not os.path.lexists(argument):
        return argument
    folder, name = os.path.split(argument)
    return os.path.relpath(os.path.join(os.path.realpath(folder), name), root)


def _answered(arguments: list[str]) -> bool:
    """Return whether it was a no-op; then its summary is said."""
    summary = _quick_answer(arguments)
    if summary:
        from buildlib.tasks import said

        said.out(summary)
    return bool(summary)


def _quick_answer(arguments: list[str]) -> str:
    """Return the summary of a no-op; empty if it may be something else."""
    if any(a.startswith("-") for a in arguments) and not _only_jobs(arguments):
        return ""
    import gc
    import time

    gc.disable()  # nothing here is garbage before the process ends
    from buildlib.tasks import quick, said

    names = [] if _only_jobs(arguments) else arguments
    proof = quick.prove(names)
    gc.enable()
    return said.summary(proof.counts, time.perf_counter() - quick.STARTED) if proof and proof.counts else ""


def _only_jobs(arguments: list[str]) -> bool:
    return len(arguments) == 2 and arguments[0] == "-n" and arguments[1].isdigit()


def _names_something(arguments: list[str]) -> bool:
    """Return whether a command or task is among the arguments, besides options of `run` and their values."""
    values = {
        "-n",
        "-v",
        "-r",
        "-o",
        "-P",
        "--process",
        "--verbosity",
        "--reporter",
        "--output-file",
        "--parallel-type",
    }
    values |= {"--failure-verbosity", "--db-file", "--backend", "--check_file_uptodate"}
    words = [a for before, a in zip(["", *arguments], arguments, strict=False) if before not in values]
    named = any(not a.startswith("-") and "=" not in a for a in words)  # NAME=VALUE is a variable for `dodo.py`
    return named or bool({"--version", "--help"} & set(words))


def _project_task(here: str) -> list[str]:
    """Return the task of the project whose folder holds `here` (relative to the root); none outside of projects."""
    from buildlib.errors import BuildlibError
    from buildlib.fingerprint.working import WorkingTree
    from buildlib.workspace.read import enclosing, read_workspace

    try:
        project = enclosing(read_workspace(WorkingTree(os.getcwd())), here)
    except BuildlibError:
        return []
    return [f"build:{project.name}"] if project else []


if __name__ == "__main__":
    sys.exit(main())
