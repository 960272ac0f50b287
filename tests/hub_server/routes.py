"""The routes that the Hub's client asks for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from hub_server import xet
from hub_server.store import LARGE_SUFFIXES, Account, Commit, File, HubError, Repository, git_sha1, sha256

if TYPE_CHECKING:
    from hub_server.server import HubServer

# Files up to this size are given by the Hub itself, without a redirect.
_INLINE_BYTES = 64


@dataclass(frozen=True)
class Request:
    hub: HubServer
    method: str
    names: dict[str, str]
    query: dict[str, str]
    headers: Message
    body: bytes

    @property
    def account(self) -> Account | None:
        return self.hub.store.account(self.headers.get("Authorization"))

    @property
    def repository(self) -> Repository:
        return self.hub.store.repository(self.names["id"], self.account)

    def json(self) -> dict[str, Any]:
        content = json.loads(self.body)
        assert isinstance(content, dict)
        return content


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = False


def _json(content: object, **headers: str) -> Answer:
    return Answer(json.dumps(content).encode(), headers=headers)


def whoami(request: Request) -> Answer:
    account = request.account
    if account is None:
        raise HubError(401, None, "Invalid username or password.")
    role = "write" if account.may_write else "read"
    return _json(
        {
            "type": "user",
            "name": account.name,
            "orgs": [{"name": name} for name in account.organizations],
            "auth": {"accessToken": {"role": role}},
        }
    )


def create(request: Request) -> Answer:
    wanted = request.json()
    account = request.account
    owner = wanted.get("organization") or (account.name if account is not None else "")
    request.hub.store.check_writable(owner, account)
    name = f"{owner}/{wanted['name']}"
    url = f"{request.hub.url}/{name}"
    if name in request.hub.store.repositories:
        return Answer(json.dumps({"url": url, "error": "You already created this model repo"}).encode(), 409)
    private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
    request.hub.store.create(name, private=private)
    return _json({"url": url})


def delete(request: Request) -> Answer:
    wanted = request.json()
    name = f"{wanted.get('organization')}/{wanted['name']}"
    request.hub.store.check_writable(name.partition("/")[0], request.account)
    request.hub.store.repositories.pop(name, None)
    return _json({})


def info(request: Request) -> Answer:
    repository = request.repository
    commit = repository.resolve(request.names.get("rev", "main"))
    siblings = []
    for path, file in commit.files.items():
        sibling: dict[str, Any] = {"rfilename": path}
        if request.query.get("blobs"):
            sibling |= {"size": len(file.content), "blobId": file.oid}
            if file.large:
                sibling["lfs"] = {"sha256": sha256(file.content), "size": len(file.content), "pointerSize": len(file.pointer)}
        siblings.append(sibling)
    return _json(
        {
            "id": repository.id,
            "sha": commit.oid,
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "tags": [],
            "lastModified": commit.date,
            "siblings": siblings,
        }
    )


def tree(request: Request) -> Answer:
    commit = request.repository.resolve(request.names["rev"])
    return _json([file.describe(path) for path, file in commit.files.items()])


def paths_info(request: Request) -> Answer:
    commit = request.repository.resolve(request.names["rev"])
    paths = parse_qs(request.body.decode()).get("paths", [])
    return _json([commit.files[path].describe(path) for path in paths if path in commit.files])


def refs(request: Request) -> Answer:
    repository = request.repository
    known = {
        kind: [{"name": name, "ref": f"refs/{prefix}/{name}", "targetCommit": oid} for name, oid in names.items()]
        for kind, prefix, names in (("branches", "heads", repository.branches), ("tags", "tags", repository.tags))
    }
    return _json({**known, "converts": []})


def commits(request: Request) -> Answer:
    repository = request.repository
    found, oid = [], repository.resolve(request.names["rev"]).oid
    while oid is not None:
        commit: Commit = repository.commits[oid]
        authors = [{"user": commit.author}] if commit.author else []
        found.append({"id": oid, "title": commit.title, "message": "", "date": commit.date, "authors": authors})
        oid = commit.parent  # type: ignore[assignment]
    return _json(found)


def tag(request: Request) -> Answer:
    repository = request.repository
    request.hub.store.check_writable(repository.owner, request.account)
    name = request.json()["tag"]
    if name in repository.tags:
        raise HubError(409, None, "the tag exists")
    repository.tags[name] = repository.resolve(request.names["rev"]).oid
    return _json({})


def branch(request: Request) -> Answer:
    repository = request.repository
    request.hub.store.check_writable(repository.owner, request.account)
    repository.branches[request.names["name"]] = repository.resolve("main").oid
    return _json({})


def settings(request: Request) -> Answer:
    repository = request.repository
    request.hub.store.check_writable(repository.owner, request.account)
    wanted = request.json()
    if "gated" in wanted:
        repository.gated = bool(wanted["gated"])
    if "visibility" in wanted or "private" in wanted:
        repository.private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    return _json({})


def validate_yaml(request: Request) -> Answer:
    content = request.json()["content"]
    front = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    errors = [] if front else [{"message": "empty or missing yaml metadata in repo card"}]
    if front and (licence := re.search(r"^license: (.*)$", front[1], re.MULTILINE)) and licence[1] != licence[1].lower():
        errors.append({"message": f'"license" must be one of the known identifiers, not {licence[1]}'})
    return Answer(json.dumps({"errors": errors, "warnings": []}).encode(), 400 if errors else 200)


def preupload(request: Request) -> Answer:
    repository = request.repository
    commit = repository.resolve(request.names["rev"])
    # A pull request may come from anybody; what may be written is settled by the commit.
    answers = []
    for file in request.json()["files"]:
        path, large = file["path"], file["path"].endswith(LARGE_SUFFIXES)
        entry = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        known = commit.files.get(path)
        if known is not None:
            entry["oid"] = sha256(known.content) if large else git_sha1(known.content)
        answers.append(entry)
    return _json({"files": answers})


def lfs_batch(request: Request) -> Answer:
    store = request.hub.store
    account = request.account
    if account is None:
        raise HubError(401, None, "Invalid username or password.")
    # Whoever may propose a change may bring its files; whether it is taken is settled by the commit.
    store.check_writable(account.name, account)
    objects = []
    for item in request.json()["objects"]:
        entry: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in store.large_files:
            entry["actions"] = {
                "upload": {"href": f"{request.hub.cdn}/upload/{item['oid']}"},
                "verify": {"href": f"{request.hub.url}/{request.names['id']}/lfs-verify"},
            }
        objects.append(entry)
    return _json({"transfer": "basic", "objects": objects})


def lfs_verify(request: Request) -> Answer:
    wanted = request.json()
    content = request.hub.store.large_files.get(wanted["oid"])
    if content is None or len(content) != wanted["size"]:
        raise HubError(404, None, "the object was not uploaded")
    return _json({})


def cdn_upload(request: Request) -> Answer:
    oid = request.hub.store.add_large(request.body)
    if oid != request.names["oid"]:
        del request.hub.store.large_files[oid]
        raise HubError(400, None, "the bytes are not those of the oid")
    return Answer(headers={"ETag": f'"{oid}"'})


def cdn_download(request: Request) -> Answer:
    content = request.hub.store.large_files.get(request.names["oid"])
    if content is None:
        raise HubError(404)
    return Answer(content, headers={"Content-Type": "application/octet-stream", "ETag": f'"{request.names["oid"]}"'}, ranges=True)


def commit(request: Request) -> Answer:
    store, repository = request.hub.store, request.repository
    pr = request.query.get("create_pr") == "1"
    account = request.account if pr else _check_push(request)
    if account is None:
        raise HubError(401, None, "Invalid username or password.")
    header: dict[str, Any] = {}
    changes: dict[str, File | None] = {}
    for line in request.body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "header":
            header = value
        elif item["key"] == "file":
            changes[value["path"]] = File(base64.b64decode(value["content"]), False)
        elif item["key"] == "lfsFile":
            if request.hub.xet_folder is not None and value["oid"] not in store.large_files:
                xet.take_over(store, request.hub.xet_folder, value["oid"])
            if value["oid"] not in store.large_files:
                raise HubError(400, None, f"the LFS object {value['oid']} was not uploaded")
            changes[value["path"]] = File(store.large_files[value["oid"]], True, store.xet_hashes.get(value["oid"]))
        elif item["key"] == "deletedFile":
            changes[value["path"]] = None
    made, number = store.commit(
        repository,
        request.names["rev"],
        changes,
        title=header.get("summary", ""),
        author=account.name,
        parent=header.get("parentCommit"),
        pr=pr,
    )
    answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{request.hub.url}/{repository.id}/commit/{made.oid}"}
    if number is not None:
        answer["pullRequestUrl"] = f"{request.hub.url}/{repository.id}/discussions/{number}"
    return _json(answer)


def resolve(request: Request) -> Answer:
    repository = request.repository
    request.hub.store.check_readable(repository, request.account)
    made = repository.resolve(request.names["rev"])
    path = request.names["path"]
    if path not in made.files:
        raise HubError(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": made.oid})
    file = made.files[path]
    headers = {"X-Repo-Commit": made.oid, "Content-Type": "text/plain"}
    if file.large:
        oid = sha256(file.content)
        headers |= {
            "ETag": f'"{file.oid}"',
            "X-Linked-Etag": f'"{oid}"',
            "X-Linked-Size": str(len(file.content)),
            "Location": f"{request.hub.cdn}/large/{oid}",
        }
        if file.xet_hash and request.hub.xet_folder is not None:
            headers["X-Xet-Hash"] = file.xet_hash
            headers["Link"] = f'<{request.hub.url}/api/models/{repository.id}/xet-read-token/{made.oid}>; rel="xet-auth"'
        return Answer(status=302, headers=headers)
    headers["ETag"] = f'"{file.oid}"'
    if len(file.content) > _INLINE_BYTES:
        # As the Hub does: to a cache on the same host, by a relative address that the client follows with its token.
        headers["Location"] = f"/api/resolve-cache/models/{repository.id}/{made.oid}/{quote(path, safe='')}"
        return Answer(status=307, headers=headers)
    return Answer(file.content, headers=headers)


def resolve_cache(request: Request) -> Answer:
    repository = request.repository
    made = repository.resolve(request.names["rev"])
    file = made.files[request.names["path"]]
    headers = {"X-Repo-Commit": made.oid, "ETag": f'"{file.oid}"', "Content-Type": "text/plain"}
    return Answer(file.content, headers=headers, ranges=True)


def auth_check(request: Request) -> Answer:
    repository = request.repository
    request.hub.store.check_readable(repository, request.account)
    return _json({})


def xet_token(request: Request) -> Answer:
    if request.hub.xet_folder is None:
        raise HubError(404, None, "no Xet here")
    if request.names["kind"] == "write":
        _check_push(request)
    else:
        request.hub.store.check_readable(request.repository, request.account)
    token = {"casUrl": f"local://{request.hub.xet_folder}", "accessToken": "xet", "exp": 4102444800}
    return _json(
        token,
        **{"X-Xet-Cas-Url": token["casUrl"], "X-Xet-Access-Token": token["accessToken"], "X-Xet-Token-Expiration": str(token["exp"])},
    )


def plain_file(request: Request) -> Answer:
    """A file on an author's own web site."""
    content = request.hub.files.get(request.names["name"])
    if content is None:
        raise HubError(404)
    return Answer(content, headers={"Content-Type": "application/octet-stream", "ETag": f'"{sha256(content)[:16]}"'}, ranges=True)


def _check_push(request: Request) -> Account:
    return request.hub.store.check_writable(request.repository.owner, request.account)


_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
Route = tuple[str, str, re.Pattern[str], Callable[[Request], Answer]]


def _route(name: str, method: str, pattern: str, function: Callable[[Request], Answer]) -> Route:
    return name, method, re.compile(pattern), function


ROUTES: tuple[Route, ...] = (
    _route("whoami", "GET", "/api/whoami-v2", whoami),
    _route("create", "POST", "/api/repos/create", create),
    _route("delete", "DELETE", "/api/repos/delete", delete),
    _route("validate-yaml", "POST", "/api/validate-yaml", validate_yaml),
    _route("info", "GET", f"/api/models/{_ID}", info),
    _route("info", "GET", f"/api/models/{_ID}/revision/(?P<rev>[^/]+)", info),
    _route("tree", "GET", f"/api/models/{_ID}/tree/(?P<rev>[^/]+)", tree),
    _route("paths-info", "POST", f"/api/models/{_ID}/paths-info/(?P<rev>[^/]+)", paths_info),
    _route("refs", "GET", f"/api/models/{_ID}/refs", refs),
    _route("commits", "GET", f"/api/models/{_ID}/commits/(?P<rev>[^/]+)", commits),
    _route("branch", "POST", f"/api/models/{_ID}/branch/(?P<name>[^/]+)", branch),
    _route("tag", "POST", f"/api/models/{_ID}/tag/(?P<rev>[^/]+)", tag),
    _route("settings", "PUT", f"/api/models/{_ID}/settings", settings),
    _route("preupload", "POST", f"/api/models/{_ID}/preupload/(?P<rev>[^/]+)", preupload),
    _route("lfs-batch", "POST", rf"/{_ID}\.git/info/lfs/objects/batch", lfs_batch),
    _route("lfs-verify", "POST", f"/{_ID}/lfs-verify", lfs_verify),
    _route("commit", "POST", f"/api/models/{_ID}/commit/(?P<rev>[^/]+)", commit),
    _route("auth-check", "GET", f"/api/models/{_ID}/auth-check(/write)?", auth_check),
    _route("xet-token", "GET", f"/api/models/{_ID}/xet-(?P<kind>read|write)-token/(?P<rev>[^/]+)", xet_token),
    _route("resolve", "GET|HEAD", f"/{_ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", resolve),
    _route("resolve-cache", "GET|HEAD", f"/api/resolve-cache/models/{_ID}/(?P<rev>[^/]+)/(?P<path>.+)", resolve_cache),
    _route("file", "GET|HEAD", "/files/(?P<name>.+)", plain_file),
)
CDN_ROUTES: tuple[Route, ...] = (
    _route("cdn-upload", "PUT", "/upload/(?P<oid>[0-9a-f]{64})", cdn_upload),
    _route("cdn", "GET|HEAD", "/large/(?P<oid>[0-9a-f]{64})", cdn_download),
)
