"""`pylon models`: the models on this machine."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.progress import Progress

from pylon.bench import needle as bench
from pylon.bench.needle import Engine
from pylon.cli.output import Json, err, fail, out, print_json, table
from pylon.errors import PylonError, UsageError
from pylon.inference.models import needle

app = typer.Typer(no_args_is_help=True, help="The models on this machine.")


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help=f"The model: {needle.MODEL_ID}.")] = needle.MODEL_ID,
    engine: Annotated[str, typer.Option(help="mlx or llama.")] = "mlx",
    seed: Annotated[int, typer.Option(help="The data are made from it.")] = 1,
    present: Annotated[int, typer.Option(min=6, help="Questions whose answer stands in the chunk.")] = 480,
    absent: Annotated[int, typer.Option(min=1, help="Questions whose answer does not.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Measure how well the packaged model does its one thing, by length, phrasing and position.

    With `llama` it needs the development set-up, which has llama.cpp.
    """
    try:
        result = bench.verify(
            _engine(model, engine),
            seed,
            present=present,
            absent=absent,
            progress=_progress(present + absent, as_json),
        )
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json(result)
        return
    out.print(f"{model} under {engine}, seed {seed}: shares of exact answers")
    made = table("", ">share")
    made.add_row("answer in the chunk", f"{result['needle_present']:.4f}")
    made.add_row("answer not in the chunk", f"{result['needle_absent']:.4f}")
    made.add_row("worst tenth of the chunk", f"{result['worst_decile']:.4f}")
    for tokens, share in result["by_length"].items():
        made.add_row(f"chunks of {tokens} tokens", f"{share:.4f}")
    for question, share in result["by_phrasing"].items():
        made.add_row(question, f"{share:.4f}")
    out.print(made)


def _engine(model: str, engine: str) -> Engine:
    if model != needle.MODEL_ID:
        raise UsageError(f"only {needle.MODEL_ID} can be verified", hint="Other models have no known answers.")
    match engine:
        case "mlx" | "llama":
            return engine
        case _:
            raise UsageError(f"there is no engine {engine!r}", hint="mlx or llama.")


def _progress(total: int, quiet: bool) -> Callable[[int, int], None] | None:
    if quiet or not err.is_terminal:
        return None
    bar = Progress(console=err, transient=True)
    task = bar.add_task("asking", total=total)
    bar.start()

    def report(done: int, of: int) -> None:
        bar.update(task, completed=done)
        if done == of:
            bar.stop()

    return report
