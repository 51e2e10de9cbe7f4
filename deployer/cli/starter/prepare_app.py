"""Prepares the template of the application for the pipeline: python3 deploy/prepare_app.py TEMPLATE or CDK_FOLDER.

It reads a template in JSON, or the folder that `cdk synth` wrote, and writes two files:

- app.json: the template. Every role in it gets the path and the permissions boundary that a role needs in this
  installation of deployer. The files of a CDK application are uploaded to the artifact bucket, so the account needs no
  bucket of `cdk bootstrap`.
- stack.json: deployer's tags for the stack, by which deployer finds the stack and deletes it with the branch.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WITH_BOUNDARY = {"AWS::IAM::Role", "AWS::IAM::User"}
_WITH_PATH = {"AWS::IAM::InstanceProfile", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"}
# SAM creates a role for each of these that names none.
_WITH_OWN_ROLE = {"AWS::Serverless::Function": "Function", "AWS::Serverless::StateMachine": "StateMachine"}


def bound_roles(template: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Give every role the path /deployer/STAGE/ and the permissions boundary."""
    path, boundary = f"/deployer/{environment['STAGE']}/", environment.get("PERMISSIONS_BOUNDARY")
    common = template.get("Globals") or {}
    for resource in template["Resources"].values():
        kind = resource["Type"]
        wanted = {}
        if kind in _WITH_OWN_ROLE:
            shared = common.get(_WITH_OWN_ROLE[kind]) or {}
            if "Role" not in {**shared, **(resource.get("Properties") or {})}:
                wanted = {"RolePath": path, "PermissionsBoundary": boundary}
        else:
            wanted = {"Path": path} if kind in _WITH_PATH else {}
            wanted |= {"PermissionsBoundary": boundary} if kind in _WITH_BOUNDARY else {}
        if wanted:
            properties = resource.setdefault("Properties", {})
            properties.update({key: value for key, value in wanted.items() if value})


def read_cdk_template(folder: Path, bucket: str) -> dict[str, Any]:
    """Read the only template that `cdk synth` wrote, after uploading the files that it names.

    Raises:
        ValueError: there are several stacks, or there is a container image.
    """
    found = sorted(path for path in folder.glob("*.template.json") if ".nested." not in path.name)
    if len(found) != 1:
        names = ", ".join(path.name.removesuffix(".template.json") for path in found) or "none"
        raise ValueError(f"this pipeline deploys one stack, but the CDK application has {names}")
    text = found[0].read_text(encoding="utf-8")
    manifest = folder / found[0].name.replace(".template.json", ".assets.json")
    assets = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    if assets.get("dockerImages"):
        raise ValueError(
            "the CDK application has a container image; push it to an ECR repository in buildspec.yml"
        )
    for asset in (assets.get("files") or {}).values():
        for destination in asset["destinations"].values():
            text = text.replace(json.dumps(destination["bucketName"])[1:-1], bucket)
            if asset["source"].get("path") != found[0].name:
                upload_asset(folder, asset["source"], bucket, destination["objectKey"])
    return without_bootstrap_check(json.loads(text))


def without_bootstrap_check(template: dict[str, Any]) -> dict[str, Any]:
    """Return the template without the parameter and the rule that check for the bucket of `cdk bootstrap`."""
    for section, name in (("Parameters", "BootstrapVersion"), ("Rules", "CheckBootstrapVersion")):
        entries = template.get(section) or {}
        entries.pop(name, None)
        if not entries:
            template.pop(section, None)
    return template


def upload_asset(folder: Path, source: Mapping[str, str], bucket: str, key: str) -> None:
    """Upload a file of a CDK application to the bucket; a folder as a zip archive."""
    path = folder / source["path"]
    if source.get("packaging") == "zip" and path.is_dir():
        path = Path(shutil.make_archive(str(path), "zip", path))
    subprocess.run(["aws", "s3", "cp", "--only-show-errors", str(path), f"s3://{bucket}/{key}"], check=True)


def main() -> int:
    """Write app.json and stack.json; return the exit status, which is 1 with a line on stderr after an error."""
    source = Path(sys.argv[1])
    try:
        if source.is_dir():
            template = read_cdk_template(source, os.environ["ARTIFACT_STORE"])
        else:
            template = json.loads(source.read_text(encoding="utf-8"))
        bound_roles(template, os.environ)
    except ValueError as error:
        sys.stderr.write(f"prepare_app.py: {error}\n")
        return 1
    Path("app.json").write_text(json.dumps(template, indent=1), encoding="utf-8")
    Path("stack.json").write_text(os.environ["STACK_CONFIGURATION"], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
