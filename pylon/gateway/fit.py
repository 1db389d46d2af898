"""Refuses at once, with OpenAI's error codes, a job that no provider can take by what the providers announce.

Only jobs for which waiting does not help are refused: providers that are paused or busy may take a job later, and the
core deals with that.
"""

from typing import Any

from pylon.gateway.offers import Offers
from pylon.gateway.problems import Problem, too_long
from pylon.jobs.size import MAX_EVENT_BYTES, text_bytes
from pylon.swarm.providers.listing import least_context, least_tokens

type Json = dict[str, Any]


def check_size(job: Json) -> None:
    """Raises `Problem` (413) for more text than an event can hold."""
    size = sum(map(text_bytes, _texts(job)))
    if size > MAX_EVENT_BYTES:
        raise Problem(
            413,
            "too_large",
            f"this is {size:,} bytes of text, and a request to a provider holds at most "
            f"{MAX_EVENT_BYTES:,}. Split it into smaller pieces.",
            param="messages",
        )


def misfit(job: Json, offers: Offers, *, plain: bool) -> Problem | None:
    """Why none of the live providers can ever take this job, or None. `plain` says whether providers that read only
    the open form may be asked.
    """
    wanted = job.get("model")
    most = offers.longest(wanted, plain=plain)
    if most is None:
        # With no live provider at all, the announcements may not have been read yet.
        return None if offers.nobody or wanted is None else model_not_found(wanted)
    # Counted as the core does, so that nothing is refused here that it would send.
    need = least_context(sum(map(len, _texts(job))), job.get("max_tokens", 0))
    if need <= most:
        return None
    longest = job.get("max_tokens", 0)
    if longest > most:
        return too_long(
            f"`max_tokens` is {longest:,}, but no provider has a context window of more than {most:,} tokens",
            "max_tokens",
        )
    tokens = least_tokens(sum(map(len, _texts(job))), longest)
    return too_long(f"this needs at least {tokens:,} tokens of context, and providers have at most {most:,}")


def model_not_found(name: str) -> Problem:
    """OpenAI's error for an unknown model."""
    return Problem(
        404,
        "model_not_found",
        f"no live provider has the model {name[:100]!r}; `GET /v1/models` lists the available models",
    )


def _texts(job: Json) -> list[str]:
    said = [message["content"] for message in job.get("messages", ())]
    return [job.get("prompt", ""), job.get("system", ""), *said]
