"""`larder-agent` and a catalog of several schemes: from the document to the slots."""

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from larder.identity import identity_of
from larder.manifest import parse_manifest
from tests.fakes.certificates import issue
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.file_server import FileServer
from tests.fakes.s3_server import ACCESS_KEY, SECRET_KEY, Bucket

CATALOG = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
- {{name: gguf, storageUri: "https://models.example/m.gguf", namespaces: [chat],
   fetchFrom: "{web}", credentials: {{tokenFile: {folder}/token}}}}
- {{name: tree, storageUri: "{s3}", namespaces: [chat],
   fetchFrom: "{bucket}", credentials: {{tokenFile: {folder}/keys.json}}}}
"""


def agent_once(folder: Path) -> subprocess.CompletedProcess[str]:
    """What an agent says that does what a folder's catalog wants, once."""
    arguments = [sys.executable, "-m", "agent", "--catalog", str(folder / "catalog.yaml")]
    arguments += ["--cache-root", str(folder / "root"), "--node-name", "n", "--once"]
    return subprocess.run(  # noqa: S603 - ours
        [*arguments, "--allow-any-disk"], capture_output=True, text=True, timeout=60, check=False
    )


def test_an_agent_fills_from_every_scheme_with_its_credentials(
    moto_url: str, bucket_name: str, tmp_path: Path
) -> None:
    uri = f"s3://{bucket_name}/m"
    with closing(Bucket(moto_url, bucket_name)) as bucket:
        bucket.put({"m/config.json": b"{}", "m/w/1.bin": b"w" * 10_000})
    (tmp_path / "token").write_text("sesame\n")
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    with FileServer({"/m.gguf": b"gguf"}) as server:
        server.keys = ("Bearer sesame",)
        places = {"web": server.url, "s3": uri, "bucket": moto_url, "folder": tmp_path}
        (tmp_path / "catalog.yaml").write_text(CATALOG.format(**places))
        done = agent_once(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "sesame" not in done.stdout + done.stderr
    slots = tmp_path / "root" / "slots"
    tree, gguf = (slots / identity_of(u).key for u in (uri, "https://models.example/m.gguf"))
    assert (tree / "content/w/1.bin").read_bytes() == b"w" * 10_000
    assert (gguf / "content/m.gguf").read_bytes() == b"gguf"
    manifest = parse_manifest((tree / "manifest").read_text())
    assert [file.path for file in manifest.files] == ["config.json", "w/1.bin"]
    assert manifest.revision.startswith("sha256:")


ARCHIVES = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
- {{name: a, storageUri: "https://models.example/{name}", namespaces: [chat], fetchFrom: "{web}",
   maxSize: {size}}}
- {{name: b, storageUri: "s3://{bucket}/m", namespaces: [chat], fetchFrom: "{s3}",
   maxSize: {size}, credentials: {{tokenFile: {folder}/keys.json}}}}
"""
MEMBERS = {"config.json": b"{}", "w/1.bin": b"w" * 100_000}


@pytest.mark.parametrize("name", ["m.tar.gz", "m.zip"])
def test_archives_are_served_as_kserve_unpacks_them(
    moto_url: str, bucket_name: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / "tree/w").mkdir(parents=True)
    for path, content in MEMBERS.items():
        (tmp_path / "tree" / path).write_bytes(content)
    kind = "zip" if name.endswith(".zip") else "gztar"
    packed = Path(shutil.make_archive(str(tmp_path / "m"), kind, tmp_path / "tree")).read_bytes()
    with closing(Bucket(moto_url, bucket_name)) as bucket:
        bucket.put({f"m/deep/{name}": packed})
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    with FileServer({f"/{name}": packed}) as server:
        places = {"name": name, "web": server.url, "bucket": bucket_name, "s3": moto_url}
        text = ARCHIVES.format(**places, folder=tmp_path, size="1Mi")
        (tmp_path / "catalog.yaml").write_text(text)
        done = agent_once(tmp_path)
    assert done.returncode == 0, done.stdout
    root = tmp_path / "root"
    for uri in (f"https://models.example/{name}", f"s3://{bucket_name}/m"):
        content = root / "slots" / identity_of(uri).key / "content"
        found = [path for path in content.rglob("*") if path.is_file()]
        assert {str(p.relative_to(content)): p.read_bytes() for p in found} == MEMBERS
    blobs = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    assert {path.read_bytes() for path in blobs} == set(MEMBERS.values())
    assert not list((root / "staging").iterdir())


NETWORKS = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
defaults: {{network: {{proxy: "{proxy}"}}}}
models:
- {{name: a, storageUri: "https://models.example/a.gguf", namespaces: [chat], fetchFrom: "{web}"}}
- {{name: b, storageUri: "https://models.example/b.gguf", namespaces: [chat], fetchFrom: "{tls}",
   network: {{caBundle: "{bundle}"}}}}
"""


def test_an_entry_goes_out_its_own_way_or_the_catalog_s(tmp_path: Path) -> None:
    authority, leaf = issue(tmp_path)
    with (
        FileServer({"/a.gguf": b"a", "/b.gguf": b"b"}) as server,
        FaultProxy(server.url) as proxy,
        FaultProxy(server.url, leaf) as tls,
    ):
        places = {"proxy": proxy.url, "web": "http://127.0.0.2:9", "tls": tls.url}
        text = NETWORKS.format(**places, bundle=authority)
        (tmp_path / "catalog.yaml").write_text(text)
        done = agent_once(tmp_path)
    assert done.returncode == 0, done.stdout
    assert {asked.target for asked in proxy.requests} == {"/a.gguf"}
    assert {asked.headers["Host"] for asked in proxy.requests} == {"127.0.0.2:9"}
    assert {asked.target for asked in tls.requests} == {"/b.gguf"}


def test_credentials_that_are_no_json_object_are_said_to_be_none(
    moto_url: str, bucket_name: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("sesame\n")
    (tmp_path / "keys.json").write_text("[1]")
    places = {"web": "http://127.0.0.1:1", "s3": f"s3://{bucket_name}/m", "bucket": moto_url}
    (tmp_path / "catalog.yaml").write_text(CATALOG.format(**places, folder=tmp_path))
    done = agent_once(tmp_path)
    assert done.returncode == 1
    assert "holds no token; accepted: a JSON object with the keys of KServe's Secret" in done.stdout
