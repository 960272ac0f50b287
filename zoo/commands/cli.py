"""The ``zoo`` command, put together of its groups of subcommands."""

from __future__ import annotations

from zoo.commands.cache import cache
from zoo.commands.card import add_result, card
from zoo.commands.catalogue import list_models
from zoo.commands.data import data
from zoo.commands.doctor import doctor
from zoo.commands.hub import pull, push
from zoo.commands.import_checkpoint import import_model
from zoo.commands.info import info
from zoo.commands.mirror import mirror
from zoo.commands.plugins import CommandsWithPlugins
from zoo.console import make_app, run, version_option

app = make_app(
    "Zoo models: find them, look at them, make them of runs and of checkpoints of others, add results to their cards.\n\n"
    "Examples:\n\n"
    "* `zoo list hcsc`: published backbones, with what is claimed of them\n"
    "* `zoo import hcsc_200eps.pth --out models/hcsc`: make a zoo model of a checkpoint\n"
    "* `zoo export runs/moco --out models/moco`: make a zoo model of a run\n"
    "* `zoo info models/moco`: what it is, and what was measured\n"
    "* `zoo add-result models/moco knn.json`: add a result to its card\n"
    "* `zoo push models/moco my-lab/resnet18.moco_200ep`: publish it\n"
    "* `zoo predict models/mine photos --out predictions.csv`: what a classifier says of images\n"
    "* `zoo pull my-lab/resnet18.moco_200ep`: get it, checked",
    cls=CommandsWithPlugins,
    no_args_is_help=True,
)


@app.callback()
def _zoo(version: bool = version_option("zoo")) -> None: ...


app.command()(info)
app.command("list")(list_models)
app.command("import")(import_model)
app.command()(data)
app.command()(add_result)
app.command()(pull)
app.command()(push)
app.command()(mirror)
app.command()(card)
app.command()(cache)
app.command()(doctor)


def main() -> None:
    """Entry point of the ``zoo`` command."""
    run(app)
