"""The sandbox: one program on loopback that speaks the providers' own HTTP to the apps' real clients."""

from .app import create_sandbox
from .errors import SandboxError, SandboxHostError, SandboxSettingError
from .faults import Faults, RateLimitKind
from .serve import serving
from .settings import ProviderName, SandboxSettings

__all__ = [
    "Faults",
    "ProviderName",
    "RateLimitKind",
    "SandboxError",
    "SandboxHostError",
    "SandboxSettingError",
    "SandboxSettings",
    "create_sandbox",
    "serving",
]
