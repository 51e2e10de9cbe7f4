"""Git's smart HTTP protocol, for clone, fetch or push."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

from flask import Blueprint, Response, abort, request

from sandbox.github import payloads
from sandbox.github.git import git_environment
from sandbox.github.hub import Hub, Repository

_SERVICES = ("git-upload-pack", "git-receive-pack")
_IN_MEMORY = 1024 * 1024  # bytes; a longer request is stored on disk
_NO_CACHE = {
    "Cache-Control": "no-cache, max-age=0, must-revalidate",
    "Expires": "Fri, 01 Jan 1980 00:00:00 GMT",
}


def blueprint(hub: Hub) -> Blueprint:
    """The routes below `/<owner>/<repo>.git` and, as on GitHub, also below `/<owner>/<repo>`."""
    pages = Blueprint("smart_http", __name__)

    def find_repository(owner: str, name: str) -> Repository:
        full_name = f"{owner}/{name.removesuffix('.git')}"
        repository = hub.get(full_name) or hub.find_renamed(full_name)
        if repository is None:
            abort(_plain_text(404, "Repository not found."))
        return repository

    @pages.get("/<owner>/<name>/info/refs")
    def info_refs(owner: str, name: str) -> Response:
        repository = find_repository(owner, name)
        service = request.args.get("service", "")
        if service not in _SERVICES:
            return _plain_text(
                403, "Please upgrade your git client: this server supports only the smart protocol."
            )
        if service == "git-receive-pack" and repository.archived:
            return _plain_text(403, "This repository was archived so it is read-only.")
        announced = f"# service={service}\n"
        first = f"{len(announced) + 4:04x}{announced}0000".encode()
        command = _service_command(repository, service, "--http-backend-info-refs")
        refs = subprocess.run(command, capture_output=True, check=True, env=_service_environment()).stdout
        return Response(first + refs, mimetype=f"application/x-{service}-advertisement", headers=_NO_CACHE)

    @pages.post("/<owner>/<name>/git-upload-pack")
    def upload_pack(owner: str, name: str) -> Response:
        repository = find_repository(owner, name)
        body = _request_body()
        command = _service_command(repository, "git-upload-pack")
        process = subprocess.Popen(command, stdin=body, stdout=subprocess.PIPE, env=_service_environment())
        body.close()
        answer = Response(
            _stream_output(process), mimetype="application/x-git-upload-pack-result", headers=_NO_CACHE
        )
        answer.call_on_close(lambda: _end_process(process))
        return answer

    @pages.post("/<owner>/<name>/git-receive-pack")
    def receive_pack(owner: str, name: str) -> Response:
        repository = find_repository(owner, name)
        if repository.archived:
            return _plain_text(403, "This repository was archived so it is read-only.")
        login = request.authorization.username if request.authorization else None
        # The whole request is read before the repository is locked, so that a slow client blocks nobody.
        with _request_body() as body, hub.changing_refs(repository, login or payloads.LOGIN):
            command = _service_command(repository, "git-receive-pack")
            result = subprocess.run(
                command, stdin=body, capture_output=True, check=False, env=_service_environment()
            )
        return Response(result.stdout, mimetype="application/x-git-receive-pack-result", headers=_NO_CACHE)

    return pages


def _plain_text(status: int, text: str) -> Response:
    return Response(f"{text}\n", status, mimetype="text/plain")


def _service_command(repository: Repository, service: str, *options: str) -> list[str]:
    verb = service.removeprefix("git-")
    return [*repository.git.command, verb, "--stateless-rpc", *options, str(repository.git.path)]


def _service_environment() -> dict[str, str]:
    protocol = request.headers.get("Git-Protocol")
    return git_environment({"GIT_PROTOCOL": protocol} if protocol else None)


def _request_body() -> IO[bytes]:
    """The request's unpacked body, as a file that git can read."""
    source: IO[bytes] = request.stream
    if request.headers.get("Content-Encoding", "").lower() in {"gzip", "x-gzip"}:
        source = cast(IO[bytes], gzip.GzipFile(fileobj=io.BufferedReader(cast(io.RawIOBase, request.stream))))
    target = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        shutil.copyfileobj(source, target, _IN_MEMORY)
    except BaseException as error:
        target.close()
        if isinstance(error, OSError | EOFError | zlib.error):
            abort(_plain_text(400, "The request's body cannot be unpacked."))
        raise
    target.seek(0)
    return target


def _stream_output(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    output = cast(IO[bytes], process.stdout)
    while chunk := output.read(64 * 1024):
        yield chunk


def _end_process(process: subprocess.Popen[bytes]) -> None:
    # If the client disconnected, git writes into a pipe that nobody reads; closing the pipe ends git.
    cast(IO[bytes], process.stdout).close()
    process.wait()
