"""The stand-in's few pages: who there is, what was mailed, and where a mailed link leads."""

from datetime import UTC, datetime
from html import escape

from sandbox.firebase.directory import Account
from sandbox.firebase.mailbox import Mail

ACCOUNTS_SHOWN = 200

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Firebase stand-in</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2328;
         max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #d8dee4; }}
  code {{ font-size: .85em; }}
  input, button {{ font: inherit; padding: .4rem .6rem; }}
  .note {{ color: #59636e; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
<p class="note">A stand-in for Firebase Authentication. Nothing here leaves this machine.</p>
</body>
</html>
"""


def page(title: str, body: str) -> str:
    return PAGE.format(title=escape(title), body=body)


def overview(project_id: str, accounts: list[Account], mails: list[Mail]) -> str:
    people = "".join(
        f"<tr><td>{escape(account.email or '')}</td><td>{escape(account.display_name or '')}</td>"
        f"<td><code>{escape(account.uid)}</code></td><td>{_state(account)}</td></tr>"
        for account in accounts[-ACCOUNTS_SHOWN:][::-1]
    )
    sent = "".join(
        f"<tr><td>{_moment(mail.at)}</td><td>{escape(mail.to)}</td><td>{_link(mail)}</td></tr>"
        for mail in mails
    )
    return page(
        f"Project {project_id}",
        f"<h2>Mails</h2>{_table('Sent', 'To', 'Subject', rows=sent)}"
        f"<h2>Accounts ({len(accounts)})</h2>"
        f"{_table('E-mail', 'Name', 'UID', 'State', rows=people)}",
    )


def new_password(email: str) -> str:
    return page(
        "Choose a new password",
        f"<p>for <strong>{escape(email)}</strong></p>"
        '<form method="post"><label>New password '
        '<input type="password" name="newPassword" minlength="6" required></label> '
        "<button>Save</button></form>",
    )


def message(title: str, text: str) -> str:
    return page(title, f"<p>{escape(text)}</p>")


def _table(*heads: str, rows: str) -> str:
    if not rows:
        return '<p class="note">None yet.</p>'
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _link(mail: Mail) -> str:
    if mail.used:
        return f"{escape(mail.subject)} (used)"
    return f'<a href="{escape(mail.link)}">{escape(mail.subject)}</a>'


def _state(account: Account) -> str:
    words = ["verified" if account.email_verified else "not verified"]
    return ", ".join([*words, "disabled"] if account.disabled else words)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
