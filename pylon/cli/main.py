"""`pylon`: the commands, one file a group."""

import typer

from pylon.cli import (
    ask,
    bench,
    conformance,
    household,
    identity,
    mapping,
    mcp,
    models,
    node,
    price,
    providers,
    relay,
    rlm,
    simulate,
    skill,
    wallet,
)

app = typer.Typer(
    name="pylon",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn this computer into a paid node of a swarm of language models, or ask that swarm.",
)

_HOME, _SERVE, _ASK, _MONEY, _MEASURE = "Home", "Serve", "Ask", "Money", "Measure"

app.command(rich_help_panel=_HOME)(node.init)
app.add_typer(identity.app, name="identity", rich_help_panel=_HOME)
app.command(rich_help_panel=_HOME)(node.version)
app.command(rich_help_panel=_HOME)(household.invite)
app.command(rich_help_panel=_HOME)(household.join)
app.command(rich_help_panel=_HOME)(household.expel)
app.command(rich_help_panel=_SERVE)(node.start)
app.command(rich_help_panel=_SERVE)(node.stop)
app.command(rich_help_panel=_SERVE)(node.status)
app.command(rich_help_panel=_SERVE)(node.pause)
app.command(rich_help_panel=_SERVE)(node.resume)
app.command(rich_help_panel=_SERVE)(node.drain)
app.command(rich_help_panel=_SERVE)(node.jobs)
app.command(rich_help_panel=_SERVE)(relay.relay)
app.add_typer(models.app, name="models", rich_help_panel=_SERVE)
app.command(rich_help_panel=_ASK)(ask.ask)
app.command("map", rich_help_panel=_ASK)(mapping.map_)
app.command(rich_help_panel=_ASK)(providers.providers)
app.add_typer(rlm.app, name="rlm", rich_help_panel=_ASK)
app.command("mcp", rich_help_panel=_ASK)(mcp.mcp)
app.add_typer(skill.app, name="skill", rich_help_panel=_ASK)
app.command(rich_help_panel=_ASK)(conformance.conformance)
app.add_typer(wallet.app, name="wallet", rich_help_panel=_MONEY)
app.command(rich_help_panel=_MONEY)(wallet.earnings)
app.add_typer(price.app, name="price", rich_help_panel=_MONEY)
app.add_typer(bench.app, name="bench", rich_help_panel=_MEASURE)
app.command("simulate", rich_help_panel=_MEASURE)(simulate.simulate_)


def main() -> None:
    """The program's entry."""
    # Named, because an installed script may start it as `python -c`.
    app(prog_name="pylon")


if __name__ == "__main__":
    main()
