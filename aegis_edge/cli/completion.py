"""`aegis-edge completion`: the script with which a shell completes our commands.

Knows click's completion.  Refuses to change anybody's shell: it prints.
"""

from __future__ import annotations

import click

from aegis_edge.cli import screen


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@screen.common
def command(shell: str) -> None:
    """Print the completion script for a shell.

    Commands, options and keys are completed from the next shell on that has read it.

    \b
    Examples, each a line for the shell's own start file:
      eval "$(aegis-edge completion bash)"     # ~/.bashrc
      eval "$(aegis-edge completion zsh)"      # ~/.zshrc
      aegis-edge completion fish | source      # ~/.config/fish/config.fish
    """
    from click import shell_completion

    from aegis_edge.cli.root import root

    kind = shell_completion.get_completion_class(shell)
    assert kind is not None, "click completes the shells that we name"
    # click asks the bash that happens to be installed for its version; the script is the same.
    made = kind(root, {}, "aegis-edge", "_AEGIS_EDGE_COMPLETE")
    script = made.source_template % made.source_vars()
    if screen.wants_json():
        screen.print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
