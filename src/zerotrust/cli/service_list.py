"""`0trust services list`: the services of agents, and who may enter."""

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = CommandGroup("List the services of agents. Run these commands on the server's machine.")


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List host names, agents, and who may enter."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import show, show_json
    from zerotrust.model import admin

    found = connect(config, socket).get("/v1/services", admin.ServiceList)
    if as_json:
        show_json(found)
        return
    rows = (
        (
            one.host,
            one.state,
            one.agent,
            one.service,
            "; ".join([one.who, *map(_only, one.require)]),
        )
        for one in found.services
    )
    show(("HOST", "STATE", "AGENT", "SERVICE", "WHO"), rows, none="no services")


def _only(condition: str) -> str:
    """Return a condition of the agent's file, which it adds to the server's rule."""
    return f"only {condition}"
