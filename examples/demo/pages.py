"""The pages as text. What comes from outside goes through ``escape`` before it stands in one."""

import json
import sys
from collections.abc import Iterable, Mapping
from html import escape
from os.path import relpath
from string import Template

from examples.demo.database import User
from fastapi_users.events import Event
from fastapi_users.mail import Message

LAYOUT = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<style>
html { color-scheme: light dark; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
nav a { margin-right: 1rem; }
article { margin: 2rem 0; }
iframe { width: 100%; height: 34rem; border: 1px solid #8888; border-radius: 4px; resize: vertical; }
pre { padding: .75rem; overflow-x: auto; background: #8882; border-radius: 4px; }
details pre { white-space: pre-wrap; overflow-wrap: anywhere; }
code, td:nth-child(n + 5) { overflow-wrap: anywhere; }
td:nth-child(n + 5) { min-width: 8rem; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .5rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8888; }
input, button { margin: .5rem 0; padding: .4rem .6rem; font: inherit; }
label, input { display: block; }
</style>
</head>
<body>
<nav><a href="/">Start</a><a href="/outbox">Outbox</a><a href="/events">Events</a><a href="/docs">API</a></nav>
<h1>$title</h1>
$body
</body>
</html>
""")

COMMANDS = """\
# Register, and find the mail in the outbox.
curl $base_url/auth/register -H 'Content-Type: application/json' \\
     -d '{"email": "you@example.com", "password": "correct-horse-battery"}'

# Verify the address: press the button behind the link in the mail, or post its token.
curl $base_url/auth/verify -H 'Content-Type: application/json' -d '{"token": "TOKEN"}'

# Log in, and show the access token with every request. A mail tells of the login.
curl $base_url/auth/jwt/login -d username=you@example.com -d password=correct-horse-battery
curl $base_url/users/me -H 'Authorization: Bearer ACCESS_TOKEN'

# Change the e-mail address, which wants the password. Two mails: to confirm the new one, and to warn the old one.
curl -X PATCH $base_url/users/me -H 'Authorization: Bearer ACCESS_TOKEN' \\
     -H 'Content-Type: application/json' \\
     -d '{"email": "new@example.com", "current_password": "correct-horse-battery"}'

# Forget the password, and set another with the token from the mail.
curl $base_url/auth/forgot-password -H 'Content-Type: application/json' -d '{"email": "new@example.com"}'
curl $base_url/auth/reset-password -H 'Content-Type: application/json' \\
     -d '{"token": "TOKEN", "password": "another-horse-battery"}'

# Log in as a browser does, with a cookie, and out again.
curl -c cookies.txt $base_url/auth/cookie/login -d username=new@example.com -d password=another-horse-battery
curl -b cookies.txt $base_url/users/me
curl -b cookies.txt -X POST $base_url/auth/cookie/logout

# Log in with the demo provider: let its page say that you are Ann, and follow it back. The cookie shows that the one who
# comes back is the one who began.
curl -c cookies.txt $base_url/auth/jwt/provider/authorize
curl -b cookies.txt -L 'AUTHORIZATION_URL' -d user=ann

# See the own accounts at providers, as Ann, and unlink one. The last one stays: there may be no password.
curl $base_url/users/me/oauth-accounts -H 'Authorization: Bearer ACCESS_TOKEN'
curl -X DELETE $base_url/users/me/oauth-accounts/ID -H 'Authorization: Bearer ACCESS_TOKEN'

# Log in with the password again, and delete that account. Ten minutes after the login, that wants a new proof, and its
# access token. (With a cookie, prove it at /auth/cookie/reauthenticate: it is replaced.)
curl $base_url/auth/jwt/login -d username=new@example.com -d password=another-horse-battery
curl $base_url/auth/jwt/reauthenticate -H 'Authorization: Bearer ACCESS_TOKEN' \\
     -H 'Content-Type: application/json' -d '{"password": "another-horse-battery"}'
curl -X DELETE $base_url/users/me -H 'Authorization: Bearer ACCESS_TOKEN'
"""

# One script for both forms: it posts the token in the address together with what was typed.
SEND = """\
<p role="status"></p>
<script>
const form = document.querySelector("form");
const answer = document.querySelector("[role=status]");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = new URLSearchParams(location.search).get("token");
  const response = await fetch(form.action, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({token, ...Object.fromEntries(new FormData(form))}),
  });
  const body = await response.json();
  answer.textContent = response.ok ? "Done." : "Refused: " + JSON.stringify(body.detail);
});
</script>
"""


# The path and the method of a button stand on it.
BUTTONS = """\
<p role="status"></p>
<script>
for (const button of document.querySelectorAll("button")) {
  button.addEventListener("click", async () => {
    const response = await fetch(button.dataset.path, {method: button.dataset.method});
    if (response.ok) return location.assign("/");
    document.querySelector("[role=status]").textContent = "Refused: " + JSON.stringify((await response.json()).detail);
  });
}
</script>
"""


def start(base_url: str, visitor: User | None = None, error: str | None = None) -> str:
    return _page(
        "fastapi-users demo",
        "<p>Accounts from registration to deletion, on an SQLite file. The routes are listed under <a href='/docs'>API"
        "</a> and can be tried there; mails are not sent, they appear in the terminal and in the <a href='/outbox'>"
        "outbox</a>. What happens to the accounts is listed under <a href='/events'>events</a>.</p>"
        f"{_who(base_url, visitor, error)}"
        f"<pre>{escape(Template(COMMANDS).substitute(base_url=base_url))}</pre>"
        "<p>A superuser reads, changes and deletes every user at <code>/users/{id}</code>. To become one, run "
        f"<code>{escape(relpath(sys.executable))} -m examples.demo superuser you@example.com</code>.</p>",
    )


def _who(base_url: str, visitor: User | None, error: str | None) -> str:
    """Complete links: a flow that begins on ``localhost`` has its cookie there, and does not end on ``127.0.0.1``."""
    refusal = f'<p role="alert">Refused: <code>{escape(error)}</code></p>' if error else ""
    if visitor is None:
        login = f"{escape(base_url)}/auth/cookie/provider/authorize?redirect=/"
        return f'{refusal}<p>Nobody is logged in here. <a href="{login}">Log in with the demo provider</a></p>'
    accounts = "".join(
        f"<li>{escape(account.oauth_name)}: {escape(account.account_email)} "
        f'<button data-method="DELETE" data-path="/users/me/oauth-accounts/{account.id}">Unlink</button></li>'
        for account in visitor.oauth_accounts
    )
    link = f"{escape(base_url)}/auth/associate/provider/authorize?redirect=/"
    return (
        f"{refusal}<p>You are logged in as <strong>{escape(visitor.email)}</strong>, an address that is "
        f"{'verified' if visitor.is_verified else 'not verified'}. "
        '<button data-method="POST" data-path="/auth/cookie/logout">Log out</button></p>'
        f'<ul>{accounts}</ul><p><a href="{link}">Link another account</a></p>{BUTTONS}'
    )


def outbox(mails: Mapping[int, Message]) -> str:
    return _page("Outbox", "".join(_article(*item) for item in mails.items()) or "<p>No mails yet.</p>")


def mail(message: Message) -> str:
    """As its reader sees it."""
    return message.html if message.html is not None else f"<pre>{escape(message.text)}</pre>"


def events(newest_first: Iterable[Event]) -> str:
    rows = "".join(map(_row, newest_first))
    head = "<tr><th>Time (UTC)<th>Event<th>User<th>Address<th>Browser<th>Data</tr>"
    return _page("Events", f"<table>{head}{rows}</table>" if rows else "<p>Nothing has happened yet.</p>")


def verify() -> str:
    return _page(
        "Confirm your e-mail address",
        f'<form method="post" action="/auth/verify"><button>Confirm</button></form>{SEND}',
    )


def reset_password() -> str:
    return _page(
        "Choose a new password",
        '<form method="post" action="/auth/reset-password"><label>New password <input type="password" name="password" '
        f'minlength="15" autocomplete="new-password" required></label><button>Save</button></form>{SEND}',
    )


def _article(number: int, message: Message) -> str:
    # A link in a frame would open in the frame, where the sandbox lets no script run: it gets a page of its own.
    framed = f'<base target="_blank">{mail(message)}'
    return (
        f"<article><h2>{escape(message.subject)}</h2><p>To: {escape(message.to)} "
        f'(<a href="/outbox/{number}">in full width</a>)</p>'
        f'<iframe sandbox="allow-popups allow-popups-to-escape-sandbox" srcdoc="{escape(framed)}"></iframe>'
        f"<details><summary>Text</summary><pre>{escape(message.text)}</pre></details></article>"
    )


def _row(event: Event) -> str:
    cells = [
        f"{event.time:%Y-%m-%d %H:%M:%S}",
        event.name,
        event.user_id or "",
        (event.request and event.request.address) or "",
        (event.request and event.request.agent) or "",
        json.dumps(event.data) if event.data else "",
    ]
    return f"<tr>{''.join(f'<td>{escape(str(cell))}' for cell in cells)}</tr>"


def _page(title: str, body: str) -> str:
    return LAYOUT.substitute(title=escape(title), body=body)
