"""`finsecure model`: list, download and verify versions of a global model."""

import json as json_text
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError, StateError
from finsecure_rpc.model_statements import ModelKeys

from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.commands.task import TaskArgument
from finsecure_cli.convert import Document, signed_model
from finsecure_cli.output import (
    JsonOption,
    print_json,
    print_table,
    short_name,
    short_time,
    size,
)
from finsecure_cli.settings import DEFAULT_FILE
from finsecure_cli.transport import Services
from finsecure_cli.verify import ModelVerifier

app = typer.Typer(no_args_is_help=True, help="List, download and verify global models.")


@app.command("list", epilog="Example: finsecure model list credit-default")
def list_(
    task: TaskArgument, json: JsonOption = False, config: ConfigOption = DEFAULT_FILE
) -> None:
    """List a task's model versions, oldest first."""
    found = with_services(config, lambda services: services.list_models(task))
    if json:
        print_json(found)
        return
    print_table(
        ("version", "round", "size", "SHA-256", "made"),
        [
            (
                item["version"],
                short_name(item, "round"),
                size(item["size_bytes"]),
                item["sha256"][:16],
                short_time(item, "create_time"),
            )
            for item in found
        ],
        empty="There is no model yet: finsecure task create uploads the first",
    )


@app.command(
    epilog="Examples: finsecure model download credit-default --out models\n\n"
    "finsecure model download credit-default --version all --out models"
)
def download(
    task: TaskArgument,
    version: Annotated[str, typer.Option(help="Number of the version, latest, or all.")] = "latest",
    out: Annotated[Path, typer.Option(help="Folder to write to; made if need be.")] = Path(),
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Download model versions, each verified before it is written.

    Beside each NAME.safetensors goes NAME.json, its signed description, so that it can be verified
    again at any time.
    """
    if not (version.isdigit() or version in {"latest", "all"}):
        raise InvalidArgumentError(
            "VERSION_MALFORMED", f"{version!r} is no version: give a number, latest, or all"
        )
    out.mkdir(parents=True, exist_ok=True)
    written = with_services(config, lambda services: save_models(services, task, version, out))
    if json:
        print_json([{"file": str(path), **model} for path, model in written])
        return
    for path, model in written:
        typer.echo(f"{path}: version {model['version']}, verified")


@app.command(epilog="Example: finsecure model verify models/credit-default-20.safetensors")
def verify(
    files: Annotated[list[Path], typer.Argument(help="Downloaded .safetensors files.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Verify downloaded models: the signer's certificate, the signature, and the SHA-256.

    With model_key in the operator's configuration, the statement of that key too.
    """

    async def work(services: Services) -> list[dict[str, object]]:
        verifier = await model_check(services)
        results: list[dict[str, object]] = []
        for path in files:
            description = _description(path)
            await verifier.check(description, path.read_bytes())
            results.append({"file": str(path), "verified": True, **description})
        return results

    results = with_services(config, work)
    if json:
        print_json(results)
        return
    for result in results:
        typer.echo(f"{result['file']}: {result['name']} is genuine")


@app.command(epilog="Example: finsecure model recheck credit-default --version 20")
def recheck(
    task: TaskArgument,
    version: Annotated[str, typer.Option(help="Number of the version, or latest.")] = "latest",
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Let the aggregator read a stored version again: into quarantine, or out of it."""
    if not (version.isdigit() or version == "latest"):
        raise InvalidArgumentError(
            "VERSION_MALFORMED", f"{version!r} is no version: give a number, or latest"
        )
    found = with_services(config, lambda services: services.recheck_model(task, version))
    if json:
        print_json(found)
    elif found["quarantine_reason"]:
        raise StateError(
            "MODEL_QUARANTINED",
            f"{found['name']} is in quarantine ({found['quarantine_reason']}); restore its file "
            "from a backup, then run this again",
        )
    else:
        typer.echo(f"{found['name']} is whole")


@dataclass(frozen=True)
class ModelCheck:
    """What a model has to pass: the aggregator's signature, and a managed key's where pinned."""

    verifier: ModelVerifier
    keys: ModelKeys | None

    async def check(self, description: Document, content: bytes) -> None:
        """Check a version's description and file.

        Raises:
            FinSecureError: as `ModelVerifier.check` and `ModelKeys`; the model must not be used.
        """
        self.verifier.check(description, content)
        if self.keys is not None:
            model = signed_model(description)
            await self.keys.prepare(model.envelope)
            self.keys.verify(model.envelope, model.version, None)


async def model_check(services: Services) -> ModelCheck:
    """Build the check from what the operator trusts and the newest revocation list."""
    revocations = await services.revocations()  # brings the newest authorities too
    verifier = ModelVerifier(
        trust_domain=services.trust_domain,
        anchors=services.anchors,
        revocations=revocations,
        now=lambda: datetime.now(UTC),
    )
    return ModelCheck(verifier, services.model_keys())


async def save_models(
    services: Services, task: str, version: str, out: Path
) -> list[tuple[Path, Document]]:
    """Download, verify and write versions of a task's model.

    Args:
        services: the connections.
        task: id of the task.
        version: a number, `latest` or `all`.
        out: folder to write to, which exists.

    Returns:
        Path and description of each file.

    Raises:
        FinSecureError: where a version does not verify; nothing of it is written.
    """
    if version == "all":
        # One by one: only so they come with the statements of a managed key.
        numbers = [str(model["version"]) for model in await services.list_models(task)]
        models = [await services.get_model(task, number) for number in numbers]
    else:
        models = [await services.get_model(task, version)]
    verifier = await model_check(services)
    written = []
    for model in models:
        content = await services.download_model(model)
        await verifier.check(model, content)
        path = out / f"{task}-{model['version']}.safetensors"
        path.write_bytes(content)
        path.with_suffix(".json").write_text(json_text.dumps(model, indent=2) + "\n")
        written.append((path, model))
    return written


def _description(path: Path) -> Document:
    described = path.with_suffix(".json")
    try:
        content = json_text.loads(described.read_text())
    except FileNotFoundError:
        raise ConfigurationError(
            "DESCRIPTION_MISSING",
            f"{described} is missing, without which {path} cannot be verified; download the "
            "model again",
        ) from None
    except ValueError as error:
        raise InvalidArgumentError(
            "DESCRIPTION_INVALID", f"{described} is no JSON file ({error})"
        ) from error
    if not isinstance(content, dict):
        raise InvalidArgumentError("DESCRIPTION_INVALID", f"{described} is no JSON object")
    return content
