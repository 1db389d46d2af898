"""Every setting of a node, by section, with its default, its bounds and what it is for.

`config/pylon.example.toml` and docs/settings.md are made of this. `config.py` reads them.
"""

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from pylon.errors import MalformedError
from pylon.relay_url import normalize_relay_url, relay_spelling

DEFAULT_RELAY = "ws://127.0.0.1:7447"
# One bitcoin. Far from any price of a job, and from where the largest of jobs would cost more than there is.
_DEAREST_MSAT = 100_000_000_000
# An announcement holds no more.
_MOST_RELAYS = 20

type Network = Literal["play", "regtest", "signet", "mutinynet", "testnet4", "mainnet"]
type Level = Literal["debug", "info", "warning", "error"]


def _relay_url(url: str) -> str:
    if url != url.strip():
        raise ValueError("a relay address has no blank before or behind it")
    try:
        normalize_relay_url(url)
    except MalformedError as error:
        raise ValueError(str(error)) from None
    if url.rpartition("//")[2] == "RELAY":
        raise ValueError("RELAY stands in the documentation for the address of a relay: name one")
    return url


def _each_once(urls: list[str]) -> list[str]:
    # Two connections to one relay would read and write everything twice.
    first: dict[str, str] = {}
    for url in urls:
        first.setdefault(relay_spelling(url), url)
    return list(first.values())


type RelayUrl = Annotated[str, AfterValidator(_relay_url)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        # Elsewhere in Python true is 1.
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise ValueError(f"a number is wanted, not {str(value).lower()}")
        return value


class ProviderSection(_Section):
    """`[provider]`: serving others."""

    name: str = Field("", max_length=100, description="Shown in announcements; public.")
    about: str = Field("", max_length=1_000, description="A sentence about this node; public.")
    pricing: Literal["free", "paid"] = Field(
        "free", description="`free`: nobody is charged, everything is metered. `paid` needs a wallet and a price."
    )
    base_msat: int = Field(
        1_000,
        ge=0,
        le=_DEAREST_MSAT,
        description="Price of every job, in msat, when `pricing` is `paid`; 1 BTC at most.",
    )
    in_msat_per_1k: int = Field(
        0, ge=0, le=_DEAREST_MSAT, description="Price of 1,000 prompt tokens, in msat; 1 BTC at most."
    )
    out_msat_per_1k: int = Field(
        0, ge=0, le=_DEAREST_MSAT, description="Price of 1,000 completion tokens, in msat; 1 BTC at most."
    )
    serve_open: bool = Field(True, description="Serve requests in NIP-90's open form that are addressed to us.")
    serve_broadcast: bool = Field(False, description="Serve open requests that are addressed to nobody.")
    trusted: list[str] = Field(
        [], examples=[["npub1…"]], description="Public keys (npub or hex) that are served without limits."
    )
    blocked: list[str] = Field(
        [], examples=[["npub1…"]], description="Public keys (npub or hex) that are never served."
    )
    max_queue: int = Field(
        2_000, ge=1, description="Jobs that may be here, apart from those that wait for a payment."
    )
    max_per_customer: int = Field(1_000, ge=1, description="How many of one customer, with those.")
    max_prompt_bytes: int = Field(1_000_000, ge=1, description="The longest prompt, in bytes.")
    max_tokens: int = Field(4_096, ge=1, description="The longest answer, in tokens.")
    default_max_tokens: int = Field(512, ge=1, description="The longest answer when a request does not say.")


class InferenceSection(_Section):
    """`[inference]`: the model on this machine."""

    engine: Literal["mlx", "llama", "openai", "instant"] = Field(
        "mlx",
        description=(
            "`mlx` runs a model here, `llama` runs a GGUF model by llama.cpp, `openai` asks a server; `instant` is a "
            "stand-in that answers by rule."
        ),
    )
    model: str = Field(
        "needle-1",
        description=(
            "A model's id: packaged with Pylon, a folder in PYLON_HOME/models, or the server's name; with `llama` "
            "also the path of a GGUF file."
        ),
    )
    slots: int = Field(16, ge=1, le=256, description="Jobs that run at once, as one batch.")
    memory_gb: float = Field(
        0.0, ge=0, description="The most memory that model and prompts may take, in GB; 0 is what the machine allows."
    )
    unload_after_s: float = Field(
        0.0, ge=0, description="Seconds without use after which the model leaves memory; 0 keeps it there."
    )
    openai_url: str = Field(
        "http://127.0.0.1:8080/v1", description="Where the server of the `openai` engine is, up to its `/v1`."
    )
    openai_key_file: str = Field("", description="A file (0600) that holds the key of that server; empty sends none.")
    openai_context: int = Field(8_192, ge=1, description="Tokens of prompt and answer that its model takes.")
    instant_delay_s: float = Field(
        0.0, ge=0, description="Seconds that an answer of the stand-in takes; streamed, word by word."
    )


class OwnerSection(_Section):
    """`[owner]`: when this machine takes nothing on for others. What runs then is finished."""

    rules: bool = Field(True, description="Keep the rules below; with false the machine serves whatever goes on.")
    in_use_minutes: float = Field(
        3.0,
        ge=0,
        le=1_440,
        description="Pause until nobody has typed or moved the mouse for so long; 0 serves beside a person. Machines"
        " without either are never in use.",
    )
    on_battery: bool = Field(False, description="Serve while a laptop runs on its battery, too.")
    min_charge_percent: int = Field(
        20, ge=0, le=100, description="Pause while the battery holds less than this, on mains power too; 0: never."
    )
    heat: Literal["off", "fair", "serious", "critical"] = Field(
        "serious", description="Pause at this much heat; the system slows the machine down from `serious` on."
    )
    memory: Literal["off", "warning", "critical"] = Field(
        "critical",
        description="Pause at this much memory pressure. A large model alone may make for a `warning`.",
    )
    schedule: list[str] = Field(
        [],
        examples=[["mon-fri 22:00-06:30"]],
        description="Hours in local time to serve in, such as `mon-fri 22:00-06:30` and `sat,sun 00:00-24:00`; none:"
        " always.",
    )
    say_why: bool = Field(
        False,
        description="Name the rule in heartbeats and refusals, for all to read; otherwise they say `owner`.",
    )
    keep_awake: bool = Field(True, description="Keep the machine from falling asleep by itself while jobs run.")

    @field_validator("schedule", mode="before")
    @classmethod
    def _spans_in_a_list(cls, value: object) -> object:
        if not isinstance(value, list) or not all(isinstance(span, str) for span in value):
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else '"mon-fri 22:00-06:30"'
            raise ValueError(f"a list of spans in quotes is wanted: schedule = [{shown}]")
        return value


class CustomerSection(_Section):
    """`[customer]`: asking others."""

    width: int = Field(2_000, ge=1, description="Jobs in flight at once.")
    plain: bool = Field(
        False, description="Ask providers that know plain NIP-90 only, too: relays can read what they are asked."
    )
    bid_msat: int = Field(0, ge=0, description="The most that one job may cost, in msat; 0 asks free providers only.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds after which a job without an answer has failed.")
    patience_s: float = Field(10.0, gt=0, description="Seconds to wait for a first provider to show up.")
    trusted: list[str] = Field(
        [],
        examples=[["npub1…"]],
        description="Public keys of one's own machines: they are asked first, and their answers are not checked.",
    )
    allow: list[str] = Field(
        [], examples=[["npub1…"]], description="Public keys (npub or hex) that alone may be asked; none: anybody."
    )
    block: list[str] = Field([], examples=[["npub1…"]], description="Public keys (npub or hex) that are never asked.")
    check_share: float = Field(
        0.05, ge=0, le=1, description="Of a run's jobs, the share that may be asked twice to check answers; 0: none."
    )
    rescore: bool = Field(
        False, description="Load the model of `[inference]` here too, to check answers that name its weights."
    )
    further_relays: int = Field(
        4,
        ge=0,
        le=32,
        description="Relays besides ours to connect to when providers name them as theirs (NIP-65); 0 follows none.",
    )


class WalletSection(_Section):
    """`[wallet]`: the connected wallet."""

    also_called: list[str] = Field(
        [],
        examples=[["mainnet"]],
        description="Names that the wallet may give its network besides the right one: some always say mainnet.",
    )


class EarningsSection(_Section):
    """`[earnings]`: what `pylon earnings` sets earnings against. Nothing of it is looked up anywhere."""

    watts: float = Field(
        0.0, ge=0, description="What this machine draws more while it works than while it is idle; 0: not known."
    )
    price_per_kwh: float = Field(0.0, ge=0, description="What a kilowatt-hour costs, in `currency`; 0: not known.")
    currency: str = Field("", max_length=10, description="The currency of both prices, such as EUR.")
    per_bitcoin: float = Field(
        0.0,
        ge=0,
        description="What one bitcoin costs, in `currency`; 0 shows sats alone. Only live money is worth it.",
    )


class RelaySection(_Section):
    """`[relay]`: what `pylon relay` listens on."""

    host: str = Field("127.0.0.1", description="The address to listen on; other machines reach only a public one.")
    port: int = Field(7447, ge=0, le=65_535, description="The port; 0 takes a free one.")
    writers: list[str] = Field(
        [], examples=[["npub1…"]], description="Public keys (npub or hex) that may publish; none: everybody may."
    )
    readers: list[str] = Field(
        [],
        examples=[["npub1…"]],
        description="Public keys that may read, which they prove (NIP-42); none: everybody may.",
    )
    public_urls: list[RelayUrl] = Field(
        [],
        examples=[["wss://relay.example"]],
        description="Addresses that clients know the relay by, where that is not this machine at its port: of a"
        " proxy, of a port that is passed on. Without them a proof of a key (NIP-42) that comes that way is refused.",
    )
    kinds: list[Annotated[int, Field(ge=0, le=65_535)]] = Field(
        [], examples=[[1, 30_000]], description="Kinds of events that are taken; none: all."
    )
    writes_per_minute: int = Field(
        0, ge=0, description="Events that a connection may publish a minute; 0: any number."
    )
    max_mb: int = Field(
        1_024,
        ge=0,
        description="The largest file of stored events, in MiB: near it jobs of over a week ago go, and when it is"
        " full new events are refused. 0: any.",
    )


class HouseholdSection(_Section):
    """`[household]`: one's own machines, once `pylon invite` and `pylon join` have made them one."""

    strangers: bool = Field(
        False, description="Serve and ask others, too; by default a household keeps to its members."
    )
    lan: bool = Field(
        True, description="Announce the household's relay in the local network, and look for it there (mDNS)."
    )
    lan_interfaces: list[str] = Field(
        [],
        examples=[["192.168.1.10"]],
        description="Addresses of this machine over which that is done; none: all that it has.",
    )


class RlmSection(_Section):
    """`[rlm]`: the Recursive Language Model."""

    root: Literal["none", "endpoint", "local", "swarm"] = Field(
        "none",
        description="The root model: `endpoint` is an OpenAI-shaped server, `local` a model on this machine, `swarm`"
        " a provider. With `none` only the strategies without a root model run.",
    )
    root_model: str = Field("", description="The root model's id.")
    root_url: str = Field("", description="Of an endpoint: the address before `/chat/completions`.")
    root_key_file: str = Field("", description="Of an endpoint: a file that holds its key.")
    root_context: int = Field(128_000, ge=2_048, description="The root model's window, in tokens.")
    root_max_tokens: int = Field(4_096, ge=64, description="The longest turn of the root model, in tokens.")
    root_temperature: float = Field(-1.0, ge=-1, le=2, description="-1 leaves it to the root model's server.")
    root_timeout_s: float = Field(300.0, gt=0, description="Seconds that the root model has for a turn.")
    prompt: Literal["auto", "large", "small"] = Field(
        "auto", description="What the root model is told: all, or one pattern; `auto` goes by its window."
    )
    sub_model: str = Field("", description="The model that sub-calls ask for; empty lets any answer.")
    sub_max_tokens: int = Field(256, ge=1, description="The longest answer of a sub-call, in tokens.")
    sub_temperature: float = Field(0.0, ge=0, le=2, description="At 0 equal prompts are asked once.")
    seed: int = Field(
        -1, ge=-1, le=2**31 - 1, description="What drawn answers of root and sub-calls begin from; -1 is no seed."
    )
    sandbox: Literal["auto", "wasm", "process"] = Field(
        "auto", description="What holds the REPL's code; `auto` takes the first that passes its self-test."
    )
    max_depth: int = Field(1, ge=0, le=16, description="How deep loops may stand inside each other.")
    turns: int = Field(20, ge=1, description="Turns of a loop.")
    max_root_turns: int = Field(
        500, ge=1, le=1_000_000_000, description="Turns of the root model in a run, in all of its loops together."
    )
    max_calls: int = Field(5_000, ge=0, le=1_000_000_000, description="Sub-calls of a run.")
    max_sats: int = Field(1_000, ge=0, le=21_000_000 * 100_000_000, description="What a run may cost, in sats.")
    max_tokens: int = Field(
        0, ge=0, le=10**15, description="Tokens of a run, of root and sub-calls together; 0 is no limit."
    )
    max_wall_s: float = Field(3_600.0, gt=0, description="Seconds that a run may take.")
    max_prompt_chars: int = Field(
        100_000, ge=1, description="The longest prompt of a sub-call, in characters; one event may carry less."
    )
    cell_s: float = Field(60.0, gt=0, description="Seconds that the code of a cell may compute; waiting is free.")
    cell_memory_mb: int = Field(512, ge=16, description="Memory of a REPL beyond its context, in MiB.")
    keep_runs: int = Field(100, ge=0, description="Trajectories that are kept; older ones are deleted.")
    keep_run_mb: int = Field(
        1_024, ge=1, le=1_000_000, description="What the trajectory of a run may take on disk, in MiB; it ends there."
    )
    keep_context_mb: int = Field(
        32, ge=0, description="Contexts up to this size, in MiB, are kept with the trajectory for its replay."
    )


class GatewaySection(_Section):
    """`[gateway]`: the door for programs, `pylon gateway`."""

    host: str = Field("127.0.0.1", description="The address to listen on; other machines reach only a public one.")
    port: int = Field(7448, ge=0, le=65_535, description="The port; 0 takes a free one.")
    names: list[str] = Field(
        [],
        examples=[["pylon.example.org"]],
        description="Names under which it is reached, besides `localhost` and addresses; others are refused.",
    )
    max_sats: int = Field(
        1_000, ge=0, le=21_000_000 * 100_000_000, description="What all its requests may cost until it ends, in sats."
    )
    max_requests: int = Field(4_000, ge=1, le=10_000, description="Chat completions under way at once.")
    max_body_mb: int = Field(
        4,
        ge=1,
        le=1_024,
        description="The largest body of a request, in MiB. What can be asked fits into 4, however it is written.",
    )


class LogSection(_Section):
    """`[log]`: what is written down."""

    level: Level = Field("info", description="The least level that is logged.")
    json_lines: bool = Field(False, description="One JSON object a line on standard error.")


class Config(_Section):
    """All settings of a node."""

    network: Network = Field("play", description="Where money moves: `play` is play money.")
    relays: Annotated[list[RelayUrl], AfterValidator(_each_once)] = Field(
        [DEFAULT_RELAY],
        examples=[[DEFAULT_RELAY, "wss://relay.example.org"]],
        min_length=1,
        max_length=_MOST_RELAYS,
        description="Relays to read from and write to.",
    )
    provider: ProviderSection = ProviderSection()
    inference: InferenceSection = InferenceSection()
    owner: OwnerSection = OwnerSection()
    customer: CustomerSection = CustomerSection()
    wallet: WalletSection = WalletSection()
    earnings: EarningsSection = EarningsSection()
    relay: RelaySection = RelaySection()
    household: HouseholdSection = HouseholdSection()
    rlm: RlmSection = RlmSection()
    gateway: GatewaySection = GatewaySection()
    log: LogSection = LogSection()
