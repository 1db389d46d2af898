"""Checks whether a provider's count of tokens is possible, and whether its charge follows from it."""

from enum import StrEnum

from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.records import record

# A chat template wraps a prompt in some tokens of its own.
TEMPLATE_TOKENS = 256


class UsageFault(StrEnum):
    """What is wrong with a count or a charge. docs/money.md explains the codes."""

    PROMPT_TOKENS = "usage_prompt_tokens"  # more than the prompt has bytes
    COMPLETION_TOKENS = "usage_completion_tokens"  # more than were allowed
    CHARGE = "usage_charge"  # above the price list
    AFTER_ERROR = "usage_after_error"  # for a job of which its provider had said that it is not done
    NOT_SENT = "usage_not_sent"  # for a part of an answer that was not sent, or that nobody took back


@record
class Usage:
    """The tokens of prompt and completion, as a result states them."""

    prompt_tokens: int
    completion_tokens: int


@record
class Bounds:
    """What the customer knows itself: the size of the prompt in bytes, and the job's `max_tokens`."""

    prompt_bytes: int
    max_tokens: int


def check_usage(usage: Usage, charge_msat: int, price: Price, bounds: Bounds) -> UsageFault | None:
    """What is wrong with a result's count or charge, or None. A charge below the price list is no fault."""
    if not 0 <= usage.prompt_tokens <= bounds.prompt_bytes + TEMPLATE_TOKENS:
        # No tokenizer makes more than one token out of a byte.
        return UsageFault.PROMPT_TOKENS
    if not 0 <= usage.completion_tokens <= bounds.max_tokens:
        return UsageFault.COMPLETION_TOKENS
    if charge_msat > price.charge(usage.prompt_tokens, usage.completion_tokens):
        return UsageFault.CHARGE
    return None


def check_part(completion_tokens: int, sent_bytes: int | None) -> UsageFault | None:
    """What is wrong with the count of an unfinished answer, or None.

    `sent_bytes` is how much of the answer we were sent before its provider stopped; None if we never told it to stop.
    """
    # A token has at least a byte.
    return None if sent_bytes and completion_tokens <= sent_bytes else UsageFault.NOT_SENT


def quote_bound(price: Price, bounds: Bounds) -> Msat:
    """The most that a job can cost by a price list, from what is known before it is sent."""
    return price.quote(bounds.prompt_bytes + TEMPLATE_TOKENS, bounds.max_tokens)
