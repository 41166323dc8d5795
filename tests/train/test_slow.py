"""Tests that take minutes: the claims of the README, and weights downloaded from a local hub."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import timm
from safetensors.torch import save

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def environment(home: Path, **more) -> dict:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA", "THAW", "HF_"))}
    return kept | {"HOME": str(home)} | more


def train(tmp_path, *args, **more):
    command = [
        sys.executable,
        str(ROOT / "src/train.py"),
        *args,
        f"store.dir={tmp_path}/store",
        "wandb=disabled",
        "threads=1",
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path, **more))


def test_the_default_run_is_as_good_as_the_readme_says(tmp_path):
    """The README says 99.1 ± 0.4 % over five seeds; one test image is 0.11 %."""
    done = train(tmp_path, "-m", "seed=0,1,2", f"hydra.sweep.dir={tmp_path}/sweep")
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / f"sweep/{n}/result.json").read_text()) for n in range(3)]
    assert min(result["test/accuracy"] for result in results) > 0.975
    assert sum(result["test/accuracy"] for result in results) / 3 > 0.982


def test_every_step_can_be_left_out(tmp_path):
    recipe = ("experiment=ablation", "seed=0", "smoke=true", "data.limit=100", f"hydra.sweep.dir={tmp_path}/sweep")
    done = train(tmp_path, *recipe)
    assert done.returncode == 0, done.stderr
    assert "sweep: 9/9 jobs done" in done.stdout
    table = [sys.executable, str(ROOT / "scripts/ablation.py"), f"{tmp_path}/sweep"]
    assert len(subprocess.check_output(table, text=True).split("| step left out")[1].splitlines()) >= 11


@pytest.fixture
def hub():
    """Serve a hub on this machine that has random weights for test_resnet.r160_in1k."""
    weights = timm.create_model("test_resnet").state_dict()
    data = save({name: value.contiguous() for name, value in weights.items()})
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(b"")

        def do_GET(self):
            self.answer(data)

        def answer(self, body):
            asked.append(f"{self.command} {self.path}")
            found = self.path.endswith("test_resnet.r160_in1k/resolve/main/model.safetensors")
            self.send_response(200 if found else 404)
            if found:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(data)))
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_weights_are_downloaded_once_and_then_cached(tmp_path, hub):
    url, asked = hub
    smoke = ("backbone=test_resnet.r160_in1k", "smoke=true", "size=32", "data.limit=100", "threads=1")
    options = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = train(tmp_path, *smoke, f"hydra.run.dir={tmp_path}/a", **options)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("GET") and "model.safetensors" in line for line in asked)
    asked.clear()
    done = train(tmp_path, *smoke, f"hydra.run.dir={tmp_path}/b", **options | {"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert done.returncode == 0, done.stderr
    assert asked == [], "the cache suffices without a network"
