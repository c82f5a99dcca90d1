import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users.mail import MailTemplates, Message
from fastapi_users.mail.render import _OWN

ANN = "ann@example.org"
TOKEN = "eyJh.eyJz.s-g_n"
CONTEXTS: dict[str, dict[str, Any]] = {
    "verify": {"token": TOKEN, "expires_in_minutes": 60},
    "reset_password": {"token": TOKEN, "expires_in_minutes": 60},
    "email_change": {"token": TOKEN, "expires_in_minutes": 60},
    "email_change_requested": {"new_email": "new@example.org"},
    "email_changed": {"new_email": "new@example.org"},
    "password_changed": {},
    "already_registered": {},
    "new_login": {
        "time": datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc),
        "address": "192.0.2.1",
        "agent": "Lynx/2.9",
    },
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def hello(templates: MailTemplates, *locales: str, **context: Any) -> Message:
    return templates.render("hello", to=ANN, locales=locales, context=context)


def test_the_library_has_these_mails() -> None:
    assert {path.stem for path in _OWN.glob("*.txt")} == CONTEXTS.keys()


@pytest.mark.parametrize("site_name", ["", "Acme & Sons"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_every_mail_has_a_subject_a_text_and_html(name: str, site_name: str) -> None:
    mail = MailTemplates(site_name=site_name).render(name, to=ANN, context=CONTEXTS[name])

    assert (mail.to, mail.name) == (ANN, name)
    assert mail.html is not None
    for part in (mail.subject, mail.text, mail.html):
        assert (site_name.replace("&", "&amp;") if part is mail.html else site_name) in part
        for sign in ("{", "}", "{%", "None", "  for", "at  ", " .", "at ,", "for ."):
            assert part is mail.html or sign not in part
    assert "\n" not in mail.subject
    assert mail.text.startswith("Hello,\n")
    assert mail.text.endswith((".\n", "stays as it is.\n"))
    assert "\n\n\n" not in mail.text
    assert max(map(len, mail.text.splitlines())) < 100


@pytest.mark.parametrize("name", CONTEXTS)
def test_html_needs_nothing_from_elsewhere(name: str) -> None:
    mail = MailTemplates().render(name, to=ANN, context=CONTEXTS[name])

    assert mail.html is not None
    for sign in ("http:", "https:", "src=", "url(", "<img", "<link", "<script", "@import"):
        assert sign not in mail.html


@pytest.mark.parametrize("name", ["verify", "email_change", "reset_password"])
def test_without_an_address_of_a_page_the_mail_holds_the_token(name: str) -> None:
    mail = MailTemplates().render(name, to=ANN, context=CONTEXTS[name])

    assert f"\n{TOKEN}\n" in mail.text
    assert mail.html is not None
    assert f">{TOKEN}</p>" in mail.html
    assert "href" not in mail.html


@pytest.mark.parametrize("name", ["verify", "email_change", "reset_password"])
def test_with_the_address_of_a_page_the_mail_holds_a_link_to_it(name: str) -> None:
    templates = MailTemplates(
        verify_url="https://app.test/verify", reset_password_url="https://app.test/reset_password"
    )
    mail = templates.render(name, to=ANN, context=CONTEXTS[name])
    page = "verify" if name == "email_change" else name
    link = f"https://app.test/{page}?token={TOKEN}"

    assert f"\n{link}\n" in mail.text
    assert mail.html is not None
    assert mail.html.count(f'href="{link}"') == 2
    assert f">{link}</a>" in mail.html


@pytest.mark.parametrize("name", ["verify", "email_change", "reset_password"])
def test_the_lifetime_is_told_where_there_is_one(name: str) -> None:
    def render(minutes: int | None) -> Message:
        return MailTemplates().render(name, to=ANN, context={**CONTEXTS[name], "expires_in_minutes": minutes})

    for mail, is_told in [(render(60), True), (render(None), False)]:
        assert mail.html is not None
        assert ("for 60 minutes" in mail.text, "for 60 minutes" in mail.html) == (is_told, is_told)


def test_a_login_without_a_request_has_neither_address_nor_browser() -> None:
    context = {**CONTEXTS["new_login"], "address": None, "agent": None}
    mail = MailTemplates().render("new_login", to=ANN, context=context)

    assert "2030-01-02 03:04 UTC" in mail.text
    assert mail.html is not None
    assert "2030-01-02 03:04 UTC" in mail.html
    for word in ("Address", "Browser"):
        assert word not in mail.text
        assert word not in mail.html


def test_a_hostile_browser_changes_nothing_of_the_html() -> None:
    agent = "<script>alert(1)</script>\"'&" + "x" * 1000
    mail = MailTemplates().render("new_login", to=ANN, context={**CONTEXTS["new_login"], "agent": agent})

    assert mail.html is not None
    assert "<script" not in mail.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in mail.html
    assert "<script>alert(1)</script>\"'&" in mail.text  # text is text
    assert "x" * 300 not in mail.text + mail.html


@given(value=st.text(st.characters(exclude_categories=["Cs"])))
def test_no_value_leaves_its_place_in_the_html(value: str) -> None:
    context = {"new_email": f'<b title="{value}">{value}'}
    mail = MailTemplates(site_name=f"<b>{value}").render("email_changed", to=ANN, context=context)

    assert mail.html is not None
    assert "<b>" not in mail.html
    assert "<b " not in mail.html
    assert len(mail.subject.splitlines()) == 1


def test_a_variable_that_is_not_there_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="new_email"):
        MailTemplates().render("email_changed", to=ANN)


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://app.test/verify", "https://app.test/verify?token=a%2Bb%26c%3D%23"),
        ("https://app.test/v?next=%2F&x=1", "https://app.test/v?next=%2F&x=1&token=a%2Bb%26c%3D%23"),
        ("https://app.test/#/verify?x=1", "https://app.test/?token=a%2Bb%26c%3D%23#/verify?x=1"),
        ("myapp:///verify", "myapp:///verify?token=a%2Bb%26c%3D%23"),
    ],
)
def test_a_link_keeps_what_its_page_already_has(url: str, link: str) -> None:
    assert MailTemplates(verify_url=url).link("verify", "a+b&c=#") == link


def test_there_is_no_link_without_a_page_or_a_token() -> None:
    templates = MailTemplates(verify_url="https://app.test/verify")

    assert templates.link("verify", None) is None
    assert templates.link("reset_password", TOKEN) is None
    assert templates.link("hello", TOKEN) is None


def test_a_link_of_the_context_wins(tmp_path: Path) -> None:
    folder = write(tmp_path, {"hello.txt": "Subject: Hello\n\n{{ link }} {{ email }}"})

    assert hello(MailTemplates(folder)).text == f"None {ANN}\n"
    assert hello(MailTemplates(folder), link="LINK", email="new@example.org").text == "LINK new@example.org\n"


@pytest.mark.parametrize("as_type", [str, Path, lambda folder: [folder], lambda folder: (str(folder),)])
def test_an_application_has_templates_of_its_own(tmp_path: Path, as_type: Any) -> None:
    write(tmp_path, {"hello.txt": "Subject: Hello from {{ site_name }}\n\nHello {{ name }}, call {{ phone }}!\n\n\n"})
    templates = MailTemplates(as_type(tmp_path), site_name="Acme", phone="555-1234")

    assert hello(templates, name="<Ann>") == Message(
        to=ANN, subject="Hello from Acme", text="Hello <Ann>, call 555-1234!\n", name="hello"
    )


def test_html_of_an_application_is_escaped_and_knows_the_subject(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "hello.txt": "Subject: Hello {{ name }}\n\nHello!",
            "hello.html": '{% extends "layout.html" %}{% block content %}<p>{{ name }}|{{ subject }}</p>{% endblock %}',
        },
    )
    html = hello(MailTemplates(folder), name="<Ann>").html

    assert html is not None
    assert "<p>&lt;Ann&gt;|Hello &lt;Ann&gt;</p>" in html
    assert "<title>Hello &lt;Ann&gt;</title>" in html


@pytest.mark.parametrize(
    "name", ["Ann\nBcc: bob@example.org", "Ann\r\n\r\nBcc: bob@example.org", "Ann\u2028 Bcc: bob@example.org"]
)
def test_a_subject_stays_one_line_whatever_it_quotes(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, {"hello.txt": "Subject:   Hello {{ name }}  \n\nHello!"})

    mail = hello(MailTemplates(folder), name=name)
    assert (mail.subject, mail.text) == ("Hello Ann Bcc: bob@example.org", "Hello!\n")


def test_a_text_without_a_subject_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = write(tmp_path, {"hello.txt": "Hello!"})

    with pytest.raises(jinja2.TemplateSyntaxError, match="Subject: ") as caught:
        hello(MailTemplates(folder))
    assert (caught.value.filename, caught.value.lineno) == (str(folder / "hello.txt"), 1)


def test_errors_are_reported_with_the_lines_of_the_file(tmp_path: Path) -> None:
    folder = write(tmp_path, {"hello.txt": "Subject: Hello\n\nHello\n{% nonsense %}"})

    with pytest.raises(jinja2.TemplateSyntaxError) as caught:
        hello(MailTemplates(folder))
    assert (caught.value.filename, caught.value.lineno) == (str(folder / "hello.txt"), 4)


def test_a_mail_that_nobody_has_is_an_error_that_names_the_folders(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"hello\.txt") as caught:
        hello(MailTemplates(tmp_path))
    assert str(tmp_path.resolve()) in str(caught.value)
    assert str(_OWN) in str(caught.value)


def test_a_folder_that_is_not_there_is_noticed_early(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="missing"):
        MailTemplates(tmp_path / "missing")


@pytest.mark.parametrize(
    ("locales", "text"),
    [
        ([], "plain"),
        (["fr"], "plain"),
        (["de"], "de"),
        (["de-AT"], "de-AT"),
        (["de-at"], "de-AT"),
        (["de-CH"], "de"),
        (["fr", "de-CH"], "de"),
        (["it", "de"], "it"),
        (["en", "de"], "plain"),  # the language of the folder itself
        (["en-US", "de"], "plain"),
        (["../de", "de/", "", "de\x00", "x" * 1000], "plain"),
        (["fr", "es", "pt", "sv", "nl", "de"], "plain"),  # a handful is enough
    ],
)
def test_a_reader_gets_the_language_wanted_most(tmp_path: Path, locales: list[str], text: str) -> None:
    for locale in ("de", "de-AT", "it"):
        write(tmp_path, {f"{locale}/hello.txt": f"Subject: {{{{ locale }}}}\n\n{locale}"})
    write(tmp_path, {"hello.txt": "Subject: {{ locale }}\n\nplain"})

    mail = hello(MailTemplates(tmp_path), *locales)
    assert (mail.text, mail.subject) == (f"{text}\n", "en" if text == "plain" else text)


def test_the_language_of_a_folder_itself_can_be_set(tmp_path: Path) -> None:
    write(tmp_path, {"hello.txt": "Subject: {{ locale }}\n\nHallo", "en/hello.txt": "Subject: {{ locale }}\n\nHello"})
    templates = MailTemplates(tmp_path, default_locale="de-AT")

    assert hello(templates, "de", "en").subject == "de-AT"
    assert hello(templates, "fr").subject == "de-AT"
    assert hello(templates, "en", "de").subject == "en"


def test_a_plain_template_of_the_application_beats_every_later_one(tmp_path: Path) -> None:
    first = write(tmp_path / "first", {"hello.txt": "Subject: Hello\n\nfirst"})
    second = write(
        tmp_path / "second",
        {"de/hello.txt": "Subject: Hello\n\nsecond", "verify.txt": "Subject: Hello\n\n{{ token }}"},
    )
    templates = MailTemplates([first, second])

    assert hello(templates, "de").text == "first\n"
    assert templates.render("verify", to=ANN, context=CONTEXTS["verify"]).text == f"{TOKEN}\n"
    assert "was changed" in templates.render("password_changed", to=ANN).text


def test_html_is_never_of_another_place_than_the_text(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "verify.txt": "Subject: Hello\n\nours",
            "hello.html": "plain",
            "hello.txt": "Subject: Hello\n\nplain",
            "de/hello.txt": "Subject: Hallo\n\nde",
        },
    )
    templates = MailTemplates(folder)

    assert templates.render("verify", to=ANN, context=CONTEXTS["verify"]).html is None
    assert hello(templates).html == "plain"
    assert hello(templates, "de").html is None


def test_one_layout_changes_the_look_of_every_mail(tmp_path: Path) -> None:
    write(tmp_path, {"layout.html": "OURS {% block content %}{% endblock %}"})
    templates = MailTemplates(tmp_path)

    for name, context in CONTEXTS.items():
        html = templates.render(name, to=ANN, context=context).html
        assert html is not None
        assert html.startswith("OURS ")


def test_a_part_is_taken_in_the_language_of_the_mail(tmp_path: Path) -> None:
    including = '{% include "footer.html" %}{% include "signature.html" %}'
    write(
        tmp_path,
        {
            "hello.txt": 'Subject: Hello\n\nHello{% include "greeting.txt" %}',
            "hello.html": including,
            "footer.html": "footer ",
            "signature.html": "signature",
            "greeting.txt": " & greetings",
            "de/hello.txt": 'Subject: Hallo\n\nHallo{% include "greeting.txt" %}',
            "de/hello.html": including,
            "de/footer.html": "Fu\u00dfzeile ",
        },
    )
    templates = MailTemplates(tmp_path)

    assert (hello(templates).html, hello(templates).text) == ("footer signature", "Hello & greetings\n")
    german = hello(templates, "de")
    assert (german.html, german.text) == ("Fu\u00dfzeile signature", "Hallo & greetings\n")


def test_a_part_that_nobody_has_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"hello.txt": 'Subject: Hello\n\n{% include "a.txt" ignore missing %}{% include "b.txt" %}'}
    )

    with pytest.raises(jinja2.TemplateNotFound, match=r"hello\.txt needs b\.txt"):
        hello(MailTemplates(folder))


def test_a_template_that_changes_is_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path, {"hello.txt": "Subject: One\n\none"})
    templates = MailTemplates(folder)
    assert (hello(templates).subject, hello(templates).text) == ("One", "one\n")

    write(tmp_path, {"hello.txt": "Subject: Two\n\ntwo"})
    os.utime(folder / "hello.txt", (2_000_000_000, 2_000_000_000))
    assert (hello(templates).subject, hello(templates).text) == ("Two", "two\n")


def test_a_template_that_extends_its_own_name_adds_to_the_one_it_stands_in_for(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one",
        {
            "layout.html": '{% extends "layout.html" %}{% block header %}{{ super() }} one{% endblock %}',
            "verify.txt": 'Subject: Hello\n\n{% include "verify.txt" %}\n\nOne',
            "verify.html": '{% extends "verify.html" %}{% block content %}{{ super() }} ONE{% endblock %}',
        },
    )
    two = write(
        tmp_path / "two",
        {
            "layout.html": '{% extends "layout.html" %}{% block header %}{{ super() }} two{% endblock %}',
            "verify.html": '{% extends "verify.html" %}{% block content %}{{ super() }} TWO{% endblock %}',
        },
    )
    mail = MailTemplates([one, two]).render("verify", to=ANN, context=CONTEXTS["verify"])

    assert mail.subject == "Hello"
    assert mail.text.startswith("Hello,\n\nplease confirm")
    assert mail.text.endswith("\nOne\n")
    html = mail.html or ""
    assert html.index("Confirm your e-mail address") < html.index(" TWO") < html.index(" ONE")
    assert html.index(" two") < html.index(" one")


def test_a_template_that_extends_its_own_name_needs_another_one(tmp_path: Path) -> None:
    templates = MailTemplates(write(tmp_path, {"hello.txt": 'Subject: Hello\n\n{% include "hello.txt" %}'}))

    with pytest.raises(jinja2.TemplateNotFound, match=r"needs hello\.txt"):
        hello(templates)
