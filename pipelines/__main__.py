"""``python -m pipelines compile``: refresh the compiled pipelines after a change of a graph or a component."""

import typer

from pipelines.compile import COMPILED, compile_to

app = typer.Typer(help="Compile rewardloop's pipelines.", add_completion=False)


@app.callback()
def pipelines() -> None:
    """Compile rewardloop's pipelines."""


@app.command("compile")
def compile_all() -> None:
    """Write src/rewardloop/compiled/*.yaml."""
    for file in compile_to(COMPILED):
        typer.echo(f"wrote {file}")


if __name__ == "__main__":
    app()
