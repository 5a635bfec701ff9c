"""Compiles the protocol, which is beside this folder in the repository, into the package."""

import re
from importlib import resources
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
FILES = ["fleetune/v1/common.proto", "fleetune/v1/study.proto"]


class BuildWithStubs(build_py):
    """`build_py` with the generated modules in `fleetune/_proto`."""

    def run(self):
        super().run()
        protos = HERE.parent / "proto" / "proto"
        if not protos.is_dir():
            raise FileNotFoundError(f"{protos}: the .proto files are missing; build from the repository")
        target = Path(self.build_lib, "fleetune", "_proto")
        target.mkdir(parents=True, exist_ok=True)
        compile_protos(protos, target)


def compile_protos(protos, target):
    """Compiles FILES under `protos` into modules of the package `fleetune._proto` in `target`."""
    from grpc_tools import protoc

    known = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{protos}", f"-I{known}", f"--python_out={target}", f"--pyi_out={target}"]
    if protoc.main([*arguments, f"--grpc_python_out={target}", *FILES]) != 0:
        raise RuntimeError("the .proto files cannot be compiled")
    # protoc knows no packages within packages.
    for module in [*target.rglob("*.py"), *target.rglob("*.pyi")]:
        text = module.read_text()
        module.write_text(re.sub(r"^from fleetune\.v1 import", "from fleetune._proto.fleetune.v1 import", text, flags=re.M))
    for folder in [target, target / "fleetune", target / "fleetune" / "v1"]:
        (folder / "__init__.py").touch()


setup(cmdclass={"build_py": BuildWithStubs})
