# bootstrap.sh ROOT VENV LOCK COMMAND: finds a Python that can make virtual environments and hands over to bootstrap.py.
# Knows which interpreters may be on PATH. Does not know what goes into the environment.

# One line on stderr. Two steps: a version that is right but has no venv module has a cure of its own.
found=
for name in python3 python3.14 python3.13 python3.12 python3.11; do
    # A pyenv shim of a version that is not selected exists and fails: running is the only test.
    "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null || continue
    found=${found:-$name}
    "$name" -I -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null || continue
    exec "$name" -I "$1/buildlib/bootstrap.py" "$@"
done
if [ -n "$found" ]; then
    echo "${4#./}: $found has no venv module; run: apt-get install $found-venv (Debian, Ubuntu), then $4 again" >&2
else
    echo "${4#./}: no Python 3.11 or newer on PATH; install one (apt-get install python3 python3-venv), then run $4 again" >&2
fi
exit 1
