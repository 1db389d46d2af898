"""Whether any event carries a prompt: said before a node, a relay or a provider is asked."""

from pylon.jobs.fit import fits, prompt_bytes
from pylon.jobs.size import MAX_EVENT_BYTES, text_bytes

CUT_UP = "Cut it into smaller pieces; `pylon rlm` asks about texts of any length."


def misfit(prompt: str) -> str:
    """Why none does, or empty."""
    if text_bytes(prompt) <= prompt_bytes() or fits(prompt):
        return ""
    size, most = f"{len(prompt):,} characters", f"{MAX_EVENT_BYTES:,} bytes"
    return f"a prompt of {size} makes a larger event than relays take, of {most} at most"
