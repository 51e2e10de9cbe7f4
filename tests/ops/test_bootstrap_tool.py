"""Tests of `tools/bootstrap.py`: its decisions before a download, and its handling of responses."""

import base64
import hashlib
import http.server
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "bootstrap_tool", Path(__file__).parents[2] / "tools" / "bootstrap.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove all settings of pip and of proxies, except those that a test sets."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(tool, "_SYSTEM_SETTINGS", ())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def link(version: str, *, name: str = "pip", tags: str = "py3-none-any", attributes: str = "") -> str:
    file = f"{name}-{version}-{tags}.whl"
    return f'<a href="../../files/{file}#sha256={"0" * 64}" {attributes}>{file}</a><br/>\n'


def version_of(url: str) -> str:
    return url.rpartition("/pip-")[2].partition("-py3")[0]


# --- the newest pip of a page


def test_versions_are_compared_as_numbers() -> None:
    page = link("9.0.3") + link("26.1") + link("26.1.2") + link("26.1.1") + link("10.0")
    assert version_of(tool.newest("https://index.example/simple/pip/", page)) == "26.1.2"


def test_files_that_are_no_release_of_pip_are_skipped() -> None:
    page = (
        link("25.0")
        + link("26.0b1")
        + link("99.0", name="pip-tools")
        + link("98.0", tags="py2-none-any")
        + link("97.0", attributes='data-yanked=""')
        + '<a href="../../files/pip-96.0.tar.gz">pip-96.0.tar.gz</a>'
    )
    assert version_of(tool.newest("https://index.example/simple/pip/", page)) == "25.0"


def test_a_pip_for_a_later_python_is_skipped() -> None:
    page = link("25.0", attributes='data-requires-python="&gt;=3.8"') + link(
        "40.0", attributes='data-requires-python="&gt;=4.0"'
    )
    assert version_of(tool.newest("https://index.example/simple/pip/", page)) == "25.0"


def test_addresses_are_relative_to_the_page_and_unescaped() -> None:
    page = '<a href="/files/pip-25.0-py3-none-any.whl?a=1&amp;b=2#sha256=00">pip</a>'
    assert tool.newest("https://index.example/simple/pip/", page) == (
        "https://index.example/files/pip-25.0-py3-none-any.whl?a=1&b=2#sha256=00"
    )


def test_other_ways_to_write_a_link() -> None:
    page = "<A class='x'\n  HREF='pip-25.0-py3-none-any.whl'>pip</A>"
    assert tool.newest("https://index.example/simple/pip/", page).endswith("/pip/pip-25.0-py3-none-any.whl")


@pytest.mark.parametrize("page", ["", "<html>no links</html>", link("99.0", name="pip-tools")])
def test_a_page_without_pip(page: str) -> None:
    with pytest.raises(LookupError, match="no wheel of pip is listed there"):
        tool.newest("https://index.example/simple/pip/", page)


# --- pip's own settings


def test_no_settings() -> None:
    assert tool.pip_settings() == {}


def test_files_in_pips_order_and_variables_over_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, home, last = (
        tmp_path / "system.conf",
        tmp_path / "home/.config/pip/pip.conf",
        tmp_path / "own.conf",
    )
    home.parent.mkdir(parents=True)
    system.write_text("[global]\nindex-url = https://system.example/simple\ncert = /system.pem\n")
    home.write_text(
        "[global]\nindex-url = https://home.example/simple\n[install]\nextra-index-url = https://x\n"
    )
    monkeypatch.setattr(tool, "_SYSTEM_SETTINGS", (system,))
    found = tool.pip_settings()
    assert found["index-url"] == "https://home.example/simple"
    assert found["cert"] == "/system.pem"
    assert found["extra-index-url"] == "https://x"

    last.write_text("[global]\nindex-url = https://last.example/simple\n[install]\nno-index = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(last))
    assert tool.pip_settings()["index-url"] == "https://last.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/simple")
    assert tool.pip_settings()["index-url"] == "https://variable.example/simple"


def test_a_setting_may_hold_a_percent_sign_or_underscores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex_url = https://ada:p%40ss@index.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    assert tool.pip_settings()["index-url"] == "https://ada:p%40ss@index.example/simple"


@pytest.mark.parametrize(
    "text",
    ["nonsense", "[global\n", "\x00", "index-url = https://no.section", "[global]\nindex-url = \xe9\n"],
)
def test_a_file_that_makes_no_sense_is_left_to_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = tmp_path / "pip.conf"
    file.write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    assert tool.pip_settings() == {}


# --- fetching, from an index on this machine


class Index:
    """A package index that notes who asked for what."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization", "")))
                body = outer.files.get(self.path)
                to = outer.moved.get(self.path)
                self.send_response(302 if to else 404 if body is None else 200)
                if to:
                    self.send_header("Location", to)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"

    def offer(self, content: bytes = b"wheel", promised: str = "") -> None:
        digest = promised or hashlib.sha256(content).hexdigest()
        name = "pip-25.0-py3-none-any.whl"
        self.files["/simple/pip/"] = f'<a href="/files/{name}#sha256={digest}">{name}</a>'.encode()
        self.files[f"/files/{name}"] = content


@pytest.fixture
def indexes() -> Iterator[list[Index]]:
    with ExitStack() as running:
        made = [Index(), Index()]
        for each in made:
            running.callback(each.server.server_close)
            thread = threading.Thread(target=each.server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            running.callback(thread.join)
            running.callback(each.server.shutdown)
        yield made


@pytest.fixture
def index(indexes: list[Index]) -> Index:
    return indexes[0]


Use = Callable[[str], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    return lambda url: monkeypatch.setenv("PIP_INDEX_URL", url)


def test_pip_is_fetched_from_the_index_that_is_set(tmp_path: Path, index: Index, use: Use) -> None:
    index.offer(b"the wheel")
    use(f"http://{index.address}/simple/")
    wheel = tool.fetch_pip(tmp_path)
    assert (wheel.name, wheel.read_bytes()) == ("pip-25.0-py3-none-any.whl", b"the wheel")


def test_user_and_password_in_the_indexs_address(tmp_path: Path, index: Index, use: Use) -> None:
    index.offer()
    use(f"http://ada:p%40ss@{index.address}/simple")
    tool.fetch_pip(tmp_path)
    basic = "Basic " + base64.b64encode(b"ada:p@ss").decode()
    assert index.asked == [("/simple/pip/", basic), ("/files/pip-25.0-py3-none-any.whl", basic)]


def test_user_and_password_for_a_link_in_full(tmp_path: Path, index: Index, use: Use) -> None:
    index.offer()
    page = index.files["/simple/pip/"].replace(b"/files/", f"http://{index.address}/files/".encode())
    index.files["/simple/pip/"] = page
    use(f"http://ada:secret@{index.address}/simple")
    tool.fetch_pip(tmp_path)
    assert index.asked[1][1] == "Basic " + base64.b64encode(b"ada:secret").decode()


@pytest.mark.parametrize("how", ["link", "redirection"])
def test_user_and_password_stay_with_their_index(
    tmp_path: Path, indexes: list[Index], use: Use, how: str
) -> None:
    index, other = indexes
    other.offer()
    if how == "link":
        page = other.files["/simple/pip/"]
        index.files["/simple/pip/"] = page.replace(b"/files/", f"http://{other.address}/files/".encode())
    else:
        index.offer()
        file = "/files/pip-25.0-py3-none-any.whl"
        index.moved[file] = f"http://{other.address}{file}"
    use(f"http://ada:secret@{index.address}/simple")
    assert tool.fetch_pip(tmp_path).read_bytes() == b"wheel"
    assert other.asked == [("/files/pip-25.0-py3-none-any.whl", "")]


def test_a_wheel_that_is_not_what_was_promised(tmp_path: Path, index: Index, use: Use) -> None:
    index.offer(b"another wheel", promised="0" * 64)
    use(f"http://{index.address}/simple")
    with pytest.raises(SystemExit, match="is not the one the index promised; try again"):
        tool.fetch_pip(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_index_is_asked(
    tmp_path: Path, index: Index, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.offer()
    use(f"http://{index.address}/not-here")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://127.0.0.1:1/closed http://{index.address}/simple")
    assert tool.fetch_pip(tmp_path).exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://ada:secret@127.0.0.1:1/simple", "Connection refused"),
        ("file:///srv/simple", "its address is no http:// or https:// URL"),
        ("http://ada:secret@127.0.0.1:port/simple", "nonnumeric port"),
    ],
)
def test_when_no_index_has_it_one_line_says_why_and_what_to_do(
    tmp_path: Path, use: Use, url: str, reason: str
) -> None:
    use(url)
    with pytest.raises(SystemExit) as raised:
        tool.fetch_pip(tmp_path)
    text = str(raised.value)
    assert text.startswith("pip cannot be fetched (")
    assert reason in text
    assert text.endswith("; install the package python3-venv, then try again")
    assert "secret" not in text
    assert "\n" not in text


def test_a_page_that_is_no_text(tmp_path: Path, index: Index, use: Use) -> None:
    index.files["/simple/pip/"] = b"\xff\xfe<a>"
    use(f"http://{index.address}/simple")
    with pytest.raises(SystemExit, match="no wheel of pip is listed there"):
        tool.fetch_pip(tmp_path)


def test_a_connection_that_breaks_off(tmp_path: Path, use: Use) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:

        def hang_up() -> None:
            server.get_request()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        use(f"http://127.0.0.1:{server.server_port}/simple")
        with pytest.raises(SystemExit, match=r"pip cannot be fetched \(127\.0\.0\.1: "):
            tool.fetch_pip(tmp_path)
        thread.join()


# --- the virtual environment


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tool.sys, "version_info", (3, 10, 9))
    with pytest.raises(SystemExit, match=r"deployer needs Python 3\.11 or later; "):
        tool.main(tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Debian without python3-venv."""
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda _name: None)


@pytest.mark.usefixtures("without_pip")
def test_an_environment_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = tool.make_environment(tmp_path / "venv")
    assert python.exists()
    assert capsys.readouterr().out == f"Making {tmp_path / 'venv'} with {sys.executable}\n"
    (tmp_path / "venv" / "kept").touch()
    assert tool.make_environment(tmp_path / "venv") == python
    assert (tmp_path / "venv" / "kept").exists()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("without_pip")
def test_an_environment_whose_python_was_removed_is_created_again(tmp_path: Path) -> None:
    python = tool.make_environment(tmp_path / "venv")
    for link in python.parent.glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python3.11")
    tool.make_environment(tmp_path / "venv")
    assert subprocess.run([python, "-c", ""], check=False).returncode == 0


@pytest.mark.usefixtures("without_pip")
def test_a_directory_that_is_no_environment_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    tool.make_environment(tmp_path)
    assert (tmp_path / "precious").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    script = Path(tool.__file__)
    done = subprocess.run(
        [sys.executable, script, "file/venv"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("setting up: ")
