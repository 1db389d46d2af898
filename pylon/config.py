"""Settings: `config.toml` in PYLON_HOME, each overridable by an environment variable.

A setting `b` of the section `[a]` is `PYLON_A__B` in the environment. Unknown names are an error: a misspelt
setting that is silently ignored is a node that does something else than its owner believes.
`config/pylon.example.toml` shows every setting with its default.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pylon.errors import SetupError

DEFAULT_RELAY = "ws://127.0.0.1:7447"

type Network = Literal["play", "regtest", "signet", "mutinynet", "testnet4", "mainnet"]
type Level = Literal["debug", "info", "warning", "error"]


def _relay_url(url: str) -> str:
    if not url.startswith(("ws://", "wss://")):
        raise ValueError("a relay's address starts with ws:// or wss://")
    return url


type RelayUrl = Annotated[str, AfterValidator(_relay_url)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProviderSection(_Section):
    """`[provider]`: serving others."""

    name: str = Field("", max_length=100, description="Shown in announcements; public.")
    about: str = Field("", max_length=1_000, description="A sentence about this node; public.")
    pricing: Literal["free", "paid"] = Field(
        "free", description="`free`: nobody is charged, everything is metered. `paid` needs a wallet and a price."
    )
    base_msat: int = Field(1_000, ge=0, description="Price of every job, in msat, when `pricing` is `paid`.")
    in_msat_per_1k: int = Field(0, ge=0, description="Price of 1,000 prompt tokens, in msat.")
    out_msat_per_1k: int = Field(0, ge=0, description="Price of 1,000 completion tokens, in msat.")
    serve_open: bool = Field(True, description="Serve requests in NIP-90's open form that are addressed to us.")
    serve_broadcast: bool = Field(False, description="Serve open requests that are addressed to nobody.")
    trusted: list[str] = Field([], description="Public keys (npub or hex) that are served without limits.")
    blocked: list[str] = Field([], description="Public keys (npub or hex) that are never served.")
    max_queue: int = Field(2_000, ge=1, description="Jobs that may wait here.")
    max_per_customer: int = Field(1_000, ge=1, description="Of these, how many of one customer.")
    max_prompt_bytes: int = Field(1_000_000, ge=1, description="The longest prompt, in bytes.")
    max_tokens: int = Field(4_096, ge=1, description="The longest answer, in tokens.")
    default_max_tokens: int = Field(512, ge=1, description="The longest answer when a request does not say.")


class InferenceSection(_Section):
    """`[inference]`: the model on this machine."""

    engine: Literal["mlx", "openai", "instant"] = Field(
        "mlx",
        description="`mlx` runs a model here, `openai` asks a server; `instant` is a stand-in that answers by rule.",
    )
    model: str = Field(
        "needle-1",
        description="A model's id: packaged with Pylon, a folder in PYLON_HOME/models, or the server's name.",
    )
    slots: int = Field(16, ge=1, le=256, description="Jobs that run at once, as one batch.")
    memory_gb: float = Field(
        0.0, ge=0, description="The most memory that model and prompts may take, in GB; 0 is what the machine allows."
    )
    openai_url: str = Field(
        "http://127.0.0.1:8080/v1", description="Where the server of the `openai` engine is, up to its `/v1`."
    )
    openai_key_file: str = Field("", description="A file (0600) that holds the key of that server; empty sends none.")
    openai_context: int = Field(8_192, ge=1, description="Tokens of prompt and answer that its model takes.")
    instant_delay_s: float = Field(0.0, ge=0, description="Seconds that an answer of the stand-in takes.")


class CustomerSection(_Section):
    """`[customer]`: asking others."""

    width: int = Field(2_000, ge=1, description="Jobs in flight at once.")
    plain: bool = Field(
        False, description="Ask providers that know plain NIP-90 only, too: relays can read what they are asked."
    )
    bid_msat: int = Field(0, ge=0, description="The most that one job may cost, in msat; 0 asks free providers only.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds after which a job without an answer has failed.")
    patience_s: float = Field(10.0, gt=0, description="Seconds to wait for a first provider to show up.")
    further_relays: int = Field(
        4,
        ge=0,
        le=32,
        description="Relays besides ours to connect to when providers name them as theirs (NIP-65); 0 follows none.",
    )
    trusted: list[str] = Field(
        [], description="Public keys of one's own machines: they are asked first, and their answers are not checked."
    )
    allow: list[str] = Field([], description="Public keys (npub or hex) that alone may be asked; none: anybody.")
    block: list[str] = Field([], description="Public keys (npub or hex) that are never asked.")
    check_share: float = Field(
        0.05, ge=0, le=1, description="Of a run's jobs, the share that may be asked twice to check answers; 0: none."
    )
    rescore: bool = Field(
        False, description="Load the model of `[inference]` here too, to check answers that name its weights."
    )


class RelaySection(_Section):
    """`[relay]`: what `pylon relay` listens on."""

    host: str = Field("127.0.0.1", description="The address to listen on; other machines reach only a public one.")
    port: int = Field(7447, ge=0, le=65_535, description="The port; 0 takes a free one.")
    writers: list[str] = Field([], description="Public keys (npub or hex) that may publish; none: everybody may.")
    readers: list[str] = Field(
        [], description="Public keys that may read, which they prove (NIP-42); none: everybody may."
    )


class HouseholdSection(_Section):
    """`[household]`: one's own machines, once `pylon invite` and `pylon join` have made them one."""

    strangers: bool = Field(
        False, description="Serve and ask others, too; by default a household keeps to its members."
    )


class LogSection(_Section):
    """`[log]`: what is written down."""

    level: Level = Field("info", description="The least level that is logged.")
    json_lines: bool = Field(False, description="One JSON object a line on standard error.")


class Config(BaseSettings):
    """All settings of a node."""

    model_config = SettingsConfigDict(
        env_prefix="PYLON_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    network: Network = Field("play", description="Where money moves: `play` is play money.")
    relays: list[RelayUrl] = Field([DEFAULT_RELAY], min_length=1, description="Relays to read from and write to.")
    provider: ProviderSection = ProviderSection()
    inference: InferenceSection = InferenceSection()
    customer: CustomerSection = CustomerSection()
    relay: RelaySection = RelaySection()
    household: HouseholdSection = HouseholdSection()
    log: LogSection = LogSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment overrides the file, whose contents come in as arguments.
        return env_settings, init_settings


def home_directory() -> Path:
    """PYLON_HOME, or `~/.pylon`."""
    return Path(os.environ.get("PYLON_HOME") or Path.home() / ".pylon").expanduser().absolute()


def load(path: Path) -> Config:
    """The settings in a file and the environment. Raises `SetupError` that names the setting at fault."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SetupError(f"there is no {path}", hint="Run `pylon init` first.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} is not valid TOML: {error}", hint="Mend that line and try again.") from error
    return parse(raw, source=str(path))


def parse(raw: dict[str, Any], *, source: str = "the settings") -> Config:
    """The settings in decoded TOML and the environment. Raises `SetupError`."""
    try:
        return Config(**raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SetupError(
            f"{source} has settings that do not fit: {faults}", hint="config/pylon.example.toml shows every setting."
        ) from error
