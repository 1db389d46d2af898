"""All processes of one benchmark run: relays, providers and customers, and the folder in which they write."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pylon.bench.process import BenchProcess

START_S = 120.0


@dataclass
class Processes:
    """The processes of one run, and the folder that holds everything they write.

    Each is a module of `package` and is started by that module's name. `provider_groups` are processes that hold
    many providers each.
    """

    folder: Path
    package: str = "pylon.bench"
    relays: list[BenchProcess] = field(default_factory=list)
    provider_groups: list[BenchProcess] = field(default_factory=list)
    customers: list[BenchProcess] = field(default_factory=list)

    async def start(self, module: str, number: int = 0, **settings: Any) -> BenchProcess:
        """Starts a module of the package with these settings, in a folder of its own. Raises `UnreachableError`."""
        folder = self.folder / f"{module}-{number}"
        folder.mkdir()
        return await BenchProcess.start(
            f"{self.package}.{module}", {"folder": str(folder), **settings}, folder / "log", timeout=START_S
        )

    async def close(self) -> None:
        """Ends all processes: customers first, relays last."""
        for processes in (self.customers, self.provider_groups, self.relays):
            await asyncio.gather(*(process.close() for process in processes))

    def cpu_s(self) -> tuple[float, float, float]:
        """Processor seconds so far: of the relays, of the customer, of the providers with their engines."""
        relays, customers, providers = (
            sum(process.cpu_s() for process in processes)
            for processes in (self.relays, self.customers, self.provider_groups)
        )
        return relays, customers, providers


@asynccontextmanager
async def open_processes(prefix: str, package: str = Processes.package) -> AsyncIterator[Processes]:
    """Processes, none yet, in a new folder. However this ends, all are ended and the folder is removed."""
    processes = Processes(Path(tempfile.mkdtemp(prefix=prefix)), package)
    try:
        yield processes
    finally:
        await asyncio.shield(processes.close())
        shutil.rmtree(processes.folder, ignore_errors=True)
