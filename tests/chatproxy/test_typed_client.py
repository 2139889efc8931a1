"""The front-end guide's typed client, run as it stands: Node reads TypeScript."""

from tests.chatproxy.test_node_clients import ROOT, run_node

EXAMPLE = ROOT / "docs" / "client" / "example.ts"


def test_example_chats_and_is_told_why_not(server):
    told = run_node(EXAMPLE, server.url, server.token, "Say hello").splitlines()

    assert told[0] == "alice@example.com is on Free: basic-chat"
    assert told[1] == "one two three"
    assert told[2].startswith("14 tokens, $")
    assert told[3].startswith("403 model_not_in_plan: ")
    assert "(req_" in told[3]


def test_example_says_what_is_wrong_with_a_token(server):
    told = run_node("--eval", f"""
        process.argv.splice(1, 0, "example", "{server.url}", "no-token");
        import("{EXAMPLE}").then(() => {{ process.exitCode = 0; }});
    """)  # fmt: skip

    assert told.startswith("401 invalid_token: ")
