"""What docs/rest-api.md shows can be typed as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests import services
from tests.api_site import PASSWORD, api_site
from tests.databases import Databases

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rest-api.md"


def test_the_examples_of_the_page_run_one_after_the_other(databases: Databases, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        services.missing("the program curl is not installed")
    examples = re.findall(r"(?ms)^```sh\n(.*?)^```", PAGE.read_text())
    assert len(examples) > 5
    with api_site(tmp_path, databases.migrated("sqlite"), {"OPSKIT__WEBSERVER__EXPOSE_CONFIG": "yes"}) as site:
        environment = {**os.environ, "OPSKIT": site.url, "LOGIN": f"ada:{PASSWORD}", "RUN": site.run.run_id}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-x"],
            input="\n".join(examples).replace("curl -sf", "curl -sS --fail-with-body"),
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
