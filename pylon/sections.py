"""Every setting of a node, by section, with its default, its bounds and what it is for.

`config/pylon.example.toml` and docs/settings.md are made of this. `config.py` reads them.
"""

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from pylon.errors import MalformedError
from pylon.relay_url import normalize_relay_url, relay_spelling

DEFAULT_RELAY = "ws://127.0.0.1:7447"
# One bitcoin: far above any price of a job, and low enough that no job can cost more bitcoin than exist.
_DEAREST_MSAT = 100_000_000_000
# What bounds a number that nothing else does: more than anybody needs, and seconds, tokens or GB for which no
# arithmetic overflows.
MOST = 1_000_000_000
# No request asks for a longer answer (`jobs.parameters.MAX_TOKENS`).
_MOST_TOKENS = 1_000_000
# An announcement holds no more relays (`jobs.announcement.MAX_RELAYS`), and no number of more digits.
_MOST_RELAYS, _MOST_CONTEXT = 20, 999_999_999

type Network = Literal["play", "regtest", "signet", "mutinynet", "testnet4", "mainnet"]
type Level = Literal["debug", "info", "warning", "error"]


def _relay_url(url: str) -> str:
    if url != url.strip():
        raise ValueError("a relay address must not begin or end with a space")
    try:
        normalize_relay_url(url)
    except MalformedError as error:
        raise ValueError(str(error)) from None
    if url.rpartition("//")[2] == "RELAY":
        raise ValueError(
            "RELAY is a placeholder that the documentation uses; put a real relay's address in its place"
        )
    return url


def _without_repeats(urls: list[str]) -> list[str]:
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
    def _refuse_bool_for_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic would take true for 1.
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise ValueError(f"expected a number, not {str(value).lower()}")
        return value


class ProviderSection(_Section):
    """`[provider]`: serving other people's jobs."""

    name: str = Field("", max_length=100, description="The node's name. Public: announcements show it.")
    about: str = Field("", max_length=1_000, description="A sentence about this node. Public.")
    pricing: Literal["free", "paid"] = Field(
        "free", description="`free`: nothing is charged, usage is only metered. `paid`: needs a wallet and a price."
    )
    base_msat: int = Field(
        1_000,
        ge=0,
        le=_DEAREST_MSAT,
        description="Price of each job when `pricing` is `paid`, in msat; at most 1 BTC.",
    )
    in_msat_per_1k: int = Field(
        0, ge=0, le=_DEAREST_MSAT, description="Price per 1,000 prompt tokens, in msat; at most 1 BTC."
    )
    out_msat_per_1k: int = Field(
        0, ge=0, le=_DEAREST_MSAT, description="Price per 1,000 completion tokens, in msat; at most 1 BTC."
    )
    serve_open: bool = Field(
        True, description="Serve requests in NIP-90's open form that are addressed to this node."
    )
    serve_broadcast: bool = Field(
        False, description="Serve open requests that are addressed to no particular provider."
    )
    trusted: list[str] = Field(
        [], examples=[["npub1…"]], description="Public keys (npub or hex) to serve without limits."
    )
    blocked: list[str] = Field([], examples=[["npub1…"]], description="Public keys (npub or hex) never to serve.")
    max_queue: int = Field(
        2_000,
        ge=1,
        le=MOST,
        description=(
            "The most jobs that wait for the engine, of customers that are new here, and as many of those that are "
            "recent, and of regulars; not counting those that wait for a payment."
        ),
    )
    max_customers: int = Field(
        100,
        ge=1,
        le=MOST,
        description="The most customers that may have jobs waiting for the engine: new, recent and regulars each.",
    )
    max_per_customer: int = Field(
        1_000,
        ge=1,
        le=MOST,
        description="The most jobs of one customer at once, including those that wait for a payment.",
    )
    max_prompt_bytes: int = Field(1_000_000, ge=1, le=MOST, description="The longest prompt accepted, in bytes.")
    max_tokens: int = Field(
        4_096, ge=1, le=_MOST_TOKENS, description="The longest answer a request may ask for, in tokens."
    )
    default_max_tokens: int = Field(
        512, ge=1, le=_MOST_TOKENS, description="The longest answer, in tokens, when a request sets no limit."
    )


class InferenceSection(_Section):
    """`[inference]`: the model on this machine."""

    engine: Literal["mlx", "llama", "openai", "instant"] = Field(
        "mlx",
        description=(
            "`mlx` runs a model on this machine; `llama` runs a GGUF model with llama.cpp; "
            "`openai` uses an OpenAI-compatible server; `instant` is a stand-in without a model, "
            "for tests."
        ),
    )
    model: str = Field(
        "needle-1",
        description=(
            "The model: one packaged with Pylon, a folder in PYLON_HOME/models, or the name your "
            "server gives it. With `llama`, also the path of a GGUF file."
        ),
    )
    slots: int = Field(16, ge=1, le=256, description="Jobs run at once, as one batch.")
    memory_gb: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="The most memory for the model and its prompts, in GB; 0 uses what the machine allows.",
    )
    unload_after_s: float = Field(
        0.0, ge=0, le=MOST, description="Unload the model after this many idle seconds; 0 keeps it in memory."
    )
    openai_url: str = Field(
        "http://127.0.0.1:8080/v1",
        description="The base URL of the `openai` engine's server, up to and including `/v1`.",
    )
    openai_key_file: str = Field(
        "", description="A file (mode 0600) with the API key of that server; empty sends no key."
    )
    openai_context: int = Field(
        8_192,
        ge=1,
        le=_MOST_CONTEXT,
        description="The context window of that server's model, in tokens of prompt and answer.",
    )
    instant_delay_s: float = Field(
        0.0, ge=0, le=MOST, description="Seconds the stand-in takes to answer; it streams word by word."
    )


class OwnerSection(_Section):
    """`[owner]`: when this machine takes no jobs from others. Jobs already running are finished."""

    rules: bool = Field(True, description="Apply the rules below; `false` ignores them all.")
    in_use_minutes: float = Field(
        3.0,
        ge=0,
        le=1_440,
        description=(
            "Pause until nobody has used the keyboard or mouse for this many minutes; 0 serves while "
            "you work. Machines without either never count as in use."
        ),
    )
    on_battery: bool = Field(False, description="Also serve while a laptop runs on battery.")
    min_charge_percent: int = Field(
        20,
        ge=0,
        le=100,
        description="Pause while the battery is below this charge, even on mains power; 0 never pauses.",
    )
    heat: Literal["off", "fair", "serious", "critical"] = Field(
        "serious", description="Pause at this thermal level; from `serious` on, the system slows the machine down."
    )
    memory: Literal["off", "warning", "critical"] = Field(
        "critical",
        description="Pause at this memory pressure. A large model alone may cause a `warning`.",
    )
    schedule: list[str] = Field(
        [],
        examples=[["mon-fri 22:00-06:30"]],
        description=(
            "When to serve, in local time, such as `mon-fri 22:00-06:30` and `sat,sun 00:00-24:00`. Empty: always."
        ),
    )
    say_why: bool = Field(
        False,
        description=(
            "Publish which rule pauses the node, in heartbeats and refusals; `false` publishes only `owner`."
        ),
    )
    keep_awake: bool = Field(True, description="Keep the machine from going to sleep while jobs run.")

    @field_validator("schedule", mode="before")
    @classmethod
    def _spans_in_a_list(cls, value: object) -> object:
        if not isinstance(value, list) or not all(isinstance(span, str) for span in value):
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else '"mon-fri 22:00-06:30"'
            raise ValueError(f"expected a list of time spans in quotes: schedule = [{shown}]")
        return value


class CustomerSection(_Section):
    """`[customer]`: asking other providers."""

    width: int = Field(2_000, ge=1, le=MOST, description="The most jobs in flight at once.")
    plain: bool = Field(
        False, description="Also ask providers that know only plain NIP-90. Relays can read those prompts."
    )
    bid_msat: int = Field(
        0,
        ge=0,
        le=_DEAREST_MSAT,
        description="The most to pay for one job, in msat, at most 1 BTC; 0 asks only free providers.",
    )
    timeout_s: float = Field(
        120.0,
        gt=0,
        le=MOST,
        description=(
            "Seconds after which an unanswered job has failed; so long it also waits for a provider that is loading "
            "its model."
        ),
    )
    patience_s: float = Field(10.0, gt=0, le=MOST, description="Seconds to wait for a provider to appear.")
    trusted: list[str] = Field(
        [],
        examples=[["npub1…"]],
        description=("Public keys of your own machines. They are asked first, and their answers are not checked."),
    )
    allow: list[str] = Field(
        [],
        examples=[["npub1…"]],
        description="Public keys (npub or hex) that may be asked, and no others. Empty: anyone.",
    )
    block: list[str] = Field([], examples=[["npub1…"]], description="Public keys (npub or hex) never to ask.")
    check_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description=(
            "The share of a run's jobs that may be asked twice to check answers, from 0 to 1; 0 checks none."
        ),
    )
    rescore: bool = Field(
        False, description="Load the model of `[inference]` here too, to check answers that claim the same weights."
    )
    further_relays: int = Field(
        4,
        ge=0,
        le=32,
        description=(
            "The most relays to connect to besides `relays`, when providers publish them as theirs "
            "(NIP-65); 0 adds none."
        ),
    )


class WalletSection(_Section):
    """`[wallet]`: the connected wallet."""

    also_called: list[str] = Field(
        [],
        examples=[["mainnet"]],
        description="Other names the wallet may report for its network. Some wallets always report mainnet.",
    )


class EarningsSection(_Section):
    """`[earnings]`: figures that `pylon earnings` compares with your earnings. Nothing is looked up online."""

    watts: float = Field(
        0.0, ge=0, le=MOST, description="The extra power this machine draws while it works, in watts; 0: unknown."
    )
    price_per_kwh: float = Field(
        0.0, ge=0, le=MOST, description="The price of a kilowatt-hour, in `currency`; 0: unknown."
    )
    currency: str = Field("", max_length=10, description="The currency of both prices, such as EUR.")
    per_bitcoin: float = Field(
        0.0,
        ge=0,
        le=10**15,
        description="The price of one bitcoin, in `currency`; 0 shows only sats. Used only for live money.",
    )


class RelaySection(_Section):
    """`[relay]`: what `pylon relay` listens on."""

    host: str = Field(
        "127.0.0.1",
        description="The address to listen on. Other machines can reach the relay only at a non-loopback address.",
    )
    port: int = Field(7447, ge=0, le=65_535, description="The port; 0 picks a free one.")
    writers: list[str] = Field(
        [], examples=[["npub1…"]], description="Public keys (npub or hex) that may publish. Empty: everyone."
    )
    readers: list[str] = Field(
        [],
        examples=[["npub1…"]],
        description="Public keys that may read, proved with NIP-42. Empty: everyone.",
    )
    public_urls: list[RelayUrl] = Field(
        [],
        examples=[["wss://relay.example"]],
        description=(
            "Addresses by which clients reach the relay when they are not this machine's own, such "
            "as a proxy's or a forwarded port's. NIP-42 authentication at any other address is "
            "refused."
        ),
    )
    kinds: list[Annotated[int, Field(ge=0, le=65_535)]] = Field(
        [], examples=[[1, 30_000]], description="Event kinds to accept. Empty: all."
    )
    writes_per_minute: int = Field(
        0, ge=0, le=MOST, description="The most events a connection may publish per minute; 0: no limit."
    )
    max_mb: int = Field(
        1_024,
        ge=0,
        le=MOST,
        description=(
            "The most disk space for events, in MiB; 0: no limit. Near the limit, jobs older than a "
            "week are deleted; at the limit, new events are refused."
        ),
    )


class HouseholdSection(_Section):
    """`[household]`: your own machines, joined with `pylon invite` and `pylon join`."""

    strangers: bool = Field(
        False, description="Also serve and ask others. By default a household keeps to its members."
    )
    lan: bool = Field(
        True, description="Announce the household's relay on the local network, and look for it there (mDNS)."
    )
    lan_interfaces: list[str] = Field(
        [],
        examples=[["192.168.1.10"]],
        description="Addresses of this machine to use for that. Empty: all of them.",
    )


class RlmSection(_Section):
    """`[rlm]`: the Recursive Language Model."""

    root: Literal["none", "endpoint", "local", "swarm"] = Field(
        "none",
        description=(
            "Where the root model runs: `endpoint` is an OpenAI-compatible server, `local` a model on "
            "this machine, `swarm` a provider. With `none`, only strategies without a root model work."
        ),
    )
    root_model: str = Field("", description="The root model's id.")
    root_url: str = Field("", description="With `endpoint`: the base URL, without `/chat/completions`.")
    root_key_file: str = Field("", description="With `endpoint`: a file with its API key.")
    root_context: int = Field(128_000, ge=2_048, le=MOST, description="The root model's context window, in tokens.")
    root_max_tokens: int = Field(
        4_096, ge=64, le=_MOST_TOKENS, description="The longest turn of the root model, in tokens."
    )
    root_temperature: float = Field(
        -1.0, ge=-1, le=2, description="The root model's temperature; -1 uses the server's default."
    )
    root_timeout_s: float = Field(300.0, gt=0, le=MOST, description="Seconds the root model may take for one turn.")
    prompt: Literal["auto", "large", "small"] = Field(
        "auto",
        description=(
            "The root model's prompt: `large` explains everything, `small` gives one pattern; `auto` "
            "chooses by its context window."
        ),
    )
    sub_model: str = Field("", description="The model for sub-calls; empty lets any model answer.")
    sub_max_tokens: int = Field(
        256, ge=1, le=_MOST_TOKENS, description="The longest answer to a sub-call, in tokens."
    )
    sub_temperature: float = Field(
        0.0, ge=0, le=2, description="The temperature of sub-calls. At 0, equal prompts are asked once."
    )
    seed: int = Field(
        -1, ge=-1, le=2**31 - 1, description="The seed for sampled answers of root model and sub-calls; -1 sets none."
    )
    sandbox: Literal["auto", "wasm", "process"] = Field(
        "auto", description="The sandbox for the REPL's code; `auto` takes the first that passes its self-test."
    )
    max_depth: int = Field(1, ge=0, le=16, description="How deeply recursive calls may nest.")
    turns: int = Field(20, ge=1, le=MOST, description="The most turns of one loop.")
    max_root_turns: int = Field(
        500, ge=1, le=1_000_000_000, description="The most root model turns in a run, over all its loops."
    )
    max_calls: int = Field(5_000, ge=0, le=1_000_000_000, description="The most sub-calls in a run.")
    max_sats: int = Field(1_000, ge=0, le=21_000_000 * 100_000_000, description="The most a run may cost, in sats.")
    max_tokens: int = Field(
        0, ge=0, le=10**15, description="The most tokens in a run, root model and sub-calls together; 0 is no limit."
    )
    max_wall_s: float = Field(3_600.0, gt=0, le=MOST, description="The most seconds a run may take.")
    max_prompt_chars: int = Field(
        100_000,
        ge=1,
        le=MOST,
        description="The longest prompt of a sub-call, in characters. What fits into one event may be less.",
    )
    cell_s: float = Field(
        60.0,
        gt=0,
        le=MOST,
        description="Seconds the code of one cell may compute; waiting for answers does not count.",
    )
    cell_memory_mb: int = Field(512, ge=16, le=MOST, description="Memory for a REPL besides its context, in MiB.")
    keep_runs: int = Field(100, ge=0, le=MOST, description="How many trajectories to keep; older ones are deleted.")
    keep_run_mb: int = Field(
        1_024,
        ge=1,
        le=1_000_000,
        description="The most disk space for one run's trajectory, in MiB. A run that reaches it ends.",
    )
    keep_context_mb: int = Field(
        32, ge=0, le=MOST, description="Keep contexts up to this size with the trajectory, for its replay, in MiB."
    )


class GatewaySection(_Section):
    """`[gateway]`: the HTTP API and page of `pylon gateway`."""

    host: str = Field(
        "127.0.0.1",
        description=(
            "The address to listen on. Other machines can reach the gateway only at a non-loopback address."
        ),
    )
    port: int = Field(7448, ge=0, le=65_535, description="The port; 0 picks a free one.")
    names: list[str] = Field(
        [],
        examples=[["pylon.example.org"]],
        description=(
            "Host names under which clients reach the gateway, besides `localhost` and IP addresses. "
            "Requests for other names are refused."
        ),
    )
    max_sats: int = Field(
        1_000,
        ge=0,
        le=21_000_000 * 100_000_000,
        description="The most that all requests may cost until the gateway ends, in sats.",
    )
    max_requests: int = Field(4_000, ge=1, le=10_000, description="The most chat completions in progress at once.")
    max_body_mb: int = Field(
        4,
        ge=1,
        le=1_024,
        description="The largest request body, in MiB. 4 is enough for any prompt that can be sent.",
    )


class LogSection(_Section):
    """`[log]`: logging."""

    level: Level = Field("info", description="The lowest level to log.")
    json_lines: bool = Field(False, description="Log one JSON object per line, on standard error.")


class Config(_Section):
    """All settings of a node."""

    network: Network = Field("play", description="The money network. `play` is play money.")
    relays: Annotated[list[RelayUrl], AfterValidator(_without_repeats)] = Field(
        [DEFAULT_RELAY],
        examples=[[DEFAULT_RELAY, "wss://relay.example.org"]],
        min_length=1,
        max_length=_MOST_RELAYS,
        description="The relays to read from and publish to.",
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
