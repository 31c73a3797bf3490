"""`qd completion`: a shell that completes commands, options, kinds, queues and jobs."""

from __future__ import annotations

import click

from quarterdeck.cli.options import examples

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        'eval "$(qd completion bash)"  # in ~/.bashrc',
        'eval "$(qd completion zsh)"  # in ~/.zshrc, after compinit',
        "qd completion fish | source  # in ~/.config/fish/config.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print the script that makes a shell complete what you type.

    The Tab key then completes commands and options, and kinds, queues and jobs from the service that QUARTERDECK_URL
    names. Bash has to be 4.4 or newer.
    """
    from click import shell_completion as of  # noqa: PLC0415 - only a completion needs it

    root = ctx.find_root()
    name = root.info_name or "qd"
    kind = {"bash": of.BashComplete, "zsh": of.ZshComplete, "fish": of.FishComplete}[shell]
    script = kind(root.command, {}, name, complete_variable(name))
    # Not its method `source`, which looks for a bash to find out how old it is.
    click.echo(script.source_template % script.source_vars(), nl=False)


def complete_variable(name: str) -> str:
    """The environment variable by which a shell asks the program `name` for completions."""
    return f"_{name.upper().replace('-', '_')}_COMPLETE"
