"""Generate `protos/python` and `docs/api.md`; with `--check`, only say whether they are stale.

The rule vocabulary would land in a top-level package `buf`, which belongs to others, so it is
moved to `finsecure.validate` and the imports follow.
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TARGET = ROOT / "python"
REFERENCE = ROOT.parent / "docs" / "api.md"


def generate(target: Path) -> None:
    """Write the generated tree below `target`, which must be an empty folder."""
    scripts = Path(sys.executable).parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{ROOT}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("**/*.proto")),
        ],
        check=True,
        cwd=ROOT,
    )
    shutil.move(target / "buf" / "validate", target / "finsecure" / "validate")
    shutil.rmtree(target / "buf")
    for path in sorted(target.rglob("*.py*")):
        text = path.read_text()
        if "_pb2_grpc" in path.name and "Stub" not in text:
            path.unlink()  # protoc writes an empty module where a file has no service
            continue
        path.write_text(
            text.replace("from buf.validate import", "from finsecure.validate import").replace(
                "buf.validate.validate_pb2", "finsecure.validate.validate_pb2"
            )
        )
    packages = {path.parent for path in target.rglob("*_pb2.py")}
    for package in packages | {path.parent for path in packages}:
        (package / "__init__.py").touch()
    (target / "finsecure" / "__init__.py").touch()
    (target / "finsecure" / "py.typed").touch()


def tree(folder: Path) -> dict[str, Path]:
    """Map each generated file below `folder` from its relative path."""
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def main() -> None:
    """Regenerate, or compare with what is committed."""
    import reference  # stands on what is generated here

    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        generate(fresh)
        if "--check" not in sys.argv[1:]:
            shutil.rmtree(TARGET, ignore_errors=True)
            shutil.copytree(fresh, TARGET)
            REFERENCE.write_text(reference.render())
            return
        new, old = tree(fresh), tree(TARGET)
        stale = sorted(new.keys() ^ old.keys()) + sorted(
            name
            for name in new.keys() & old.keys()
            if not filecmp.cmp(new[name], old[name], shallow=False)
        )
        if not REFERENCE.exists() or REFERENCE.read_text() != reference.render():
            stale.append("docs/api.md")
        if stale:
            sys.exit("generated code is stale, run `make protos`: " + ", ".join(stale))


if __name__ == "__main__":
    main()
