"""Extracts the part of GitHub's OpenAPI description with which tests check requests and answers.

Usage: npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
       python -m tools.github_openapi package/generated/api.github.com.json > github.json
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REPO = "/repos/{owner}/{repo}"
_USED = {
    "/app": ["get"],
    "/app/hook/config": ["get"],
    "/app/hook/deliveries": ["get"],
    "/app/hook/deliveries/{delivery_id}": ["get"],
    "/app/hook/deliveries/{delivery_id}/attempts": ["post"],
    "/app/installations/{installation_id}/access_tokens": ["post"],
    "/orgs/{org}/hooks": ["get"],
    "/orgs/{org}/hooks/{hook_id}": ["patch"],
    "/user": ["get"],
    _REPO: ["get"],
    f"{_REPO}/branches": ["get"],
    f"{_REPO}/branches/{{branch}}": ["get"],
    f"{_REPO}/comments/{{comment_id}}": ["patch"],
    f"{_REPO}/commits/{{commit_sha}}/comments": ["get", "post"],
    f"{_REPO}/commits/{{ref}}": ["get"],
    f"{_REPO}/compare/{{basehead}}": ["get"],
    f"{_REPO}/contents/{{path}}": ["get"],
    f"{_REPO}/git/blobs/{{file_sha}}": ["get"],
    f"{_REPO}/git/commits/{{commit_sha}}": ["get"],
    f"{_REPO}/git/ref/{{ref}}": ["get"],
    f"{_REPO}/git/tags/{{tag_sha}}": ["get"],
    f"{_REPO}/hooks": ["get", "post"],
    f"{_REPO}/hooks/{{hook_id}}": ["patch"],
    f"{_REPO}/hooks/{{hook_id}}/deliveries": ["get"],
    f"{_REPO}/hooks/{{hook_id}}/deliveries/{{delivery_id}}": ["get"],
    f"{_REPO}/hooks/{{hook_id}}/deliveries/{{delivery_id}}/attempts": ["post"],
    f"{_REPO}/installation": ["get"],
    f"{_REPO}/issues/comments/{{comment_id}}": ["delete", "patch"],
    f"{_REPO}/issues/{{issue_number}}/comments": ["get", "post"],
    f"{_REPO}/pulls": ["get"],
    f"{_REPO}/rules/branches/{{branch}}": ["get"],
    f"{_REPO}/rulesets": ["get"],
    f"{_REPO}/statuses/{{sha}}": ["post"],
}
_TEXTS = {"description", "title", "tags", "summary", "deprecated"}  # names of properties, too
_LEFT_OUT = {"example", "examples", "externalDocs", "x-github", "x-github-breaking-changes", "operationId"}


def main() -> int:
    """Print the extract of the description that the first argument names."""
    whole = json.loads(Path(sys.argv[1]).read_bytes())
    paths = {
        path: {verb: _operation(whole["paths"][path][verb]) for verb in verbs}
        for path, verbs in _USED.items()
    }
    components: dict[str, dict[str, Any]] = {}
    waiting, seen = list(_references(paths)), set[str]()
    while waiting:
        reference = waiting.pop()
        if reference in seen:
            continue
        seen.add(reference)
        _, _, kind, name = reference.split("/")
        found = _without_texts(whole["components"][kind][name])
        components.setdefault(kind, {})[name] = found
        waiting += _references(found)
    kinds = {kind: _lines(named) for kind, named in components.items()}
    inner = ",\n".join(f"{json.dumps(kind)}:{{\n{text}\n}}" for kind, text in sorted(kinds.items()))
    sys.stdout.write(f'{{"paths":{{\n{_lines(paths)}\n}},"components":{{\n{inner}\n}}}}\n')
    return 0


def _operation(described: Any) -> Any:
    """A path's method with its answers of success; all errors have one form."""
    kept = {name: described[name] for name in ("parameters", "requestBody") if name in described}
    answers = {
        code: answer if "$ref" in answer else {"content": answer.get("content")}
        for code, answer in described["responses"].items()
        if code.startswith("2")
    }
    return _without_texts({**kept, "responses": answers})


def _without_texts(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_texts(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        name: _without_texts(each)
        for name, each in part.items()
        if name not in _LEFT_OUT and (name not in _TEXTS or isinstance(each, dict))
    }


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for each in part.values():
            yield from _references(each)
    elif isinstance(part, list):
        for each in part:
            yield from _references(each)


def _lines(named: dict[str, Any]) -> str:
    """One line for each name, so that a newer extract can be compared."""
    pairs = (
        f"{json.dumps(name)}:{json.dumps(each, separators=(',', ':'), sort_keys=True)}"
        for name, each in sorted(named.items())
    )
    return ",\n".join(pairs)


if __name__ == "__main__":
    raise SystemExit(main())
