"""Python stubs of our protos, generated with protoc where they are needed.

SPDX-License-Identifier: Apache-2.0
"""
import importlib
import shutil
import subprocess
import sys


def generate(source, folder):
    """Of the sources' proto folder into `folder`; messages and stubs of the completion service, and of the admin service."""
    subprocess.run(["protoc", f"--proto_path={source / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}",
                    f"--plugin=protoc-gen-grpc_python={shutil.which('grpc_python_plugin')}",
                    *(f"thermocline/v1/{name}.proto" for name in ["admin", "completion", "plan"])], check=True)
    sys.path.insert(0, folder)
    names = ["completion_pb2", "completion_pb2_grpc", "admin_pb2", "admin_pb2_grpc"]
    return [importlib.import_module(f"thermocline.v1.{name}") for name in names]
