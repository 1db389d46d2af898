"""What nobody can take, by what providers say of themselves: told at once, in OpenAI's words, and not asked for.

It refuses only what waiting does not help: who is paused or busy now may take it later, and the core says so.
"""

from collections.abc import Sequence
from typing import Any

from pylon.gateway.problems import Problem, too_long
from pylon.jobs.size import MAX_EVENT_BYTES, text_bytes
from pylon.swarm.providers.listing import least_context, least_tokens

type Json = dict[str, Any]


def check_size(job: Json) -> None:
    """Raises `Problem` (413) for text that no event holds, before anything else is done with it."""
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
    """Why none of those who are alive can ever take this job, or None. `rows` are those of the `providers` call;
    `plain` says whether providers that read the open form only may be asked.
    """
    wanted = job.get("model")
    asked = [row for row in rows if plain or not row["plain"]]
    contexts = [context for row in asked for context in _contexts(row, wanted)]
    if not contexts:
        # Where nobody is alive the directory may not have been read.
        return model_not_found(wanted) if rows and wanted is not None else None
    # As the core counts, so that nothing is refused here that it would send.
    need = least_context(sum(map(len, _texts(job))), job.get("max_tokens", 0))
    # One that does not say how much it holds is asked.
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
    """What OpenAI says of a model that is not there."""
    return Problem(
        404,
        "model_not_found",
        f"no live provider has the model {name[:100]!r}; `GET /v1/models` lists the available models",
    )


def has_model(row: Json, wanted: str | None) -> bool:
    """Whether this provider may take a job for that model."""
    return bool(_contexts(row, wanted))


def _contexts(row: Json, wanted: str | None) -> list[int]:
    """The context of the model that this provider would use, 0 where it does not say; nothing where it has none."""
    offers = list(zip(row["models"], row["weights"], row["contexts"], strict=True))
    if wanted is None:
        # Whoever names no model may have any.
        return [context for _, _, context in offers[:1]] or [0]
    return [
        context for name, sha256, context in offers if wanted == name or (sha256 and wanted == f"sha256:{sha256}")
    ][:1]


def _texts(job: Json) -> list[str]:
    said = [message["content"] for message in job.get("messages", ())]
    return [job.get("prompt", ""), job.get("system", ""), *said]
