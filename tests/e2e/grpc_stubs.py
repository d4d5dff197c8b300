"""Python stubs of our protos, generated with protoc where they are needed.

SPDX-License-Identifier: Apache-2.0
"""
import importlib
import shutil
import subprocess
import sys


def generate(source, folder):
    """Of the sources' proto folder into `folder`; the modules of completion.proto: messages, and stubs."""
    subprocess.run(["protoc", f"--proto_path={source / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}",
                    f"--plugin=protoc-gen-grpc_python={shutil.which('grpc_python_plugin')}",
                    *(f"thermocline/v1/{name}.proto" for name in ["admin", "completion", "plan"])], check=True)
    sys.path.insert(0, folder)
    return [importlib.import_module(f"thermocline.v1.completion_{kind}") for kind in ["pb2", "pb2_grpc"]]
