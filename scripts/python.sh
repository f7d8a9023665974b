# Sourced by the other scripts: sets PYTHON to a Python 3.11 or newer, or says what is missing.
PYTHON=""
for candidate in "${OPSKIT_PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        PYTHON=$(command -v "$candidate")
        break
    fi
done
if [ -z "$PYTHON" ]; then
    echo "Python 3.11 or newer is missing: install it (Debian 12 and later: apt-get install python3 python3-venv), or name one in OPSKIT_PYTHON" >&2
    exit 1
fi
