"""The OpenAI engine in its child, before llama.cpp's own server with the packaged model."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from pylon.errors import PromptError
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec
from pylon.inference.models import needle
from pylon.inference.models.weights import PACKAGED

xllamacpp = pytest.importorskip("xllamacpp")

CHUNK = "The special magic number for silver-harbor is 4711. Gulls walked between the nets."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    params = xllamacpp.CommonParams()
    params.model.path = str(PACKAGED / f"{needle.MODEL_ID}.gguf")
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.verbosity = 2048, 2, 1, -1
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    # Held until here: it ends with the last name that holds it.
    del server


@pytest.fixture
async def service(serve, url: str):
    options = {"base_url": url, "context": 1024}
    return await serve(EngineSpec("openai", needle.MODEL_ID, slots=2, options=options), limits=ChildLimits())


def question() -> str:
    return needle.prompt("What is the special magic number for silver-harbor?", CHUNK)


async def test_the_packaged_model_answers_through_llama_cpps_server(service, ask) -> None:
    answers = await asyncio.gather(*(service.generate(ask(question(), max_tokens=12)) for _ in range(4)))
    assert {answer.text.strip() for answer in answers} == {"4711"}
    assert all(answer.finish == "stop" and answer.prompt_tokens > 20 for answer in answers)


async def test_its_answers_follow_a_schema(service, ask) -> None:
    schema = json.dumps({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]})
    answer = await service.generate(ask(question(), max_tokens=60, schema=schema))
    assert json.loads(answer.text)["n"] in (1, 2)


async def test_a_prompt_over_its_context_is_a_prompt_error(service, ask) -> None:
    with pytest.raises(PromptError):
        await service.generate(ask("word " * 5_000))
