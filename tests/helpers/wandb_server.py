"""A stand-in for W&B's server that answers what the client needs for a run, and keeps what it receives.

Faults: `broken` makes it answer with an error status or garbage; `close` stops it.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENTITY = {"id": "e", "name": "tester"}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken = None  # an HTTP error status, or bytes to answer instead
        self.runs, self.rows, self.summary, self.exit, self.files, self.asked = [], [], {}, None, {}, []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def close(self):
        """Stop listening."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client):
        pass  # clients may leave early


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, body: dict | bytes, status: int = 200):
        server = self.server
        if isinstance(server.broken, int):
            status, body = server.broken, b"{}"
        elif server.broken is not None:
            body = server.broken
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        self.answer({})

    def do_PUT(self):
        self.server.files[self.path] = self.body()
        self.answer({})

    def do_POST(self):
        body = self.body()
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self.server.asked.append(name and name[1])
            return self.answer({"data": self.graphql(name and name[1], asked.get("variables") or {})})
        if self.path.endswith("/file_stream"):
            self.stream(json.loads(body))
        self.answer({})

    def graphql(self, name, told) -> dict:
        project = {"id": "p", "name": told.get("project") or "thaw", "entity": ENTITY}
        if name == "UpsertBucket":
            self.server.runs.append(told)
            run = {"id": "r", "name": told["name"], "displayName": told.get("displayName"), "description": None}
            run |= {"config": told.get("config"), "sweepName": None, "project": project, "historyLineCount": 0}
            return {"upsertBucket": {"bucket": run, "inserted": True}}
        if name == "CreateRunFiles":
            where = f"http://127.0.0.1:{self.server.server_port}/put/"
            files = [{"name": file, "uploadUrl": where + file} for file in told["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if name == "Viewer":
            return {
                "viewer": ENTITY | {"entity": "tester", "username": "tester", "flags": "{}", "teams": {"edges": []}}
            }
        if name == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if name == "ArtifactType":
            return {"project": None}
        if name == "CreateArtifact":
            return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s"}}}}
        return {}

    def stream(self, told):
        for file, part in (told.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]] if file.endswith((".jsonl", ".json")) else []
            if file == "wandb-history.jsonl":
                self.server.rows += lines
            elif file == "wandb-summary.json":
                self.server.summary |= lines[-1]
        if told.get("complete"):
            self.server.exit = told["exitcode"]
