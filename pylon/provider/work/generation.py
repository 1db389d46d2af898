"""The request to the engine for a job."""

from pylon.inference.engine import GenerationRequest, Message, Sampling
from pylon.jobs.request import parse_messages
from pylon.provider.queue import Job


def request_of(job: Job) -> GenerationRequest:
    """The job's prompt and sampling parameters, with at most the tokens that it was admitted for."""
    parameters = job.request.job.parameters
    if parameters.messages:
        messages = tuple(Message(role, content) for role, content in parse_messages(job.request.job.text))
    else:
        messages = (Message("user", job.request.job.text),)
    if parameters.system is not None:
        messages = (Message("system", parameters.system), *messages)
    sampling = Sampling(
        max_tokens=job.terms.max_tokens,
        temperature=parameters.temperature or 0.0,
        top_p=1.0 if parameters.top_p is None else parameters.top_p,
        top_k=parameters.top_k or 0,
        seed=parameters.seed,
        stop=parameters.stop,
        frequency_penalty=parameters.frequency_penalty or 0.0,
        schema=parameters.schema,
    )
    return GenerationRequest(job.id, messages, sampling, job.terms.model, job.request.customer)
