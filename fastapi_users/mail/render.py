"""Mails from templates. A template is ``<name>.txt``, whose first line is the subject, and perhaps ``<name>.html``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi_users._lazy import needs_extra
from fastapi_users.mail.base import Message
from fastapi_users.mail.locale import canonical_locale, with_fallbacks

with needs_extra("mail"):
    import jinja2

_OWN = Path(__file__).with_name("templates")
_OWN_LOCALE = "en"
_SUBJECT = "Subject:"
_SUBJECT_OF = ".subject"  # appended to the name of a text: its first line, which is a template of its own
_MAX_LOCALES = 5


class MailTemplates:
    """Renders the library's mails, and yours, from Jinja templates.

    A mail is looked for in each ``folder`` of the application in turn, then in the library's: first in the subfolders of
    the reader's languages (``de-AT``, then ``de``), then in the folder itself, whose language is ``default_locale``. The
    place of the text decides; HTML is taken from the same place or not at all, so that the two say the same. What a
    template extends or includes, as ``layout.html``, is looked for in the same order, from the first folder on.

    A variable that is not there is an error, not a gap. HTML escapes every value.

    :param site_name: who writes; the library's mails read well without it, too.
    :param verify_url: the page of yours that takes the ``token`` of the query and verifies the user with it; mails hold a
        link to it, those that confirm a new address included. Without it they hold the token. The same for
        ``reset_password_url``.
    :param variables: further variables of every template.
    :raises NotADirectoryError: a folder that is none.
    """

    def __init__(
        self,
        folder: str | Path | Sequence[str | Path] | None = None,
        *,
        site_name: str = "",
        verify_url: str | None = None,
        reset_password_url: str | None = None,
        default_locale: str = _OWN_LOCALE,
        **variables: Any,
    ) -> None:
        folders = [folder] if isinstance(folder, str | Path) else folder or ()
        self._locales = {Path(each).resolve(): default_locale for each in folders} | {_OWN: _OWN_LOCALE}
        for each in self._locales:
            if not each.is_dir():
                raise NotADirectoryError(f"There is no folder {each} with templates of mails.")
        self._urls = {"verify": verify_url, "email_change": verify_url, "reset_password": reset_password_url}
        self._environment = _Environment(list(self._locales))
        self._environment.globals.update(variables, site_name=site_name)

    def render(
        self, name: str, *, to: str, locales: Sequence[str] = (), context: Mapping[str, Any] | None = None
    ) -> Message:
        """
        Beside ``context``, templates know ``email`` (the recipient), ``link`` (or ``None``), ``locale`` and, in HTML,
        ``subject``.

        :param locales: as the reader prefers them. They may come from a client: what does not look like one is ignored.
        :raises LookupError: there is no such template.
        """
        folder, locale = self._place(name, locales)
        context = context or {}
        variables = {"email": to, "link": self.link(name, context.get("token")), **context, "locale": locale}
        text = folder / f"{name}.txt"
        html = folder / f"{name}.html"
        # Names may hold line breaks; a subject may not.
        subject = " ".join(self._environment.get_template(f"{text}{_SUBJECT_OF}").render(variables).split())
        return Message(
            to=to,
            subject=subject,
            text=self._environment.get_template(str(text)).render(variables).strip() + "\n",
            html=self._environment.get_template(str(html)).render(variables, subject=subject)
            if html.is_file()
            else None,
            name=name,
        )

    def link(self, name: str, token: str | None) -> str | None:
        """The address that a mail of this name leads to, or ``None`` where none is set or there is no token."""
        url = self._urls.get(name)
        if url is None or token is None:
            return None
        page, hash_sign, fragment = url.partition("#")
        separator = "&" if "?" in page else "?"
        return f"{page}{separator}{urlencode({'token': token})}{hash_sign}{fragment}"

    def _place(self, name: str, locales: Sequence[str]) -> tuple[Path, str]:
        proper = islice(filter(None, map(canonical_locale, locales)), _MAX_LOCALES)
        wanted = with_fallbacks(proper)
        for folder, locale in self._places(wanted):
            if (folder / f"{name}.txt").is_file():
                return folder, locale
        folders = ", ".join(map(str, self._locales))
        raise LookupError(f"There is no template {name}.txt in {folders}.")

    def _places(self, wanted: list[str]) -> Iterator[tuple[Path, str]]:
        for folder, own_locale in self._locales.items():
            for locale in wanted:
                yield folder / locale, locale
                if locale in with_fallbacks([own_locale]):
                    yield folder, own_locale
            yield folder, own_locale


class _Environment(jinja2.Environment):
    """Names of templates are paths, since a mail has its place; what it extends is looked for from the first folder on."""

    def __init__(self, folders: list[Path]) -> None:
        super().__init__(
            loader=jinja2.FunctionLoader(_load),
            autoescape=jinja2.select_autoescape(["html"]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.folders = folders

    def join_path(self, template: str, parent: str) -> str:
        own_folder = next(folder for folder in self.folders if Path(parent).is_relative_to(folder))
        locale = Path(parent).relative_to(own_folder).parent
        places = [place for folder in self.folders for place in (folder / locale, folder)]
        paths = [place / template for place in dict.fromkeys(places)]
        if Path(parent) in paths:
            # A template that extends its own name means the one that it stands in for.
            paths = paths[paths.index(Path(parent)) + 1 :]
        for path in paths:
            if path.is_file():
                return str(path)
        raise jinja2.TemplateNotFound(template, f"{parent} needs {template}, which no folder of templates has.")


def _load(name: str) -> tuple[str, str, Callable[[], bool]]:
    path = Path(name.removesuffix(_SUBJECT_OF))
    modified = path.stat().st_mtime
    source = path.read_text("utf-8")
    if name.endswith(_SUBJECT_OF):
        source = _subject(source, path)
    elif path.suffix == ".txt" and source.startswith(_SUBJECT):
        source = "{#\n#}" + source.partition("\n")[2]  # errors are reported with the lines of the file
    return source, str(path), lambda: path.stat().st_mtime == modified


def _subject(source: str, path: Path) -> str:
    line = source.partition("\n")[0]
    if not line.startswith(_SUBJECT):
        raise jinja2.TemplateSyntaxError(f'The first line has to be "{_SUBJECT} …".', 1, path.name, str(path))
    return line.removeprefix(_SUBJECT)
