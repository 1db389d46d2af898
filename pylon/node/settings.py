"""Turns the settings of the config file into the arguments of engine, provider and owner rules."""

from pylon.errors import SetupError, WireError
from pylon.host.readings import Heat, MemoryPressure
from pylon.inference.engine import EngineSpec
from pylon.inference.instant import MODEL_ID as STAND_IN
from pylon.inference.models.weights import gguf_file, model_directory, model_name
from pylon.jobs.announcement import HOUSEHOLD
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.node.home import Home
from pylon.node.household.members import HouseholdFile, TrustedKeys
from pylon.nostr.bech32 import nip19
from pylon.provider.owner.rules import Battery, InUse, Overheated, Rule, ShortOfMemory
from pylon.provider.owner.rulings import OwnerRules
from pylon.provider.owner.schedule import OutOfHours, parse_spans
from pylon.provider.settings import ProviderSettings
from pylon.sections import Config, InferenceSection, ProviderSection


def model_id(config: Config) -> str:
    """The id under which the model is announced."""
    match config.inference.engine:
        case "instant":
            return STAND_IN
        case "llama":
            return model_name(config.inference.model)
        case _:
            return config.inference.model


def unnamed_model(config: Config) -> bool:
    """Whether the model of an OpenAI-compatible server has no name in the settings, and so goes by the default
    model's id."""
    section = config.inference
    return section.engine == "openai" and "model" not in section.model_fields_set


def engine_spec(home: Home, config: Config) -> EngineSpec:
    """What the inference child is to run. Raises `ModelError` if the model is not on this machine."""
    directory = file = None
    section = config.inference
    if section.engine == "mlx":
        directory = model_directory(section.model, home.models)
    elif section.engine == "llama":
        file = gguf_file(section.model, home.models)
    return EngineSpec(
        engine=config.inference.engine,
        model=model_id(config),
        model_dir=directory,
        model_file=file,
        slots=config.inference.slots,
        hash_cache=home.models / "weights.json",
        memory=int(section.memory_gb * 1e9),
        options=_engine_options(section),
    )


def _engine_options(section: InferenceSection) -> dict[str, object]:
    match section.engine:
        case "instant":
            return {"delay_s": section.instant_delay_s}
        case "openai":
            return {
                "base_url": section.openai_url,
                "key_file": section.openai_key_file,
                "context": section.openai_context,
            }
        case _:
            return {}


def provider_settings(config: Config, own: str, household: HouseholdFile) -> ProviderSettings:
    """The provider's settings. The node's `own` key is trusted, since a node may ask itself. Raises `SetupError`."""
    section = config.provider
    only_trusted = household.get() is not None and not config.household.strangers
    price = FREE
    # A household serves its members for free, so nobody is charged if nobody else is served.
    if not only_trusted and section.pricing == "paid":
        price = Price(Msat(section.base_msat), Msat(section.in_msat_per_1k), Msat(section.out_msat_per_1k))
    return ProviderSettings(
        name=section.name,
        about=section.about,
        price=price,
        network=HOUSEHOLD if only_trusted else config.network,
        serve_open=section.serve_open,
        serve_broadcast=section.serve_broadcast,
        trusted=TrustedKeys(frozenset({own, *public_keys("provider.trusted", section.trusted)}), household),
        only_trusted=only_trusted,
        blocked=public_keys("provider.blocked", section.blocked),
        max_queue=section.max_queue,
        max_customers=section.max_customers,
        max_per_customer=section.max_per_customer,
        max_prompt_bytes=section.max_prompt_bytes,
        max_tokens=section.max_tokens,
        default_max_tokens=section.default_max_tokens,
    )


def terms(section: ProviderSection) -> dict[str, str | int]:
    """The price in the settings: `pricing` is free or paid, and the rates are in msat."""
    return {name: getattr(section, name) for name in ("pricing", "base_msat", "in_msat_per_1k", "out_msat_per_1k")}


def owner_rules(config: Config, *, attended: bool) -> OwnerRules:
    """The owner rules of the settings, in the order in which they are reported. `attended`: a person started the node
    in a terminal. Raises `SetupError`."""
    section = config.owner
    rules: list[Rule] = []
    try:
        spans = [span for text in section.schedule for span in parse_spans(text)]
    except ValueError as error:
        raise SetupError(
            f"owner.schedule: {error}", hint="Correct that line of the settings and try again."
        ) from error
    if not section.rules:
        return OwnerRules(rules)
    if section.in_use_minutes:
        rules.append(InUse(60 * section.in_use_minutes, attended=attended))
    if not section.on_battery or section.min_charge_percent:
        rules.append(Battery(section.min_charge_percent, serve=section.on_battery))
    if section.heat != "off":
        rules.append(Overheated(Heat[section.heat.upper()]))
    if section.memory != "off":
        rules.append(ShortOfMemory(MemoryPressure[section.memory.upper()]))
    if spans:
        rules.append(OutOfHours(spans))
    return OwnerRules(rules)


def check_settings(config: Config) -> None:
    """Raises `SetupError` for settings that load but keep a node from starting."""
    owner_rules(config, attended=False)
    public_keys("provider.trusted", config.provider.trusted)
    public_keys("provider.blocked", config.provider.blocked)


def public_keys(setting: str, texts: list[str]) -> frozenset[str]:
    """The public keys in a setting, as hex; `setting` is its name for errors. Raises `SetupError`."""
    try:
        return frozenset(nip19.parse_public_key(text) for text in texts)
    except WireError as error:
        raise SetupError(f"{setting} contains an invalid public key: {error}") from error
