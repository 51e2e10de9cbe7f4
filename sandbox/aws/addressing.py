"""The address of a request: service, operation, protocol, caller, account, region."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote

from sandbox.aws import identity, protocol
from sandbox.aws.places import REGION, Place
from sandbox.aws.protocol import CBOR, JSON, QUERY, AwsError

OWN = ("cloudformation", "codepipeline")
_MODELLED = (*OWN, "sts")
_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]*)/([^/]+)/")
_RPC = re.compile(r"/service/[^/]+/operation/(\w+)")

_S3_SPECIAL = {
    "list-type": {"GET": "ListObjectsV2"},
    "versions": {"GET": "ListObjectVersions"},
    "versioning": {"GET": "GetBucketVersioning", "PUT": "PutBucketVersioning"},
    "delete": {"POST": "DeleteObjects"},
    "uploads": {"GET": "ListMultipartUploads", "POST": "CreateMultipartUpload"},
    "uploadId": {
        "PUT": "UploadPart",
        "POST": "CompleteMultipartUpload",
        "DELETE": "AbortMultipartUpload",
        "GET": "ListParts",
    },
}

Environ = dict[str, Any]


def is_signed(environ: Environ) -> bool:
    """Whether a request is signed with credentials."""
    query = environ.get("QUERY_STRING", "")
    return bool(environ.get("HTTP_AUTHORIZATION")) or "X-Amz-Signature" in query or "Signature=" in query


def read_body(environ: Environ) -> bytes:
    """A request's body."""
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        return bytes(stream.read())
    return bytes(stream.read(int(environ.get("CONTENT_LENGTH") or 0)))


def place_of_request(environ: Environ) -> Place:
    """The account of the request's access key, with the region of its credential scope."""
    found = _credential_scope(environ)
    if found is None:
        return Place()
    return Place(identity.account_of_key(found.group(1)), found.group(2) or REGION)


def caller_of_request(environ: Environ) -> str:
    """The ARN of the role's session or of the user whose access key a request has."""
    found = _credential_scope(environ)
    return identity.caller_arn(found.group(1) if found else "")


def _credential_scope(environ: Environ) -> re.Match[str] | None:
    signature = environ.get("HTTP_AUTHORIZATION", "")
    if not signature:
        given = parse_qs(environ.get("QUERY_STRING", "")).get("X-Amz-Credential", [""])[0]
        signature = f"Credential={given}"
    return _SCOPE.search(unquote(signature))


def called_operation(environ: Environ, body: bytes) -> tuple[str, str, str]:
    """The service, the operation and the protocol of a request."""
    found = _credential_scope(environ)
    service = found.group(3) if found else "s3"
    if rpc := _RPC.fullmatch(environ["PATH_INFO"]):
        return service, rpc.group(1), CBOR
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return service, target.rpartition(".")[2], JSON
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded") and service != "s3":
        action = parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
        return service, action, QUERY
    if service == "s3":
        return service, _s3_operation(environ), QUERY
    return service, f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", QUERY


def _s3_operation(environ: Environ) -> str:
    """The S3 operation, derived from method, path and query, because an S3 request does not name it.

    An operation that is not in the table is named by its HTTP method.
    """
    method, query = (
        environ["REQUEST_METHOD"],
        parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True),
    )
    bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
    if not bucket:
        return "ListBuckets"
    for parameter, operation in _S3_SPECIAL.items():
        if parameter in query:
            return operation.get(method, f"{method}?{parameter}")
    verb = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete"}.get(method, method)
    if key:
        return f"{verb}Object"
    return {"GET": "ListObjects", "PUT": "CreateBucket"}.get(method, f"{verb}Bucket")


def parse_parameters(
    service: str, operation: str, form: str, body: bytes
) -> tuple[dict[str, Any], AwsError | None]:
    """The parameters of a call, or the error with which it is refused.

    For a service that moto answers, only parameters in a JSON body are read.
    """
    if service in _MODELLED:
        try:
            return protocol.parse_request(service, operation, form, body), None
        except AwsError as error:
            return {}, error
    if form == JSON:
        try:
            given = json.loads(body or b"{}")
        except ValueError:
            return {}, None
        return given if isinstance(given, dict) else {}, None
    return {}, None
