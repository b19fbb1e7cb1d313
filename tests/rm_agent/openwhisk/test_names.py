from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_agent.openwhisk import ConfigurationError, EntityName

part = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1).filter(
    lambda text: text.strip() == text and text not in (".", "..")
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", EntityName("_", None, "hello")),
        ("pkg/hello", EntityName("_", "pkg", "hello")),
        ("/guest/hello", EntityName("guest", None, "hello")),
        ("/_/pkg/hello", EntityName("_", "pkg", "hello")),
        ("guest/pkg/hello", EntityName("guest", "pkg", "hello")),
    ],
)
def test_names_as_people_write_them(text, expected):
    assert EntityName.parse(text) == expected


@pytest.mark.parametrize("text", ["", "/", "//", "a/", "/a", "/ns/", "a/b/c/d", "/ns/a/b/c", "../x", "/_/pkg/..", "a//b"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ConfigurationError, match="is not a name"):
        EntityName.parse(text)


@given(part, part, part)
def test_parts_come_back_and_never_escape_their_place_in_a_url(namespace, package, name):
    entity = EntityName.parse(f"/{namespace}/{package}/{name}")
    assert (entity.namespace, entity.package, entity.name) == (namespace, package, name)
    assert entity.url_path.count("/") == 1
    assert not set(entity.url_path) & set("?#& ")
