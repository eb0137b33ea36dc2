"""The HTTP guide's commands run as they stand, and print what it says."""

from __future__ import annotations

import asyncio
import os
import re
import shutil

import pytest

from conveyor import Conveyor
from docs.markdown import blocks
from kit.online import online
from kit.served import ADMIN

GUIDE = [block.text for block in blocks("bash") if block.file == "docs/how-to/http-api.md"]


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_the_guide_runs(app: Conveyor) -> None:
    script = "set -e\n" + "".join(GUIDE)
    promised = "".join(f"{line}\n" for line in re.findall(r"^# prints: (.+)$", script, re.MULTILINE))
    async with online(app) as base, asyncio.timeout(60):
        environment = {**os.environ, "CONVEYOR_SERVER": base, "CONVEYOR_TOKEN": ADMIN}
        bash = await asyncio.create_subprocess_exec(
            "bash", "-c", script, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, problem = await bash.communicate()
    assert (bash.returncode, problem.decode()) == (0, "")
    assert out.decode() == promised
    assert promised
