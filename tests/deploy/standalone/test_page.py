"""The page for browsers: who gets it, what it must not hold, and that it shows what runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from deploy.standalone.auth import User
from tests.deploy.standalone.browser import Browser
from tests.deploy.standalone.conftest import ALICE, GUEST

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
OWN_GUEST = User("guest", GUEST.uuid, GUEST.key.replace("123", "999", 1))
MARKUP = "<img src=x onerror=document.title='owned'>"


def get(client, path: str, accept: str | None):
    return client("GET", path, headers={"Accept": accept})


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html", "text/plain"])
def test_programs_get_json(nobody, accept):
    reply = get(nobody, "/", accept)
    assert reply.headers["Content-Type"] == "application/json" and reply.json()["description"] == "OpenWhisk"
    assert reply.headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", [HTML, "text/html", "text/html, application/json;q=0.5"])
def test_browsers_get_a_page(nobody, accept):
    reply = get(nobody, "/", accept)
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8" and reply.headers["Vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/page.css"])
def test_nothing_is_loaded_from_elsewhere(nobody, path):
    reply = get(nobody, path, HTML)
    rules = reply.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(rules)
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "//" not in reply.text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


def test_an_unchanged_part_is_not_sent_again(nobody):
    reply = nobody("GET", "/page/page.js")
    again = nobody("GET", "/page/page.js", headers={"If-None-Match": reply.headers["ETag"]})
    assert again.status_code == 304 and not again.content


def test_the_page_holds_no_key_but_the_public_one(server, nobody):
    page = get(nobody, "/", HTML).text
    assert GUEST.api_key in page and ALICE.key not in page
    assert server.settings.users[1].key not in page


def test_the_page_does_not_hold_a_key_that_only_this_server_knows(serving, client):
    with serving(users=(OWN_GUEST,), stem_cells=0) as server:
        page = get(client(server.url, None), "/", HTML).text
    assert OWN_GUEST.uuid not in page and OWN_GUEST.key not in page and GUEST.key not in page


def test_the_api_is_described_where_the_server_says(nobody):
    paths = nobody("GET", "/api/v1").json()["swagger_paths"]
    for prefix in ("", "/api/v1"):
        assert nobody("GET", prefix + paths["ui"]).headers["Location"] == "/#/api"
        described = nobody("GET", prefix + paths["api-docs"]).json()
    assert described["basePath"] == "/api/v1"
    invoke = described["paths"]["/namespaces/{namespace}/actions/{package}/{name}"]["post"]
    assert [parameter["name"] for parameter in invoke["parameters"]] == [
        "name",
        "namespace",
        "package",
        "blocking",
        "result",
        "timeout",
        "body",
    ]
    operations = [operation for methods in described["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def test_every_path_described_is_one(nobody):
    for path in nobody("GET", "/api-docs").json()["paths"]:
        filled = path.replace("{", "").replace("}", "")
        assert nobody("OPTIONS", f"/api/v1{filled}").status_code in (200, 404), path


@pytest.fixture(scope="module")
def shop(guest) -> None:
    guest.ns("PUT", "packages/shop", {})
    guest.put_action("shop/checkout", annotations=[{"key": "web-export", "value": True}])
    guest.put_action("crash", "def main(args):\n    print(args['text'])\n    return {'error': args['text']}\n")
    guest.put_action("seq", exec={"kind": "sequence", "components": ["/_/shop/checkout"]})
    guest.ns("PUT", "triggers/upload", {})
    guest.ns("PUT", "rules/on-upload", {"trigger": "/_/upload", "action": "/_/crash"})
    guest.invoke("shop/checkout", {"total": 42})
    guest.invoke("crash", {"text": MARKUP})


@pytest.fixture
def browser(tmp_path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.mark.browser
@pytest.mark.slow
def test_a_platform_at_work(server, browser, shop):
    browser.open(server.url)
    browser.until(lambda: "application error" in browser.text("#activations"))
    functions = browser.text("#functions")
    assert "shop/checkout" in functions and "web" in functions and "sequence" in functions
    assert "shop/checkout" in browser.text("#activations")
    assert browser.text("#connection") == "live" and browser.text("#containers") not in ("", "–")

    browser.type("#name-filter", "crash")
    assert "shop/checkout" not in browser.text("#activations") and "crash" in browser.text("#activations")
    browser.click("#activations tr")
    browser.until(lambda: "onerror" in browser.text("#panel pre"))
    assert browser.text("#panel").count(MARKUP) >= 2, "in the result and in the logs"
    assert not browser.ask("document.querySelector('img')") and "owned" not in browser.ask("document.title")

    browser.type("#name-filter", "")
    browser.open(f"{server.url}/#/function/shop%2Fcheckout")
    browser.until(lambda: browser.ask("!!document.querySelector('#parameters')"))
    for text, answer in (("{broken", "not JSON"), ("[1]", "JSON object"), ('{"owl": "in the page"}', '"in the page"')):
        browser.type("#parameters", text)
        browser.click("#panel button[type=submit]")
        browser.until(lambda answer=answer: answer in browser.text("#panel form"))
    browser.until(lambda: len(browser.ask("[...document.querySelectorAll('#recent li')].map(x => x.innerText)")) == 2)

    browser.open(f"{server.url}/#/rules")
    browser.until(lambda: "active" in browser.text("#rules"))
    assert "on-upload" in browser.text("#rules") and "upload" in browser.ask("document.querySelector('#triggers').textContent")
    browser.open(f"{server.url}/docs")
    browser.until(lambda: "/api/v1/namespaces/{namespace}/triggers/{name}" in browser.text("#api"))
    assert not browser.complaints


@pytest.mark.browser
@pytest.mark.slow
def test_a_platform_with_nothing_on_it_then_gone(serving, browser):
    with serving(users=(OWN_GUEST, ALICE), stem_cells=0) as server:
        browser.open(server.url)
        browser.until(lambda: "has a key of its own" in browser.text("#entry"))
        assert "No functions yet" not in browser.text("main")
        for key, answer in (("nonsense", "has the form"), (GUEST.api_key, "does not accept")):
            browser.type("#entry-key", key)
            browser.click("#entry-form button.main")
            browser.until(lambda answer=answer: answer in browser.text("#entry"))
        browser.type("#entry-key", ALICE.api_key)
        browser.click("#entry-form button.main")
        browser.until(lambda: "No functions yet" in browser.text("main"))
        assert browser.text("#user") == "alice" and "Nothing ran yet" in browser.text("main")
        stored = browser.ask("JSON.stringify([Object.values(sessionStorage), Object.values(localStorage), document.cookie])")
        assert json.loads(stored) == [[ALICE.api_key], [], ""]
    browser.until(lambda: "owl up" in browser.text("#problem"))
    assert browser.text("#connection") == "server gone"
