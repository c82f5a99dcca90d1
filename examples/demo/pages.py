"""The pages as text. What comes from outside goes through ``escape`` before it stands in one."""

import sys
from collections.abc import Iterable
from html import escape
from os.path import relpath
from string import Template

from examples.demo.outbox import Mail

LAYOUT = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<style>
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; }
nav a { margin-right: 1rem; }
article { margin: 1rem 0; padding: 0 1rem; border: 1px solid #ccc; border-radius: 4px; }
pre { padding: .75rem; overflow-x: auto; background: #f4f4f4; border-radius: 4px; }
code { overflow-wrap: anywhere; }
input, button { margin: .5rem 0; padding: .4rem .6rem; font: inherit; }
label, input { display: block; }
</style>
</head>
<body>
<nav><a href="/">Start</a><a href="/outbox">Outbox</a><a href="/docs">API</a></nav>
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

# Log in, and show the access token with every request.
curl $base_url/auth/jwt/login -d username=you@example.com -d password=correct-horse-battery
curl $base_url/users/me -H 'Authorization: Bearer ACCESS_TOKEN'

# Change the e-mail address. The new one is not verified yet: there is another mail.
curl -X PATCH $base_url/users/me -H 'Authorization: Bearer ACCESS_TOKEN' \\
     -H 'Content-Type: application/json' -d '{"email": "new@example.com"}'

# Forget the password, and set another with the token from the mail.
curl $base_url/auth/forgot-password -H 'Content-Type: application/json' -d '{"email": "new@example.com"}'
curl $base_url/auth/reset-password -H 'Content-Type: application/json' \\
     -d '{"token": "TOKEN", "password": "another-horse-battery"}'

# Log in as a browser does, with a cookie, and out again.
curl -c cookies.txt $base_url/auth/cookie/login -d username=new@example.com -d password=another-horse-battery
curl -b cookies.txt $base_url/users/me
curl -b cookies.txt -X POST $base_url/auth/cookie/logout
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


def start(base_url: str) -> str:
    return _page(
        "fastapi-users demo",
        "<p>Accounts from registration to deletion, on an SQLite file. The routes are listed under <a href='/docs'>API"
        "</a> and can be tried there; mails are not sent, they appear in the terminal and in the <a href='/outbox'>"
        "outbox</a>.</p>"
        f"<pre>{escape(Template(COMMANDS).substitute(base_url=base_url))}</pre>"
        "<p>A superuser reads, changes and deletes every user at <code>/users/{id}</code>. To become one, run "
        f"<code>{escape(relpath(sys.executable))} -m examples.demo superuser you@example.com</code>.</p>",
    )


def outbox(mails: Iterable[Mail]) -> str:
    return _page("Outbox", "".join(map(_article, mails)) or "<p>No mails yet.</p>")


def verify() -> str:
    return _page(
        "Confirm your e-mail address",
        f'<form method="post" action="/auth/verify"><button>Confirm</button></form>{SEND}',
    )


def reset_password() -> str:
    return _page(
        "Choose a new password",
        '<form method="post" action="/auth/reset-password"><label>New password <input type="password" name="password" '
        f'minlength="8" autocomplete="new-password" required></label><button>Save</button></form>{SEND}',
    )


def _article(mail: Mail) -> str:
    return (
        f"<article><h2>{escape(mail.subject)}</h2><p>To: {escape(mail.to)}</p><p>{escape(mail.text)}<br>"
        f'<a href="{escape(mail.link)}">{escape(mail.link.partition("?")[0])}</a></p>'
        f"<p>The token, for those who use the API:<br><code>{escape(mail.token)}</code></p></article>"
    )


def _page(title: str, body: str) -> str:
    return LAYOUT.substitute(title=escape(title), body=body)
