"""scripts/compat/harness VERB …"""

from __future__ import annotations

import argparse
import importlib
import sys

_VERBS = {
    "materialise": "put the corpus into a folder",
    "environment": "make the virtual environment that the corpus runs in",
    "run": "run the corpus on opskit and compare",
    "verify": "ask real Airflow again where something differs",
    "report": "write docs/airflow-compatibility.md",
    "record": "record the answers of real Airflow to the DAG files of the tests, or compare any file at once",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/compat/harness")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in _VERBS.items():
        module = importlib.import_module(f"compat_harness.{verb}")
        module.add_arguments(
            verbs.add_parser(
                verb, help=text, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
            )
        )
    arguments = parser.parse_args()
    return int(importlib.import_module(f"compat_harness.{arguments.verb}").run(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())
