"""`pylon models verify`: measures how well the packaged model does its one task."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.progress import Progress

from pylon.bench import needle as bench
from pylon.bench.needle import Engine
from pylon.cli.output import err, out, table
from pylon.cli.running import Json, fail, print_json
from pylon.errors import PylonError, UsageError
from pylon.inference.models import needle


def verify(
    model: Annotated[str, typer.Argument(help=f"The model: {needle.MODEL_ID}.")] = needle.MODEL_ID,
    engine: Annotated[str, typer.Option(help="mlx or llama.")] = "mlx",
    seed: Annotated[int, typer.Option(help="The seed that the test data are made from.")] = 1,
    present: Annotated[int, typer.Option(min=6, help="How many questions whose answer is in the chunk.")] = 480,
    absent: Annotated[int, typer.Option(min=1, help="How many questions whose answer is not.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Measure how well the packaged model does its one task, by length, phrasing and position.

    With `llama` it uses the llama.cpp engine if that is built, otherwise xllamacpp from the development setup.
    """
    try:
        result = bench.verify(
            _engine(model, engine),
            seed,
            present=present,
            absent=absent,
            progress=_progress(as_json),
        )
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json(result)
        return
    out.print(f"{model} under {engine}, seed {seed}: shares of exact answers")
    made = table("", ">share")
    shares = {
        "answer in the chunk": result["needle_present"],
        "answer in the chunk, keys of other words and numbers": result["other_keys"],
        "answer not in the chunk": result["needle_absent"],
        "worst tenth of the chunk": result["worst_decile"],
        **{f"chunks of {tokens} tokens": share for tokens, share in result["by_length"].items()},
        **result["by_phrasing"],
    }
    for what, share in shares.items():
        made.add_row(what, "not asked" if share is None else f"{share:.4f}")
    out.print(made)


def _engine(model: str, engine: str) -> Engine:
    if model != needle.MODEL_ID:
        raise UsageError(
            f"only {needle.MODEL_ID} can be verified", hint="There are no known answers to test other models with."
        )
    match engine:
        case "mlx" | "llama":
            return engine
        case _:
            raise UsageError(f"unknown engine {engine!r}", hint="Use mlx or llama.")


def _progress(quiet: bool) -> Callable[[int, int], None] | None:
    if quiet or not err.is_terminal:
        return None
    bar = Progress(console=err, transient=True)
    task = bar.add_task("asking", total=None)
    bar.start()

    def report(done: int, of: int) -> None:
        bar.update(task, completed=done, total=of)
        if done == of:
            bar.stop()

    return report
