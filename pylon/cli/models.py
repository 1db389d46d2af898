"""`pylon models`: lists, recommends, downloads, selects and deletes models."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pylon import config as settings
from pylon.cli.models_verify import verify
from pylon.cli.output import err, out, table
from pylon.cli.running import Json, fail, print_json
from pylon.errors import PylonError, UsageError
from pylon.host.hardware import has_metal
from pylon.host.memory import total_bytes
from pylon.inference.capacity import load_capacity
from pylon.inference.models import catalogue, local, needle
from pylon.inference.models.weights import gguf_file, is_model_id, weights_sha256
from pylon.node.home import Home, open_home, private_folder
from pylon.node.settings_file import change

app = typer.Typer(no_args_is_help=True, help="The models on this machine.")


Model = Annotated[str, typer.Argument(help="A model's id, such as mlx-community/Qwen3-4B-Instruct-2507-4bit.")]
# How often the bar of a download is updated.
_WATCH_S = 0.5


def _choices(total: int) -> list[catalogue.Choice]:
    return catalogue.choices(total, metal=has_metal())


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the models on this machine, and those worth downloading."""
    here = local.local_models(_models())
    used = _used()
    if as_json:
        print_json(
            {
                "here": [
                    {
                        "id": model.id,
                        "engine": model.engine,
                        "bytes": model.size,
                        "packaged": model.packaged,
                        "used": (model.engine, model.id) == used,
                    }
                    for model in here
                ],
                "catalogue": [_entry(choice) for choice in _choices(total_bytes())],
            }
        )
        return
    made = table("|here", "engine", ">size", "")
    for model in here:
        made.add_row(model.id, model.engine, _gb(model.size), "in use" if (model.engine, model.id) == used else "")
    out.print(made)
    out.print()
    out.print("to download", style="bold")
    for choice in sorted(_choices(total_bytes()), key=lambda one: one.model.parameters):
        out.print(f"{choice.id}  {_gb(choice.weights_bytes)}, {choice.model.context:,} tokens of context")
        out.print(f"  {choice.model.strengths}", style="dim")


@app.command()
def recommend(
    memory_gb: Annotated[
        float,
        typer.Option(
            min=0,
            max=1_000_000,
            help="Recommend for a machine of this kind with this much memory, in GB; 0 means this machine.",
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Recommend a model for this machine's memory, with the arithmetic and any speed measured here."""
    total = int(memory_gb * catalogue.GB) or total_bytes()
    choices = _choices(total)
    if as_json:
        print_json({"memory_bytes": total, "choices": [_entry(choice) for choice in choices]})
        return
    out.print(f"{_gb(total)} of memory, {catalogue.OF_TOTAL:.0%} of it for a model:")
    for choice in choices:
        out.print(f"  {'fits    ' if choice.fits else 'too much'}  {choice.id}", style=None)
        out.print(f"            {choice.arithmetic}", style="dim")
        if (speed := _speed(choice)) is not None:
            out.print(f"            measured here: {speed:.0f} answer tokens per second", style="dim")
    if not choices[0].fits:
        out.print(f"None of them fits. {needle.MODEL_ID}, which comes with Pylon, always does.")
        return
    if choices[0].gguf:
        _tell_of_processors([choice for choice in choices if choice.fits])
    elif _speed(choices[0]) is None:
        out.print("To measure its speed here, run `pylon bench engine` once it is in use.", style="dim")
    out.print(f"Download it with: pylon models pull {choices[0].id}")


def _tell_of_processors(choices: list[catalogue.Choice]) -> None:
    least, most = min(one.read_bytes for one in choices), max(one.read_bytes for one in choices)
    read = _gb(least) if least == most else f"{_gb(least)} with the first of these, up to {_gb(most)}"
    out.print(
        "MLX has no accelerator here, so these are for llama.cpp (the engine `llama`, built by "
        "`./scripts/setup --llama`). A CPU reads all weights again for each answer token: "
        f"{read}. Start with the first, measure it with `pylon bench engine`, and go up from "
        "there."
    )


@app.command()
def pull(
    model: Model,
    revision: Annotated[
        str | None, typer.Option(help="A commit, branch or tag of the model (default: the newest).")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="Which GGUF file to take, by part of its name (default: Q4_K_M).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a model. Resumes an interrupted download, verifies the files, and adds the model only once it is
    complete."""
    # Imported late: a second of start-up that no other command needs.
    from pylon.inference.models import pull as fetching

    directory = _models() / model
    try:
        _check_id(model)
        private_folder(_models())
        with _DownloadBar(directory, quiet=as_json) as report:
            size = fetching.pull(model, directory, report, revision=revision, gguf=file)
        place = directory if (directory / "config.json").exists() else gguf_file(model, _models())
        sha256 = weights_sha256(place, _models() / "weights.json")
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json({"id": model, "bytes": size, "sha256": sha256, "directory": str(directory)})
        return
    out.print(f"{model}: {_gb(size)}, weights {sha256}")
    out.print(f"Serve it with: pylon models use {model}")


@app.command()
def use(
    model: Model,
    engine: Annotated[str, typer.Option(help="mlx or llama (default: the one whose files are here).")] = "",
    as_json: Json = False,
) -> None:
    """Use this model from the next start on, by writing it to the settings. A path of a GGUF file works too."""
    try:
        home, _ = open_home()
        chosen = local.engine_for(model, home.models, engine=engine)
        change(home.config_file, "inference", {"engine": chosen, "model": model})
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json({"model": model})
    else:
        out.print(f"{model} is served from the next start on.")


@app.command()
def remove(model: Model, as_json: Json = False) -> None:
    """Delete a model's files."""
    try:
        if model == _used()[1]:
            raise UsageError(f"{model} is in use", hint=_ANOTHER)
        size = local.remove(model, _models())
    except PylonError as error:
        fail(error, as_json=as_json)
    if as_json:
        print_json({"removed": model, "bytes": size})
    else:
        out.print(f"{model} is gone: {_gb(size)} freed.")


_ANOTHER = "Choose another first: `pylon models list` shows what is here, `pylon models use MODEL` serves it."


def _models() -> Path:
    return settings.home_directory() / "models"


def _used() -> tuple[str, str]:
    """Engine and model of the settings. Both are empty without a home, or if another server has the model."""
    try:
        section = open_home()[1].inference
    except PylonError:
        return "", ""
    return (section.engine, section.model) if section.engine in ("mlx", "llama") else ("", "")


def _check_id(model: str) -> None:
    if not is_model_id(model):
        raise UsageError(f"{model!r} is not a model id", hint="An id looks like mlx-community/Qwen3-4B-4bit.")


def _speed(choice: catalogue.Choice) -> float | None:
    """The answer tokens per second that a benchmark measured on this machine; None if none did."""
    known = load_capacity(Home(settings.home_directory()).capacity_file, choice.id)
    return None if known is None else known.tokens_out_per_s


def _entry(choice: catalogue.Choice) -> dict[str, object]:
    model = choice.model
    return {
        "id": choice.id,
        "mlx": model.mlx,
        "gguf": model.gguf,
        "engine": "llama" if choice.gguf else "mlx",
        "tokens_out_per_s": _speed(choice),
        "weights_bytes": choice.weights_bytes,
        "needs_bytes": choice.needs_bytes,
        "context": model.context,
        "strengths": model.strengths,
        "fits": choice.fits,
        "arithmetic": choice.arithmetic,
    }


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**8 else f"{size / 1e6:.1f} MB"


class _DownloadBar:
    """A bar that follows the bytes on disk. The download library itself only reports whole files."""

    def __init__(self, directory: Path, *, quiet: bool) -> None:
        self._folder = directory.with_name(directory.name + ".partial")
        self._bar = (
            None
            if quiet or not err.is_terminal
            else Progress(
                TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=err
            )
        )
        self._over = threading.Event()

    def __enter__(self) -> Callable[[str, int], None]:
        if self._bar is None:
            return lambda *_: None
        self._task = self._bar.add_task("", total=None)
        self._bar.start()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._bar is not None:
            self._watcher.join()
            self._bar.stop()

    def _report(self, name: str, size: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=name, total=size)

    def _watch(self) -> None:
        while self._bar is not None and not self._over.wait(_WATCH_S):
            there = sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())
            self._bar.update(self._task, completed=there)


app.command()(verify)
