"""`finsecure task`: create, watch and end training tasks."""

import json as json_text
from pathlib import Path
from typing import Annotated

import typer
from finsecure_rpc.config import load
from rich.live import Live

from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.convert import Document, document, task_spec
from finsecure_cli.initial import InitialModel, build_initial_model, read_initial_model
from finsecure_cli.output import (
    CONSOLE,
    JsonOption,
    print_json,
    print_table,
    short_name,
    short_time,
)
from finsecure_cli.progress import TaskProgress
from finsecure_cli.settings import DEFAULT_FILE
from finsecure_cli.task_file import TaskFile
from finsecure_cli.transport import Services

app = typer.Typer(no_args_is_help=True, help="Create, watch and end training tasks.")
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Id of the task.")]


@app.command(
    epilog="Examples: finsecure task create task.toml\n\n"
    "finsecure task create task.toml --model initial.safetensors"
)
def create(
    file: Annotated[Path, typer.Argument(help="Task file (TOML).")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Initial model, a safetensors file; else it is built by [model] factory."
        ),
    ] = None,
    python_path: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that the factory's module is imported from; may be given more than once.",
            show_default="the task file's folder, and models/ in it",
        ),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Create a task from a file and upload its initial model.

    The model's code runs in a process of its own. Running the command again after the upload was
    cut off uploads the model to the task that waits for it.
    """
    task = load(file, TaskFile)
    if model is None:
        folder = file.resolve().parent
        initial = build_initial_model(
            task.model.factory, task.inputs, tuple(python_path or [folder, folder / "models"])
        )
    else:
        initial = read_initial_model(model)
    made = with_services(config, lambda services: create_task(services, task, initial))
    if json:
        print_json(made)
    else:
        typer.echo(
            f"{made['name']} is {made['state']}; follow it: finsecure task watch {task.name}"
        )


@app.command("list", epilog="Example: finsecure task list --json")
def list_(json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """List the federation's tasks."""
    found = with_services(config, lambda services: services.list_tasks())
    if json:
        print_json(found)
        return
    print_table(
        ("task", "state", "rounds", "of", "available", "created"),
        [
            (
                short_name(item),
                item["state"],
                item["completed_rounds"],
                item["spec"]["rounds"],
                item["available_clients"],
                short_time(item, "create_time"),
            )
            for item in found
        ],
        empty="There is no task yet: finsecure task create task.toml",
    )


@app.command(epilog="Example: finsecure task show credit-default")
def show(task: TaskArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """Show one task and its terms."""
    found = with_services(config, lambda services: services.get_task(task))
    if json:
        print_json(found)
        return
    spec = found["spec"]
    typer.echo(f"{found['name']}: {found['state']}")
    if found["state_detail"]:
        typer.echo(found["state_detail"])
    rows: list[tuple[str, object]] = [
        ("rounds", f"{found['completed_rounds']} of {spec['rounds']}"),
        ("available clients", found["available_clients"]),
        ("newest model", short_name(found, "latest_model")),
        ("next round", short_time(found, "next_round_time")),
        ("model code", spec["model"]["factory"]),
        ("columns", len(spec["features"]["features"])),
        ("cohort", f"{spec['cohort']['minimum']} to {spec['cohort']['maximum']}"),
        ("weight cap", spec["cohort"]["weight_cap"]),
        ("protection", protection(spec["security"])),
        ("bits a value", spec["encoding"]["value_bits"]),
    ]
    print_table(("", ""), rows, empty="")


@app.command(epilog="Example: finsecure task watch credit-default")
def watch(
    task: TaskArgument,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line, one for each change.")
    ] = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Follow a task until it ends; the exit status is 0 if it completed or converged."""
    shown = print_changes if json else follow
    state = with_services(config, lambda services: shown(services, task))
    if state not in {"completed", "converged"}:
        raise typer.Exit(1)


@app.command(epilog="Example: finsecure task cancel credit-default")
def cancel(
    task: TaskArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE
) -> None:
    """End a task; its running round is aborted, its models stay."""
    ended = with_services(config, lambda services: services.cancel_task(task))
    if json:
        print_json(ended)
    else:
        typer.echo(f"{ended['name']} is {ended['state']}")


def protection(security: Document) -> str:
    """Say in words how a task protects inputs."""
    if not security["encryption_key"]:
        return f"masks, {security['profile']}"
    return f"{security['protection']} under {security['encryption_key'].rpartition('/')[2]}"


async def create_task(services: Services, task: TaskFile, initial: InitialModel) -> Document:
    """Create a task and upload its initial model; goes on where an earlier call was cut off."""
    waiting = [
        item
        for item in await services.list_tasks()
        if short_name(item) == task.name
        and item["state"] == "awaiting_model"
        and item["spec"] == document(task_spec(services.federation, task, initial.tensors))
    ]
    if not waiting:
        await services.create_task(task, initial.tensors)
    await services.upload_model(task.name, initial.content)
    return await services.get_task(task.name)


async def print_changes(services: Services, task: str) -> str:
    """Print one JSON object a line for each change until the task ends; returns its last state."""
    state = ""
    async for found, round_ in services.watch_task(task):
        typer.echo(json_text.dumps({"task": found, "round": round_}, ensure_ascii=False))
        state = found["state"]
    return state


async def follow(services: Services, task: str) -> str:
    """Show a task's progress until it ends; returns its last state."""
    progress = TaskProgress()
    with Live(progress, console=CONSOLE, refresh_per_second=4):
        async for found, round_ in services.watch_task(task):
            progress.update(found, round_)
    return progress.state
