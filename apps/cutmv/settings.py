"""What cutmv is told by its environment, read once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from conveyor_apps.environment import Environment

from .child import Limits
from .errors import SettingError
from .signing import kept_secret, read_secret

QUEUE: Final = "cutmv-processing"
BUCKET: Final = "CUTMV_STORAGE"
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudflareQueue:
    """The queue that orders go through where the environment names one. The token stays in the environment."""

    account: str
    name: str


def stores_of(queue: CloudflareQueue) -> dict[str, str]:
    """The store by which it is reached; a send gives up after 4 s, so that the fallback comes soon."""
    return {"cloudflare": f"cloudflare://{queue.account}?patience=4"}


def routes_of(queue: CloudflareQueue) -> dict[str, str]:
    """Orders go there, everything else stays in the home store."""
    return {queue.name: "cloudflare"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that may differ between two installations."""

    cloudflare: CloudflareQueue | None = None
    data: Path = Path("cutmv-data")
    """cutmv's database, the secret that its processes share, and the folders in which orders are worked on."""
    webhook_url: str = "http://127.0.0.1:8787"
    webhook_secret: str = ""
    alert_webhook: str = ""
    upload_bytes_max: int = 2_048 * MIB
    storage_bytes_max: int = 20_480 * MIB
    uploads_max: int = 2_000
    keep_hours: int = 24
    workers: int = 2
    """Orders at a time, over all processes, and as many directly."""
    limits: Limits = field(default_factory=Limits)

    @property
    def queue(self) -> str:
        """Where the orders' messages go."""
        return self.cloudflare.name if self.cloudflare else QUEUE

    @property
    def database(self) -> Path:
        """cutmv's own tables."""
        return self.data / "cutmv.db"

    @property
    def work(self) -> Path:
        """Below it each order has its folder while it is worked on; absolute, since FFmpeg works in another."""
        return (self.data / "work").absolute()

    def secret(self) -> bytes:
        """What progress is signed with: given, or made once for this folder."""
        return read_secret(self.webhook_secret) if self.webhook_secret else kept_secret(self.data / "webhook.secret")


def read_cloudflare(environment: Mapping[str, str]) -> CloudflareQueue | None:
    """The queue, if all three variables of the document are set."""
    names = ("CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_QUEUE_NAME")
    account, token, queue = (environment.get(name, "").strip() for name in names)
    return CloudflareQueue(account=account, name=queue) if account and token and queue else None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check all settings; `SettingError` names the variable."""
    read = Environment(environment, SettingError)
    port = read.number("CONVEYOR_PORT", 8787, least=0, most=65_535)
    return Settings(
        cloudflare=read_cloudflare(environment),
        data=Path(read.text("CUTMV_DATA", "cutmv-data")),
        webhook_url=read.url("WEBHOOK_URL", f"http://127.0.0.1:{port}"),
        webhook_secret=read.text("CUTMV_WEBHOOK_SECRET", ""),
        alert_webhook=read.url("CUTMV_ALERT_WEBHOOK", ""),
        upload_bytes_max=read.number("CUTMV_UPLOAD_MB_MAX", 2_048, least=1, most=1_000_000) * MIB,
        storage_bytes_max=read.number("CUTMV_STORAGE_MB_MAX", 20_480, least=1, most=100_000_000) * MIB,
        uploads_max=read.number("CUTMV_UPLOADS_MAX", 2_000, least=1, most=1_000_000),
        keep_hours=read.number("CUTMV_KEEP_HOURS", 24, least=1, most=8_760),
        workers=read.number("CUTMV_WORKERS", 2, least=1, most=250),
        limits=Limits(
            memory_bytes=read.number("CUTMV_MEMORY_MB", 2_048, least=256, most=1_000_000) * MIB,
            cpu_s=read.number("CUTMV_CPU_S", 3_600, least=1, most=86_400),
            file_bytes=read.number("CUTMV_OUTPUT_MB_MAX", 2_048, least=1, most=1_000_000) * MIB,
            wall_s=read.number("CUTMV_WALL_S", 3_600, least=1, most=86_400),
        ),
    )
