from __future__ import annotations

import base64
import io
import json
import textwrap
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.manifest import Manifest, ManifestError, load

HELLO = "def main(args):\n    return args\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hello.py").write_text(HELLO)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "__main__.py").write_text(HELLO)
    (tmp_path / "bundle" / "notes.md").write_text("notes")
    (tmp_path / "common.py").write_text("x = 1\n")
    return tmp_path


@pytest.fixture
def read(folder):
    def read(text: str, environ: dict[str, str] | None = None) -> Manifest:
        path = folder / "manifest.yaml"
        path.write_text(textwrap.dedent(text))
        return load(path, environ or {})

    return read


def body(manifest: Manifest, name: str) -> dict:
    return next(entity.body for entity in manifest.entities if entity.name == name)


def pairs(entries: list[dict]) -> dict:
    return {entry["key"]: entry["value"] for entry in entries}


def test_entities_come_in_the_order_in_which_they_must_be_made(read):
    manifest = read(
        """
        packages:
          shop:
            rules: {onOrder: {trigger: order, action: greet}}
            triggers: {order: }
            sequences:
              all: {actions: "both, greet"}
              both: {actions: [greet, /whisk.system/utils/echo, default2/x]}
            actions: {greet: {function: hello.py}}
            dependencies: {utils: {location: /whisk.system/utils, inputs: {a: 1}}}
          default:
            actions: {loose: {function: hello.py}}
        """
    )
    assert [str(entity) for entity in manifest.entities] == [
        "package shop",
        "binding utils",
        "action shop/greet",
        "sequence shop/both",
        "sequence shop/all",
        "action loose",
        "trigger order",
        "rule onOrder",
    ]
    assert body(manifest, "shop/both")["exec"]["components"] == ["/_/shop/greet", "/whisk.system/utils/echo", "/_/default2/x"]
    assert body(manifest, "utils")["binding"] == {"namespace": "whisk.system", "name": "utils"}
    assert (body(manifest, "onOrder")["trigger"], body(manifest, "onOrder")["action"]) == ("/_/order", "/_/shop/greet")
    assert manifest.named("trigger") == ["order"]


def test_an_action_with_everything(read):
    manifest = read(
        """
        packages:
          p:
            actions:
              a:
                function: hello.py
                runtime: python:3.11
                main: start
                web: raw
                limits: {timeout: 30000, memorySize: 512, logSize: 5, concurrency: 2}
                annotations: {resources: {cpu: 2000, gpu: 25}}
                inputs:
                  text: plain
                  kind: string
                  count: {type: integer, description: how many}
                  given: {type: string, value: here}
                  fallback: {type: string, default: there}
                  object: {a: 1, b: [x, null]}
                  on: true
        """
    )
    action = body(manifest, "p/a")
    assert action["exec"] == {"kind": "python:3.11", "code": HELLO, "binary": False, "main": "start"}
    assert action["limits"] == {"timeout": 30000, "memory": 512, "logs": 5, "concurrency": 2}
    assert pairs(action["annotations"]) == {
        "resources": {"cpu": 2000, "gpu": 25},
        "web-export": True,
        "raw-http": True,
        "final": True,
    }
    assert pairs(action["parameters"]) == {
        "text": "plain",
        "kind": "",
        "count": 0,
        "given": "here",
        "fallback": "there",
        "object": {"a": 1, "b": ["x", None]},
        "True": True,
    }


@pytest.mark.parametrize(
    ("web", "flags"),
    [("true", (True, False, True)), ("yes", (True, False, True)), ("raw", (True, True, True)), ("no", (False, False, False))],
)
def test_web_exports(read, web, flags):
    manifest = read(f"packages: {{p: {{actions: {{a: {{function: hello.py, web: {web}}}}}}}}}")
    assert tuple(pairs(body(manifest, "p/a")["annotations"]).values()) == flags


@pytest.mark.parametrize(
    ("settings", "executable"),
    [
        ("function: hello.py", {"kind": "python:default", "code": HELLO, "binary": False}),
        ("function: hello.py, runtime: python", {"kind": "python:default", "code": HELLO, "binary": False}),
        (
            "code: 'def main(a): return a', runtime: python:3.11",
            {"kind": "python:3.11", "code": "def main(a): return a", "binary": False},
        ),
        ("docker: owner/image:1", {"kind": "blackbox", "image": "owner/image:1"}),
        (
            "docker: owner/image:1, function: hello.py",
            {"kind": "blackbox", "image": "owner/image:1", "code": HELLO, "binary": False},
        ),
        (
            "native: true, function: hello.py",
            {"kind": "blackbox", "image": "openwhisk/dockerskeleton", "code": HELLO, "binary": False},
        ),
    ],
)
def test_where_code_comes_from(read, settings, executable):
    assert body(read(f"packages: {{p: {{actions: {{a: {{{settings}}}}}}}}}"), "p/a")["exec"] == executable


def test_a_folder_becomes_a_zip(read):
    manifest = read(
        """
        packages:
          p:
            actions:
              a: {function: bundle, include: [[common.py, lib/]], exclude: ["*.md"]}
        """
    )
    executable = body(manifest, "p/a")["exec"]
    assert executable["kind"] == "python:default" and executable["binary"]
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(executable["code"])))
    assert archive.namelist() == ["__main__.py", "lib/common.py"]


def test_variables_of_the_environment(read):
    manifest = read(
        """
        packages:
          p:
            inputs: {whole: $TOKEN, part: "id-${TOKEN}-${N}", price: costs $5, json: {deep: ["${N}"]}}
            actions: {a: {function: "${WHERE}", limits: {memorySize: $N}, annotations: {note: $TOKEN}}}
        """,
        {"TOKEN": "abc", "N": "256", "WHERE": "hello.py"},
    )
    expected = {"whole": "abc", "part": "id-abc-256", "price": "costs $5", "json": {"deep": ["256"]}}
    assert pairs(body(manifest, "p")["parameters"]) == expected
    assert body(manifest, "p/a")["limits"] == {"memory": 256}
    assert pairs(body(manifest, "p/a")["annotations"]) == {"note": "abc"}


def test_a_project_holds_packages_too(read):
    manifest = read("project: {name: shop, packages: {p: {version: 1.2.3, public: true}}}")
    assert body(manifest, "p") == {"name": "p", "version": "1.2.3", "publish": True, "parameters": [], "annotations": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "packages: nothing to deploy"),
        ("- a\n- b", "expected keys and values"),
        ("packages: {p: {actions: {a: {function: hello.py}}}", "not YAML in line"),
        ("packages: {p: {}, p: {}}", "'p' is given twice"),
        ("packages: {p: {action: {}}}", r"packages\.p: 'action' is unknown here: did you mean actions\?"),
        ("apis: {}", "'apis' is unknown here: known are packages, project"),
        ("packages: {'a/b': {}}", "'a/b' is not a name"),
        ("packages: {7: {}}", "7 is not a name"),
        ("packages: {p: {actions: {a: {}}}}", r"packages\.p\.actions\.a: no code: give function"),
        ("packages: {p: {actions: {a: {function: none.py}}}}", "there is no file or folder .*none.py"),
        ("packages: {p: {actions: {a: {function: 7}}}}", "a.function: expected a text, not 7"),
        ("packages: {p: {actions: {a: {function: bundle, exclude: ['*']}}}}", "nothing to pack"),
        ("packages: {p: {actions: {a: {function: bundle, include: [none]}}}}", "nothing matches 'none'"),
        ("packages: {p: {actions: {a: {function: hello.py, include: [x]}}}}", "hello.py is no folder, which include"),
        ("packages: {p: {actions: {a: {function: bundle, include: [[]]}}}}", r"a\.include: each entry is"),
        ("packages: {p: {actions: {a: {function: bundle, exclude: tests}}}}", r"a\.exclude: expected a list"),
        ("packages: {p: {actions: {a: {function: manifest.yaml}}}}", "what runs it cannot be told: give runtime"),
        ("packages: {p: {actions: {a: {function: hello.py, web: maybe}}}}", "a.web: 'maybe' is unknown"),
        ("packages: {p: {actions: {a: {function: hello.py, limits: {memory: 1}}}}}", "did you mean memorySize"),
        ("packages: {p: {actions: {a: {function: hello.py, limits: {timeout: 1s}}}}}", "'1s' is not a whole number of milli"),
        (
            "packages: {p: {inputs: {a: $NOWHERE_SET}}}",
            r"packages\.p\.inputs\.a: the environment variable NOWHERE_SET is not set",
        ),
        ("packages: {p: {inputs: [1]}}", "expected names and values"),
        ("packages: {p: {inputs: {a: {type: colour}}}}", "'colour' is unknown: use one of array, boolean"),
        ("packages: {p: {sequences: {s: {actions: []}}}}", "name at least one action"),
        ("packages: {p: {sequences: {s: {actions: t}, t: {actions: s}}}}", "call each other in a circle: /_/p/"),
        ("packages: {p: {rules: {r: {trigger: t}}}}", r"rules\.r\.action: is missing"),
        ("packages: {p: {dependencies: {d: {location: github.com/x/y}}}}", "only /namespace/package can be bound"),
    ],
)
def test_mistakes_are_named_with_file_key_and_remedy(read, text, message):
    with pytest.raises(ManifestError, match=message) as error:
        read(text)
    assert "manifest.yaml: " in str(error.value) and "\n" not in str(error.value)


def test_a_missing_manifest(tmp_path):
    with pytest.raises(ManifestError, match="there is no such file"):
        load(tmp_path / "manifest.yaml")
    with pytest.raises(ManifestError, match="directory"):
        load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not text"):
        load(tmp_path / "binary")


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["hello.py", "$A", "${A}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "packages p actions a function inputs limits web sequences triggers rules trigger action dependencies "
                "location annotations type value default include exclude docker code runtime timeout".split()
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(documents)
def test_any_document_is_read_or_refused_clearly(tmp_path_factory, document):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "any.yaml"
    path.write_text(json.dumps({"packages": {"p": document}}))
    try:
        manifest = load(path, {})
    except ManifestError as error:
        assert str(error).startswith(str(path))
    else:
        json.dumps([entity.body for entity in manifest.entities])


@pytest.mark.shared
def test_it_sends_what_wskdeploy_sends(read, shared_dir):
    """Same requests in the same order; ours also names what is empty, so that an update removes it."""
    recording = json.loads((shared_dir / "transcripts" / "12-wskdeploy.json").read_text())
    exchanges = [exchange["request"] for exchange in recording["steps"][0]["exchanges"]]
    greet = next(r["body"]["json"]["exec"]["code"] for r in exchanges if "shop/greet" in r["path"])
    echo = next(r["body"]["json"]["exec"]["code"] for r in exchanges if "shop/echo" in r["path"])
    manifest = read(
        f"""
        packages:
          shop:
            inputs: {{currency: eur}}
            actions:
              echo: {{code: {json.dumps(echo)}, runtime: python:3.11, web: true}}
              greet:
                code: {json.dumps(greet)}
                runtime: python:3.11
                limits: {{timeout: 30000, memorySize: 256}}
                annotations: {{resources: {{cpu: 2000, gpu: 25}}}}
            sequences: {{both: {{actions: "echo, greet"}}}}
            triggers: {{order: {{inputs: {{name: ordered}}}}}}
            rules: {{onOrder: {{trigger: order, action: greet}}}}
        """
    )
    sent = [(f"/api/v1/namespaces/_/{e.kind}s/{e.name}?overwrite=true", _without_defaults(e.body)) for e in manifest.entities]
    recorded = [(r["path"], _without_defaults(r["body"]["json"])) for r in exchanges if r["method"] == "PUT"]
    assert sent == recorded


def _without_defaults(value):
    if isinstance(value, dict):
        return {
            k: _without_defaults(v) for k, v in value.items() if v != [] and (k, v) not in (("binary", False), ("namespace", "_"))
        }
    return [_without_defaults(item) for item in value] if isinstance(value, list) else value
