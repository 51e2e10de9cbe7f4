"""Parts of every REST call: errors in GitHub's format, pages, the raw path."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote, urlencode

from flask import Response, abort, jsonify, request

T = TypeVar("T")
_DOCS = "https://docs.github.com/rest"


def error_answer(status: int, message: str, **more: Any) -> Response:
    """An error in GitHub's format."""
    answer = jsonify({"message": message, **more, "documentation_url": _DOCS, "status": str(status)})
    answer.status_code = status
    return answer


def refuse(status: int, message: str, **more: Any) -> NoReturn:
    """End the request with an error."""
    abort(error_answer(status, message, **more))


def not_found() -> NoReturn:
    """End the request with GitHub's 404."""
    refuse(404, "Not Found")


def refuse_field(resource: str, field: str, message: str, code: str = "custom") -> NoReturn:
    """End the request with GitHub's 422 for an invalid field."""
    refuse(
        422,
        "Validation Failed",
        errors=[{"resource": resource, "code": code, "field": field, "message": message}],
    )


def json_body() -> dict[str, Any]:
    """The request's JSON object; ends the request with 400 if the body is not a JSON object."""
    if not request.get_data():
        return {}
    data = request.get_json(force=True, silent=True)
    if data is None:
        refuse(400, "Problems parsing JSON")
    if not isinstance(data, dict):
        refuse(400, "Body should be a JSON object")
    return data


def required_string(data: dict[str, Any], name: str) -> str:
    """A string field of the body; ends the request with 422 if it is missing."""
    value = data.get(name)
    if not isinstance(value, str) or not value:
        refuse(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
    return value


def raw_path() -> str:
    """The request's path in percent-encoding, in which a slash inside a name differs from a separator."""
    return str(request.environ.get("REQUEST_URI") or request.path).partition("?")[0]


def raw_rest(marker: str) -> str:
    """The part of the raw path after `marker`."""
    return raw_path().partition(marker)[2]


def decode_name(name: str) -> str:
    """A part of a path without its percent-encoding."""
    return unquote(name, errors="replace")


def page_answer(
    items: Sequence[T], shape: Callable[[T], Any], wrap: Callable[[list[Any]], Any] | None = None
) -> Response:
    """One page of items with GitHub's Link header, as the query's `per_page` and `page` ask."""
    per_page = min(max(_query_number("per_page", 30), 1), 100)
    page = max(_query_number("page", 1), 1)
    last = max(-(-len(items) // per_page), 1)
    shown = [shape(item) for item in items[(page - 1) * per_page : page * per_page]]
    answer = jsonify(wrap(shown) if wrap else shown)
    targets = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
    wanted = (["prev"] if page > 1 else []) + (["next", "last"] if page < last else [])
    wanted += ["first"] if page > 1 else []
    if wanted:
        links = (f'<{_page_url(targets[rel], per_page)}>; rel="{rel}"' for rel in wanted)
        answer.headers["Link"] = ", ".join(links)
    return answer


def _query_number(name: str, default: int) -> int:
    value = request.args.get(name, "")
    return int(value) if re.fullmatch(r"\d{1,9}", value) else default


def _page_url(page: int, per_page: int) -> str:
    args = {**request.args.to_dict(), "page": str(page), "per_page": str(per_page)}
    return f"{request.host_url.rstrip('/')}{raw_path()}?{urlencode(args)}"
