"""gcp-storage-emulator as a program of its own, with what Google's service does and it does not.

The emulator has the routes, keeps the objects and computes their checksums. Added here, since what we promise rests on
it: preconditions and generations, pages of lists, resumable uploads with their protocol (what has arrived, checksums,
lengths, cancelling), rewrites that change a class and take several requests, at most 32 objects in a composition,
keys by name, tokens, and signed URLs that are verified. Nothing here encrypts, and no rule of a bucket does anything.

    python -m tests.object_servers.gcs_emulator PORT SERVICE_ACCOUNT_FILE
"""

import json
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial, wraps
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import Conflict
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

from tests.object_servers.gcs_signatures import Account, Refused

QUANTUM_BYTES = 256 * 1024
#: A rewrite of more than this takes two requests.
REWRITTEN_BYTES = 1024**2
KIND_OF_REWRITE = "storage#rewriteResponse"
LOCK = threading.RLock()
read_raw, read_data = emulator._read_raw_data, emulator._read_data


class Forgetful(Storage):
    """Writes no file after each change, and keeps nothing that was deleted."""

    def _write_config_to_file(self) -> None:
        pass

    def _bucket_soft_delete_retention_seconds(self, bucket_name: str) -> int:
        return 0


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(emulator.RequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, account: Account, storage: Storage, *args: Any) -> None:
        self.account = account
        super().__init__(storage, *args)

    def handle_one(self, method: str) -> None:
        # All of it at once: unread bytes would be taken for the connection's next request.
        self.body = read_raw(self)
        try:
            self.account.check(method, self.path, self.headers)
            emulator.Router(self).handle(method)
        except Refused as refusal:
            self.answer(refusal.status, {"error": {"code": refusal.status, "message": str(refusal)}})

    def do_GET(self) -> None:
        self.handle_one("GET")

    def do_POST(self) -> None:
        self.handle_one("POST")

    def do_PUT(self) -> None:
        self.handle_one("PUT")

    def do_PATCH(self) -> None:
        self.handle_one("PATCH")

    def do_DELETE(self) -> None:
        self.handle_one("DELETE")

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Call:
    """One request for objects of a bucket, and the emulator's answer to it."""

    def __init__(self, request: Any, response: Any, storage: Storage) -> None:
        self.request, self.response, self.storage = request, response, storage
        self.query = {name: values[0] for name, values in request.query.items()}
        self.bucket = request.params["bucket_name"]
        if self.bucket not in storage.buckets:
            raise Refused(404, "The specified bucket does not exist.")

    def live(self, name: str) -> dict[str, Any] | None:
        resource: dict[str, Any] | None = self.storage.objects.get(self.bucket, {}).get(name)
        return resource

    def check_version(self, name: str, wanted: str | None) -> dict[str, Any]:
        resource = self.live(name)
        if resource is None or wanted not in (None, int(resource["generation"]), resource["generation"]):
            raise Refused(404, f"No such object: {self.bucket}/{name}")
        return resource

    def check_conditions(self, name: str, query: Mapping[str, str] | None = None) -> None:
        """``query`` is that of the request with which a session began."""
        wanted = (self.query if query is None else query).get("ifGenerationMatch")
        resource = self.live(name)
        if wanted is not None and wanted != (resource["generation"] if resource else "0"):
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")

    def made(self, name: str, query: Mapping[str, str], key: str = "kmsKeyName") -> dict[str, Any]:
        """The object, with the key that ``query`` names."""
        resource = self.check_version(name, None)
        if key in query:
            resource["kmsKeyName"] = f"{query[key]}/cryptoKeyVersions/1"
        return resource


Answering = Callable[[Call], None]


def answering(function: Answering) -> Callable[..., None]:
    """Make a handler as the emulator has them; one request changes things at a time."""

    @wraps(function)
    def handler(request: Any, response: Any, storage: Storage, *_: Any, **__: Any) -> None:
        with LOCK:
            try:
                function(Call(request, response, storage))
            except (Refused, Conflict) as refusal:
                status = refusal.status if isinstance(refusal, Refused) else 400
                response.status = SimpleNamespace(value=status, phrase="Refused")
                response.json({"error": {"code": status, "message": str(refusal)}})

    return handler


def passing_on(call: Call, handler: Callable[..., None]) -> None:
    handler(call.request, call.response, call.storage)


def get(call: Call) -> None:
    call.check_version(call.request.params["object_id"], call.query.get("generation"))
    passing_on(call, objects.get)


def delete(call: Call) -> None:
    name = call.request.params["object_id"]
    call.check_version(name, call.query.get("generation"))
    call.check_conditions(name)
    passing_on(call, objects.delete)


def patch(call: Call) -> None:
    name = call.request.params["object_id"]
    call.check_conditions(name)
    resource = call.check_version(name, call.query.get("generation"))
    changes = dict(call.request.data)
    if "metadata" in changes:
        merged = {**resource.get("metadata", {}), **changes["metadata"]}
        changes["metadata"] = {key: value for key, value in merged.items() if value is not None}
    call.request._data = changes
    passing_on(call, objects.patch)


def ls(call: Call) -> None:
    resources, _prefixes = call.storage.get_file_list(call.bucket, call.query.get("prefix"))
    page = [one for one in resources if one["name"] > call.query.get("pageToken", "")]
    most = int(call.query.get("maxResults", 1000))
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if page:
        answer["items"] = page[:most]
    if len(page) > most:
        answer["nextPageToken"] = page[most - 1]["name"]
    call.response.json(answer)


def insert(call: Call) -> None:
    if call.query["uploadType"] == "resumable":
        begin_session(call)
        return
    name = call.query.get("name") or call.request.data["meta"]["name"]
    call.check_conditions(name)
    passing_on(call, objects.insert)
    if call.response.status == 200:
        call.response.json(call.made(name, call.query))


def rewrite(call: Call) -> None:
    params = call.request.params
    source = call.check_version(params["object_id"], call.query.get("sourceGeneration"))
    name = params["dest_object_id"]
    call.check_conditions(name)
    size = int(source["size"])
    if size > REWRITTEN_BYTES and "rewriteToken" not in call.query:
        answer: dict[str, Any] = {
            "kind": KIND_OF_REWRITE,
            "totalBytesRewritten": str(REWRITTEN_BYTES),
            "objectSize": str(size),
            "done": False,
        }
        call.response.json({**answer, "rewriteToken": secrets.token_hex(8)})
        return
    passing_on(call, objects.rewrite)
    resource = call.made(name, call.query, "destinationKmsKeyName")
    for key in ("contentType", "metadata", "storageClass"):
        if key in (call.request.data or {}):
            resource[key] = call.request.data[key]
    answer = {"totalBytesRewritten": str(size), "objectSize": str(size), "done": True, "resource": resource}
    call.response.json({"kind": KIND_OF_REWRITE, **answer})


def compose(call: Call) -> None:
    name = call.request.params["object_id"]
    sources = call.request.data["sourceObjects"]
    if not 1 <= len(sources) <= 32:
        raise Refused(400, "The number of source components provided must be between 1 and 32.")
    classes = {call.check_version(source["name"], source.get("generation"))["storageClass"] for source in sources}
    if len(classes) != 1:
        raise Refused(400, "The source objects must have the same storage class.")
    call.check_conditions(name)
    passing_on(call, objects.compose)
    resource = call.made(name, call.query)
    resource["storageClass"] = classes.pop()
    del resource["md5Hash"]
    call.response.json(resource)


def download(call: Call) -> None:
    resource = call.check_version(call.request.params["object_id"], call.query.get("generation"))
    resource.setdefault("md5Hash", "")
    passing_on(call, objects.download)
    if not resource["md5Hash"]:
        del resource["md5Hash"]
    # Google gives the type that was asked for only to what has none of its own.
    if resource["contentType"] == "application/octet-stream" and "response-content-type" in call.query:
        call.response["Content-type"] = call.query["response-content-type"]
    # The emulator's headers of metadata cannot have every letter, and nobody here reads them.
    headers = call.response._headers
    for name in [name for name in headers if name.startswith("x-goog-meta-")]:
        del headers[name]


@dataclass
class Session:
    """A resumable upload; ``made`` is its object once it is complete."""

    name: str
    resource: dict[str, Any]
    query: Mapping[str, str]
    declared: int | None
    data: bytearray = field(default_factory=bytearray)
    made: dict[str, Any] | None = None


SESSIONS: dict[str, Session | None] = {}


def begin_session(call: Call) -> None:
    resource = dict(call.request.data or {})
    name = call.query.get("name") or resource["name"]
    declared = call.request.get_header("x-upload-content-length")
    resource.setdefault("contentType", call.request.get_header("x-upload-content-type"))
    upload_id = secrets.token_hex(24)
    SESSIONS[upload_id] = Session(name, resource, call.query, int(declared) if declared else None)
    call.response["Location"] = f"{call.request.full_url}&upload_id={upload_id}"


def session_of(call: Call) -> Session:
    if call.query["upload_id"] not in SESSIONS:
        raise Refused(404, "No such upload.")
    session = SESSIONS[call.query["upload_id"]]
    if session is None:
        raise Refused(410, "The upload was cancelled.")
    return session


def cancel(call: Call) -> None:
    session_of(call)
    SESSIONS[call.query["upload_id"]] = None
    call.response.status = SimpleNamespace(value=499, phrase="Client Closed Request")


def send(call: Call) -> None:
    """See https://cloud.google.com/storage/docs/performing-resumable-uploads."""
    session = session_of(call)
    if session.made is not None:
        call.response.json(session.made)
        return
    data = call.request.data or b""
    bounds, _, shown = call.request.get_header("Content-Range", f"bytes 0-{len(data) - 1}/{len(data)}").partition("/")
    total = None if shown == "*" else int(shown)
    start = len(session.data) if bounds == "bytes *" else int(bounds.removeprefix("bytes ").partition("-")[0])
    if start > len(session.data):
        raise Refused(400, "Invalid request. The bytes before these have not arrived.")
    fresh = data[len(session.data) - start :]
    is_last = total is not None and len(session.data) + len(fresh) >= total
    most = min(limit for limit in (total, session.declared, sys.maxsize) if limit is not None)
    if (is_last and session.declared not in (None, total)) or len(session.data) + len(fresh) > most:
        raise Refused(400, "Invalid request. These are not as many bytes as were declared.")
    session.data += fresh if is_last else fresh[: len(fresh) - len(fresh) % QUANTUM_BYTES]
    if not is_last:
        call.response.status = objects.GoogleHTTPStatus.RESUME_INCOMPLETE
        if session.data:
            call.response["Range"] = f"bytes=0-{len(session.data) - 1}"
        return
    complete(call, session)
    call.response.json(session.made)


def complete(call: Call, session: Session) -> None:
    call.check_conditions(session.name, session.query)
    content = bytes(session.data)
    resource = objects._make_object_resource(
        call.request.base_url, call.bucket, session.name, "", str(len(content)), session.resource
    )
    for given in filter(None, (call.request.get_header("x-goog-hash") or "").split(",")):
        algorithm, _, value = given.partition("=")
        resource[{"crc32c": "crc32c", "md5": "md5Hash"}[algorithm]] = value
    call.storage.create_file(call.bucket, session.name, content, objects._checksums(content, resource))
    session.made = call.made(session.name, session.query)
    session.data = bytearray()


def read_data_exactly(handler: Any, query: Mapping[str, list[str]]) -> Any:
    """As the emulator does; but the two parts of an upload as the bytes that they are, and not as a mail."""
    content_type = handler.headers.get("Content-Type", "")
    if not content_type.startswith("multipart/related"):
        return read_data(handler, query)
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    description, _, rest = handler.body.removeprefix(b"--" + boundary).partition(b"\r\n--" + boundary)
    head, _, content = rest.partition(b"\r\n\r\n")
    return {
        "meta": json.loads(description.partition(b"\r\n\r\n")[2]),
        "content": content.removesuffix(b"\r\n").removesuffix(b"\r\n--" + boundary + b"--"),
        "content-type": head.partition(b":")[2].strip().decode(),
    }


def adapted(handlers: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    if path.startswith("^/upload"):
        return {"POST": answering(insert), "PUT": answering(send), "DELETE": answering(cancel)}
    ours = {
        objects.get: get,
        objects.delete: delete,
        objects.patch: patch,
        objects.ls: ls,
        objects.rewrite: rewrite,
        objects.compose: compose,
        objects.download: download,
        objects.xml_upload: partial(passing_on, handler=objects.xml_upload),
        buckets.get: partial(passing_on, handler=buckets.get),
    }
    return {method: answering(ours[handler]) if handler in ours else handler for method, handler in handlers.items()}


def main(port: int, account_file: Path) -> None:
    emulator._read_raw_data = lambda handler: handler.body
    emulator._read_data = read_data_exactly
    emulator.HANDLERS = tuple((path, adapted(handlers, path)) for path, handlers in emulator.HANDLERS)
    handler = partial(Handler, Account(account_file), Forgetful(use_memory_fs=True))
    with Server(("127.0.0.1", port), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
