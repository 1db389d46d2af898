"""An answer read by a model that did not write it: the rank of each of its tokens among all that could stand there.

Teacher forcing: whatever the model would have said, it is shown the answer's own tokens. Greedy answers of the same
weights have rank 0 throughout, but where rounding decides.
"""

import mlx.core as mx

from pylon.inference.mlx_model import MlxModel

# Logits of so many positions are held at once: a row can be a megabyte.
_ROWS = 32
_PROMPT_STEP = 512


def ranks(model: MlxModel, prompt: list[int], answer: list[int]) -> list[int]:
    """One rank a token of the answer, then that of the best end token after it."""
    state = model.new_state()
    for at in range(0, len(prompt) - 1, _PROMPT_STEP):
        model.read(prompt[at : min(at + _PROMPT_STEP, len(prompt) - 1)], state)
    # Each token is judged by what stood before it.
    read, expected = [prompt[-1], *answer], answer
    found: list[int] = []
    end = sorted(model.tokenizer.eos_token_ids)
    for at in range(0, len(read), _ROWS):
        logits = model.network(mx.array(read[at : at + _ROWS])[None], cache=state)[0].astype(mx.float32)
        wanted = expected[at : at + _ROWS]
        if wanted:
            rows = logits[: len(wanted)]
            said = mx.take_along_axis(rows, mx.array(wanted)[:, None], axis=1)
            found += [int(rank) for rank in (rows > said).sum(axis=1).tolist()]
        if at + _ROWS >= len(read):
            last = logits[-1]
            found.append(min((int((last > last[token]).sum().item()) for token in end), default=0))
    return found
