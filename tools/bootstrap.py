"""Creates a virtual environment from a lock file, without any package beside Python 3.11 or later.

On Debian, without the package python3-venv, Python has `venv` but no `ensurepip` that installs pip. In that case the
script downloads pip's wheel from the package index in pip's own settings. The wheel installs itself, because a wheel is
a zip file that Python can run.
"""

import base64
import configparser
import contextlib
import hashlib
import html
import http.client
import importlib.util
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

_PYPI = "https://pypi.org/simple"
_LINK = re.compile(
    r"""<a\b[^>]*\bhref=["'](?P<url>[^"']*\bpip-(?P<version>\d+(?:\.\d+)*)-py3-none-any\.whl[^"']*)["'][^>]*>""",
    re.IGNORECASE,
)
_NEEDS_PYTHON = re.compile(r"data-requires-python=[^>]*&gt;=\s*(\d+)\.(\d+)", re.IGNORECASE)
_SYSTEM_SETTINGS = (Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"))


def main(directory: Path, lock: str = "requirements.lock") -> None:
    """Create the environment, or update it.

    Args:
        directory: the directory of the environment.
        lock: the lock file of its packages. deployer itself is installed too, except with the lock file of the audit.
    """
    if sys.version_info < (3, 11):
        raise SystemExit(f"deployer needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}")
    python = make_environment(directory)
    if subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode:
        with tempfile.TemporaryDirectory() as folder:
            wheel = fetch_pip(Path(folder))
            subprocess.run([python, f"{wheel}/pip", "install", "--quiet", wheel], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    print(f"Installing what {lock} names", flush=True)
    # constraints on versions would contradict the lock file
    env = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    subprocess.run([*pip, "--require-hashes", "-r", lock], check=True, env=env)
    if lock != "requirements-audit.lock":
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", "."], check=True, env=env)


def make_environment(directory: Path) -> Path:
    """Create the environment unless it exists; return its Python."""
    python = directory / "bin" / "python"
    if not python.exists():
        print(f"Making {directory} with {sys.executable}", flush=True)
        venv.create(
            directory,
            clear=(
                directory / "pyvenv.cfg"
            ).exists(),  # an environment whose Python was removed from the machine
            symlinks=True,
            with_pip=importlib.util.find_spec("ensurepip") is not None,
        )
    return python


def fetch_pip(folder: Path) -> Path:
    """Download the newest pip from the first index that has it; check the hash that the index lists."""
    settings = pip_settings()
    context = ssl.create_default_context(cafile=settings.get("cert") or None)
    failures = []
    for index in [settings.get("index-url", _PYPI), *settings.get("extra-index-url", "").split()]:
        page = index.rstrip("/") + "/pip/"
        try:
            url = newest(page, _read(page, context).decode(errors="replace"))
            content = _read(url.partition("#")[0], context)
        except (OSError, http.client.HTTPException, LookupError) as error:
            failures.append(f"{urlsplit(page).hostname}: {error}")
            continue
        wanted = re.search(r"#sha256=([0-9a-f]{64})", url)
        if wanted and hashlib.sha256(content).hexdigest() != wanted[1]:
            raise SystemExit("the pip that was downloaded is not the one the index promised; try again")
        wheel = folder / unquote(urlsplit(url).path).rpartition("/")[2]
        wheel.write_bytes(content)
        return wheel
    raise SystemExit(
        f"pip cannot be fetched ({'; '.join(failures)}); install the package python3-venv, then try again"
    )


def pip_settings() -> dict[str, str]:
    """pip's settings for package indexes, from its files and then from its environment variables."""
    found: dict[str, str] = {}
    home = Path("~").expanduser()
    files = [*_SYSTEM_SETTINGS, home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf"]
    if os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(os.environ["PIP_CONFIG_FILE"]))
    for file in files:
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(file, encoding="utf-8")
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({name.replace("_", "-"): value for name, value in parser.items(section)})
    for name in ("index-url", "extra-index-url", "cert"):
        if value := os.environ.get("PIP_" + name.upper().replace("-", "_")):
            found[name] = value
    return found


def newest(page: str, text: str) -> str:
    """The URL of the newest wheel of pip on the page of an index.

    Raises:
        LookupError: the page lists no wheel of pip for this Python.
    """
    links = [link for link in _LINK.finditer(text) if "data-yanked" not in link[0] and _runs_here(link[0])]
    if not links:
        raise LookupError("no wheel of pip is listed there")
    best = max(links, key=lambda link: tuple(map(int, link["version"].split("."))))
    url = urlsplit(urljoin(page, html.unescape(best["url"])))
    user, at, host = urlsplit(page).netloc.rpartition("@")
    # an absolute link to the index's own host needs the same user
    return urlunsplit(url._replace(netloc=f"{user}{at}{host}") if url.netloc == host else url)


def _runs_here(link: str) -> bool:
    needs = _NEEDS_PYTHON.search(link)
    return needs is None or sys.version_info >= (int(needs[1]), int(needs[2]))


def _read(url: str, context: ssl.SSLContext) -> bytes:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise LookupError("its address is no http:// or https:// URL")
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))
    if user:  # pip accepts `https://user:password@host/` too
        basic = "Basic " + base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header(
            "Authorization", basic
        )  # unredirected, because another host must not get it
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return bytes(answer.read())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else ".venv"), *sys.argv[2:3])
    except subprocess.CalledProcessError:
        raise SystemExit("setting up ended early; the lines above say why") from None
    except OSError as error:
        raise SystemExit(f"setting up: {error}") from None
