"""Write `docs/api.md` from the .proto files: every service, method, message, field and bound.

`python protos/generate.py` calls this, so the reference is checked for drift like generated code.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from finsecure.validate import validate_pb2
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).resolve().parent

_HEAD = """# API reference

Generated from [`protos/finsecure`](../protos/finsecure) by `python protos/generate.py`: do not edit.

Every call needs a deadline. Errors are `google.rpc.Status` with an `ErrorInfo` whose reason is
stable. Who may call what is in each service's `policy.py`; a method that is listed nowhere is
denied. Bounds are [protovalidate](https://protovalidate.com) rules and are checked before any
handler runs.
"""  # noqa: E501

# Field numbers of the descriptors, which paths to comments are made of (descriptor.proto).
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS, _VALUES, _METHODS = 2, 3, 4, 2, 2

_SCALARS = {
    number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}


def render() -> str:
    """The whole reference, in Markdown."""
    parts = [_HEAD]
    for file in _descriptors().file:
        if file.package.startswith("finsecure."):
            parts += _file(file)
    return "\n".join(parts) + "\n"


def _descriptors() -> FileDescriptorSet:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "contract.binpb"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"-I{ROOT}",
                "--include_source_info",
                f"--descriptor_set_out={target}",
                *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("finsecure/**/*.proto")),
            ],
            check=True,
            cwd=ROOT,
        )
        return FileDescriptorSet.FromString(target.read_bytes())


class _Comments:
    """Leading comments by the path of what they stand before."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._text = {
            tuple(place.path): " ".join(place.leading_comments.split())
            for place in file.source_code_info.location
        }

    def at(self, *path: int) -> str:
        """The comment before what has a path; empty if there is none."""
        return self._text.get(path, "")


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = _Comments(file)
    yield f"\n## {file.name.removesuffix('.proto')}\n\nPackage `{file.package}`."
    for number, service in enumerate(file.service):
        yield from _service(service, comments, (_SERVICES, number))
    for number, message in enumerate(file.message_type):
        yield from _message(message, message.name, comments, (_MESSAGES, number))
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, enum.name, comments, (_ENUMS, number))


def _service(
    service: ServiceDescriptorProto, comments: _Comments, path: Sequence[int]
) -> Iterator[str]:
    yield f"\n### {service.name}\n\n{comments.at(*path)}\n"
    yield "| method | request | response | |\n|---|---|---|---|"
    for number, method in enumerate(service.method):
        request, response = _short(method.input_type), _short(method.output_type)
        yield "| `{}` | {}`{}` | {}`{}` | {} |".format(
            method.name,
            "stream of " if method.client_streaming else "",
            request,
            "stream of " if method.server_streaming else "",
            response,
            _cell(comments.at(*path, _METHODS, number)),
        )


def _message(
    message: DescriptorProto, name: str, comments: _Comments, path: Sequence[int]
) -> Iterator[str]:
    if message.options.map_entry:
        return
    yield f"\n#### {name}\n\n{comments.at(*path)}"
    if message.field:
        yield "\n| field | type | bounds | |\n|---|---|---|---|"
    for number, field in enumerate(message.field):
        oneof = ""
        if field.HasField("oneof_index") and not field.proto3_optional:
            oneof = f" (one of `{message.oneof_decl[field.oneof_index].name}`)"
        text = _cell(comments.at(*path, _FIELDS, number))
        kind = f"{_type(field)}{oneof}"
        yield f"| `{field.name}` = {field.number} | {kind} | {_bounds(field)} | {text} |"
    for number, nested in enumerate(message.nested_type):
        yield from _message(nested, f"{name}.{nested.name}", comments, (*path, _NESTED, number))
    for number, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{name}.{enum.name}", comments, (*path, _NESTED_ENUMS, number))


def _enum(
    enum: EnumDescriptorProto, name: str, comments: _Comments, path: Sequence[int]
) -> Iterator[str]:
    yield f"\n#### {name}\n\n{comments.at(*path)}\n"
    yield "| value | |\n|---|---|"
    for number, value in enumerate(enum.value):
        yield f"| `{value.name}` = {value.number} | {_cell(comments.at(*path, _VALUES, number))} |"


def _type(field: FieldDescriptorProto) -> str:
    named = field.type in (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM)
    kind = f"`{_short(field.type_name) if named else _SCALARS[field.type]}`"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _bounds(field: FieldDescriptorProto) -> str:
    if not field.options.HasExtension(validate_pb2.field):
        return ""
    rules = field.options.Extensions[validate_pb2.field]
    return f"`{_cell(text_format.MessageToString(rules, as_one_line=True))}`"


def _short(name: str) -> str:
    """A type's name without the package that all of ours have, or with it for those of others."""
    return name.lstrip(".").rpartition(".")[2] if ".finsecure." in name else name.lstrip(".")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
