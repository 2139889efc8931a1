"""What `make run` shows once everything is up."""

from typing import Any

from sandbox.stack import Stack

RULE = "─" * 78


def welcome(stack: Stack, demo: dict[str, Any]) -> str:
    web = stack.url("web")
    staff = demo["staff"]
    users = demo["users"]
    width = max(len(user["email"]) for user in users)
    people = [f"  {user['email']:<{width}}  {user['password']}  {user['plan']}" for user in users]
    upgrade = next((user["email"] for user in users if user["plan"] == "free"), users[0]["email"])
    gateway = "LiteLLM stand-in" if stack.options.gateway is None else "LiteLLM"
    lines = [
        "",
        RULE,
        "Tesslate is running. Ctrl-C stops all of it.",
        "",
        f"  Site        {web}/",
        f"  Playground  {web}/playground",
        f"  Admin       {web}/admin/",
        f"  API         {web}/api/docs",
        f"  Stripe      {stack.url('stripe')}/  (stand-in: hosted pages, webhook deliveries)",
        f"  Gateway     {stack.url('litellm')}/  ({gateway})",
        f"  Firebase    {stack.url('firebase')}/  (stand-in: accounts, password mails)",
        "",
        "People (e-mail, password, plan)",
        *people,
        f"  {staff['email']:<{width}}  {staff['password']}  staff",
        "",
        "Try first",
        f"  1. Sign in at {web}/playground as {upgrade} and say hello;",
        "     the pro models are refused.",
        f"  2. Upgrade at {web}/ and pay on the hosted page with any card;",
        "     a second later the same message goes through on a pro model.",
        f"  3. Look at it from behind, as staff: {web}/admin/",
        "  4. The same story by itself, in a second terminal: make demo" + _variables(stack),
        "",
        f"  Logs and data: {stack.folder.path}",
        RULE,
        "",
    ]
    return "\n".join(lines) + "\n"


def _variables(stack: Stack) -> str:
    """What a command in a second terminal needs to find this copy."""
    return "" if stack.options.data_dir == ".local" else f" DATA_DIR={stack.options.data_dir}"
