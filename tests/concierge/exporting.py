"""`python -m concierge.exporting FOLDER FORMAT`: a worker that writes one export, and says what it took, as JSON.

The database of the folder is there already. What is measured is this whole process: worker, queue, reader and bucket.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from conveyor import JobEnd, JobProgress
from conveyor_apps.concierge.exports import run_export
from conveyor_apps.concierge.words import Format

from .archivist import open_archivist, wanted


async def main(folder: Path, format: Format) -> None:
    started = time.monotonic()
    notes: list[str] = []
    fractions: list[float] = []
    async with open_archivist(folder) as archivist, archivist.app:
        worker = asyncio.create_task(archivist.app.work())
        await run_export(wanted(f"large-{format}", format), archivist.context)
        [job] = await archivist.app.jobs.list(name="export_generation", limit=1)
        async for event in archivist.app.jobs.get(job.id).follow():
            match event:
                case JobProgress():
                    notes.append(event.note)
                    fractions.append(event.fraction)
                case JobEnd():
                    break
        took = time.monotonic() - started
        worker.cancel()
        await asyncio.wait({worker})
        found = await archivist.exports.find(f"large-{format}")
        assert found is not None
        key = found.key or ""
        info = await archivist.context.bucket.head(key)
        assert info is not None
        result: dict[str, Any] = {
            "state": found.state, "rows": found.rows_done, "bytes": info.size, "sha256": found.sha256,
            "seconds": round(took, 1), "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "progress": len(fractions), "is_rising": fractions == sorted(fractions), "last": notes[-1], "key": key,
            "is_same": info.sha256 == found.sha256, "attempts": (await archivist.app.jobs.get(job.id).info()).attempts,  # S3 is not told the sum of what goes in parts
        }  # fmt: skip
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Format(sys.argv[2])))
