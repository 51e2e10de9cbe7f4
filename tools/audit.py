"""Reports known vulnerabilities of the packages in the lock files.

Exit status: 0 no known vulnerability, 1 at least one, 3 the database did not answer. pip-audit itself ends with 1 in
both of the last cases, but prints its JSON only if it has finished, which distinguishes them.

The audit uses pip-audit with the OSV database. It installs and builds nothing, because the lock files have the version
and the hash of every package. OSV_URL names another database with the same protocol
(https://google.github.io/osv.dev/post-v1-query/), such as a mirror.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OSV = "https://api.osv.dev/v1/query"
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 3
LOCKS = ("requirements.lock", "requirements-audit.lock")
IMAGE = "requirements-run.lock"  # the packages of the image, a part of the first lock file


def main(command: Sequence[str], folder: Path) -> int:
    """Audit every lock file and print the vulnerabilities; return the exit status.

    Args:
        command: the command of pip-audit.
        folder: the folder of the lock files.
    """
    url = os.environ.get("OSV_URL") or OSV
    in_image = {line.partition("==")[0] for line in (folder / IMAGE).read_text().splitlines() if "==" in line}
    vulnerable = count = 0
    for lock in LOCKS:
        options = ["--disable-pip", "--progress-spinner=off", "--format=json", "--vulnerability-service=osv"]
        done = subprocess.run(
            [*command, f"--requirement={folder / lock}", *options, f"--osv-url={url}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        try:
            packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            print(
                f"audit: nothing is known of {lock}, since the vulnerability database {url} could not be asked;"
                f" try again where it can be reached, or set OSV_URL to a mirror ({said.partition(': ')[0][:100]})",
                file=sys.stderr,
            )
            return UNKNOWN
        count += len(packages)
        for package in packages:
            for each in package.get("vulns", []):
                vulnerable += 1
                names = " ".join([each["id"], *each.get("aliases", [])])
                fixed = ", ".join(each.get("fix_versions", [])) or "no release yet"
                where = "in the image" if package["name"] in in_image else "not in the image"
                print(f"{package['name']} {package['version']} ({where}): {names}; fixed in {fixed}")
    if vulnerable:
        print(f"audit: {vulnerable} known vulnerabilities; make lock takes newer versions", file=sys.stderr)
        return VULNERABLE
    print(f"audit: none of {count} packages has a known vulnerability")
    return CLEAN


if __name__ == "__main__":
    sys.exit(main([str(Path(sys.executable).with_name("pip-audit"))], Path()))
