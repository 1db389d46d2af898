"""Refuses at once, with OpenAI's error codes, a job that no provider can take by what the providers announce.

Only jobs for which waiting does not help are refused: providers that are paused or busy may take a job later, and the
core deals with that.
"""

from collections.abc import Sequence
from typing import Any

from pylon.gateway.problems import Problem, too_long
from pylon.jobs.size import MAX_EVENT_BYTES, text_bytes
from pylon.money.price import FREE, Price
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


def misfit(job: Json, rows: Sequence[Json], *, plain: bool) -> Problem | None:
    """Why none of the live providers can ever take this job, or None. `rows` are those of the `providers` call;
    `plain` says whether providers that read only the open form may be asked.
    """
    wanted = job.get("model")
    asked = [row for row in rows if plain or not row["plain"]]
    contexts = [context for row in asked for context in _contexts(row, wanted)]
    if not contexts:
        # With no live provider at all, the announcements may not have been read yet.
        return model_not_found(wanted) if rows and wanted is not None else None
    # Counted as the core does, so that nothing is refused here that it would send.
    need = least_context(sum(map(len, _texts(job))), job.get("max_tokens", 0))
    # 0: this provider does not say how large its context is, so it may take the job.
    if 0 in contexts or need <= max(contexts):
        return None
    longest, most = job.get("max_tokens", 0), max(contexts)
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


def prices(rows: Sequence[Json], wanted: str | None) -> frozenset[Price]:
    """The prices of the providers that may be asked for that model now, each once."""
    # A provider without a price is asked only for jobs that it does for free.
    ready = (row for row in rows if row["state"] == "ready" and row["price"] is not None)
    # Our own machines are free for us: their price is for others.
    return frozenset(FREE if row["own"] else Price.of_rates(row["price"]) for row in ready if _contexts(row, wanted))


def _contexts(row: Json, wanted: str | None) -> list[int]:
    """The context, in tokens, of the model that this provider would use: 0 if it does not say, empty if none fits."""
    offers = list(zip(row["models"], row["weights"], row["contexts"], strict=True))
    if wanted is None:
        # A job that names no model gets the first.
        return [context for _, _, context in offers[:1]] or [0]
    return [
        context for name, sha256, context in offers if wanted == name or (sha256 and wanted == f"sha256:{sha256}")
    ][:1]


def _texts(job: Json) -> list[str]:
    said = [message["content"] for message in job.get("messages", ())]
    return [job.get("prompt", ""), job.get("system", ""), *said]
