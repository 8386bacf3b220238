"""`python3 -m sandbox.setup [--cluster]`: see the package. Exit code 0 when everything is there, else 3 (2: usage)."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said in words here, before newer syntax fails
    raise SystemExit("setup: Python 3.11 or newer is needed: install it, and call make with PYTHON=python3.11")

from sandbox.setup.plan import main

raise SystemExit(main(sys.argv[1:]))
