"""The pages for people: whole, made without scripts, and loading nothing from elsewhere."""

from html.parser import HTMLParser

import pytest

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.web import headers, pages
from quarterdeck.web.app import ENDPOINTS, create_app
from quarterdeck.web.openapi import common_problems, document
from quarterdeck.web.problem_pages import problem_pages
from quarterdeck.web.problems import CATALOGUE, CONTENT_TYPE
from tests.contract.client import Client
from tests.docs.documents import REFERENCE, sections

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SLUGS = [family.slug for family in CATALOGUE]
DOCUMENT = document(ENDPOINTS)
VOID = {"meta", "link", "br", "hr", "img", "input"}


@pytest.fixture
def client():
    """A client of a service that was not started: pages need none of it."""
    return Client(create_app(Runtime(Settings())))


class Page(HTMLParser):
    """A page, read as far as the tests look at it: ids, links, loads, and the text of each row by the id around it."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.tags = [], [], [], []
        self.rows = {}
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == [], "an element is not closed"

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        elif "src" in given or "href" in given:
            self.loads.append(given.get("src") or given["href"])
        assert "style" not in given
        assert not any(name.startswith("on") for name in given)
        if tag not in VOID:
            self._open.append((tag, given.get("id")))
        if tag == "tr":
            self.rows.setdefault(self._section(), []).append("")

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if any(tag == "tr" for tag, _ in self._open):
            self.rows[self._section()][-1] += f" {data}"

    def _section(self):
        return next((name for tag, name in reversed(self._open) if tag in ("article", "section") and name), None)

    def has_row(self, section, *words):
        """Whether a row there has all the words."""
        return any(all(word in row.split() for word in words) for row in self.rows.get(section, []))


async def page_at(client, path):
    answer = await client.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["Content-Security-Policy"] == POLICY
    return Page(answer.body.decode())


@pytest.mark.parametrize("path", ["/docs", "/problems", "/problems/invalid"])
async def test_a_page_has_no_script_and_loads_only_its_style_sheet(client, path):
    page = await page_at(client, path)
    assert not {"script", "style", "iframe", "form", "object", "embed", "img"} & set(page.tags)
    assert len(page.loads) == 1
    for link in [*page.loads, *page.links]:
        assert ":" not in link
        assert "//" not in link


async def test_every_link_of_a_page_leads_somewhere(client):
    for path in ("/docs", "/problems", "/problems/invalid"):
        page = await page_at(client, path)
        assert len(page.ids) == len(set(page.ids))
        for link in dict.fromkeys([*page.loads, *page.links]):
            target, _, fragment = link.partition("#")
            if target:
                base = path.rpartition("/")[0]
                resolved = f"{base}/{target}" if not target.startswith("..") else target.removeprefix("..")
                assert (await client.get(resolved.replace("/./", "/"))).status == 200, link
            if fragment:
                assert fragment in page.ids, link


async def test_the_reference_has_every_route_with_its_parameters_answers_and_problems(client):
    page = await page_at(client, "/docs")
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            name = operation["operationId"]
            assert name in page.ids
            for parameter in operation["parameters"]:
                assert page.has_row(name, parameter["name"], parameter["in"]), (path, parameter["name"])
            for status in operation["responses"]:
                assert page.has_row(name, status), (path, status)
    for each in ENDPOINTS:
        for family in (*each.problems, *common_problems(each)):
            assert page.has_row(each.name, str(family.status), family.slug) or any(
                family.slug in row.replace(",", " ").split() for row in page.rows[each.name]
            )
        for header in headers.REQUEST.get(f"{each.method} {each.path}", ()):
            assert page.has_row(each.name, header.name, "header")


async def test_the_reference_has_every_field_of_every_type(client):
    page = await page_at(client, "/docs")
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert f"type-{name}" in page.ids
        for field in schema.get("properties", {}):
            assert page.has_row(f"type-{name}", field), (name, field)


async def test_the_reference_has_the_examples(client):
    text = (await client.get("/docs")).body.decode()
    assert "quarterdeck.echo" in text
    assert "&#34;greeting&#34;: &#34;hello&#34;" in text


@pytest.mark.parametrize("slug", SLUGS)
async def test_the_type_of_a_problem_leads_to_a_page_about_it(client, slug):
    page = problem_pages()[slug]
    text = (await client.get(f"/problems/{slug}")).body.decode()
    Page(text)
    for said in (page.title, page.meaning, page.cause, page.remedy):
        assert said
        assert str(pages.escape(said)) in text
    for accept in ("application/json", CONTENT_TYPE, "application/json, text/html;q=0.5"):
        answer = await client.get(f"/problems/{slug}", Accept=accept)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Vary"] == "Accept"
        assert answer.json["type"] == f"/problems/{slug}"
        assert answer.json["meaning"] == page.meaning
    for accept in ("*/*", "text/html", "image/png", "", "text/html, application/json;q=0.9"):
        answer = await client.get(f"/problems/{slug}", Accept=accept)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Vary"] == "Accept"


def test_every_problem_has_a_page_and_its_words_in_the_reference():
    documented = {section.heading for section in sections(REFERENCE / "problems.md").values() if section.level == 3}
    assert set(problem_pages()) == set(SLUGS) == documented


async def test_the_index_of_problems_has_all_of_them(client):
    page = await page_at(client, "/problems")
    assert {link.rpartition("/")[2] for link in page.links} >= set(SLUGS)
    answer = await client.get("/problems", Accept="application/json")
    assert [item["slug"] for item in answer.json["items"]] == SLUGS


@pytest.mark.parametrize("slug", ["nothing", "Invalid", "invalid%00", "..", "<b>"])
async def test_what_is_no_problem_has_no_page(client, slug):
    (await client.get(f"/problems/{slug}")).problem(404, "not-found")


@pytest.mark.parametrize("path", ["/docs", "/problems", "/problems/invalid", "/docs/style.css"])
async def test_a_page_need_not_be_sent_twice(client, path):
    first = await client.get(path)
    again = await client.get(path, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


async def test_the_style_sheet_is_one_and_loads_nothing(client):
    answer = await client.get("/docs/style.css")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    text = answer.body.decode()
    assert "prefers-color-scheme: dark" in text
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a `b` c", "a <code>b</code> c"),
        ("a ` b", "a ` b"),
        ("<i>`<b>`", "&lt;i&gt;<code>&lt;b&gt;</code>"),
    ],
)
def test_prose_shows_code_and_escapes_everything(text, shown):
    assert pages.prose(text) == shown
