"""Which ID tokens are believed, and what happens while certificates cannot be had."""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from accounts import certificates
from accounts import firebase as firebase_module
from accounts.errors import TokenExpired
from accounts.firebase import (
    CertificatesUnavailable,
    cached_identity,
    verifier,
    verify_id_token,
)
from tesslate.lib.errors import InvalidToken
from tests.firebase import PROJECT, FirebaseProject, SigningKey


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_valid_token_tells_who_it_is(firebase: FirebaseProject):
    token = firebase.token("uid-7", email="Alice@Example.COM", name="Alice", email_verified=True)

    identity = verify_id_token(token)

    assert identity.uid == "uid-7"
    assert identity.email == "alice@example.com"
    assert identity.email_verified is True
    assert identity.name == "Alice"
    assert identity.expires_at == pytest.approx(time.time() + 3590, abs=5)


def test_address_counts_as_unverified_unless_firebase_says_so(firebase: FirebaseProject):
    assert verify_id_token(firebase.token(email_verified=None)).email_verified is False
    assert verify_id_token(firebase.token(email_verified="true")).email_verified is False


def test_claims_that_the_database_could_not_hold_are_trimmed(firebase: FirebaseProject):
    identity = verify_id_token(firebase.token(name="A\x00" + "b" * 300, email=None))

    assert identity.name == "A" + "b" * 199
    assert identity.email == ""


WRONG_CLAIMS = {
    "expired": {"exp": 1_500_000_000},
    "other audience": {"aud": "another-project"},
    "other project's issuer": {"iss": "https://securetoken.google.com/another-project"},
    "other issuer": {"iss": "https://evil.example.com"},
    "issued in the future": {"iat": 9_000_000_000, "exp": 9_000_000_100},
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "long subject": {"sub": "x" * 129},
    "no expiry": {"exp": None},
    "no issue time": {"iat": None},
}


@pytest.mark.parametrize("claims", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
def test_P09_wrong_claims_are_refused(firebase: FirebaseProject, claims):
    with pytest.raises(InvalidToken):
        verify_id_token(firebase.token(**claims))


def test_P09_expired_token_is_named_as_such(firebase: FirebaseProject):
    with pytest.raises(TokenExpired):
        verify_id_token(firebase.token(exp=int(time.time()) - 60))


@pytest.mark.parametrize(
    "token",
    ["", " ", "garbage", "a.b.c", "...", "é", "x" * 10_000, "\x00", "eyJ.eyJ.sig"],
    ids=repr,
)
def test_P09_garbage_is_refused(firebase: FirebaseProject, token):
    with pytest.raises(InvalidToken):
        verify_id_token(token)


@pytest.mark.parametrize(
    ("header", "payload"),
    [([], {}), ({}, []), ("x", "y"), (None, None), (1, 2), ({"kid": {}}, {}), ({"alg": []}, {})],
)
def test_P09_json_of_another_shape_is_refused(firebase: FirebaseProject, header, payload):
    with pytest.raises(InvalidToken):
        verify_id_token(f"{segment(header)}.{segment(payload)}.c2ln")


def test_P09_deeply_nested_json_is_refused(firebase: FirebaseProject):
    nested = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()

    with pytest.raises(InvalidToken):
        verify_id_token(f"{nested}.{segment({})}.c2ln")


def test_P09_unsigned_token_is_refused(firebase: FirebaseProject):
    header = {"alg": "none", "kid": firebase.key.key_id, "typ": "JWT"}
    bare = f"{segment(header)}.{segment(firebase.claims())}"

    for token in (f"{bare}.", f"{bare}.c2ln", bare):
        with pytest.raises(InvalidToken):
            verify_id_token(token)


def test_P09_token_signed_with_the_certificate_as_a_shared_secret_is_refused(
    firebase: FirebaseProject,
):
    header = {"alg": "HS256", "kid": firebase.key.key_id}
    signed = f"{segment(header)}.{segment(firebase.claims())}".encode()
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = algorithm.sign(signed, firebase.key.certificate.encode())
    token = signed.decode() + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    with pytest.raises(InvalidToken):
        verify_id_token(token)


def test_P09_token_of_another_key_under_a_known_id_is_refused(firebase: FirebaseProject):
    foreign = SigningKey(firebase.key.key_id)
    token = jwt.encode(
        firebase.claims(), foreign.private, algorithm="RS256", headers={"kid": foreign.key_id}
    )

    with pytest.raises(InvalidToken):
        verify_id_token(token)


def test_P09_changed_payload_is_refused(firebase: FirebaseProject):
    head, _, signature = firebase.token("uid-1").split(".")

    with pytest.raises(InvalidToken):
        verify_id_token(f"{head}.{segment(firebase.claims('uid-2'))}.{signature}")


def test_token_without_key_id_is_refused(firebase: FirebaseProject):
    token = jwt.encode(firebase.claims(), firebase.key.private, algorithm="RS256")

    with pytest.raises(InvalidToken):
        verify_id_token(token)


def test_certificates_are_fetched_once_for_their_max_age(firebase: FirebaseProject):
    for uid in ("uid-1", "uid-2", "uid-3"):
        verify_id_token(firebase.token(uid))

    assert firebase.fetches == 1


def test_stale_certificates_are_fetched_again(firebase: FirebaseProject):
    firebase.max_age = 0
    verify_id_token(firebase.token("uid-1"))
    verify_id_token(firebase.token("uid-2"))

    assert firebase.fetches == 2


def test_P09_stale_certificates_serve_while_the_server_is_down(firebase: FirebaseProject, caplog):
    firebase.max_age = 0
    verify_id_token(firebase.token("uid-1"))
    firebase.is_down = True

    assert verify_id_token(firebase.token("uid-2")).uid == "uid-2"
    assert verify_id_token(firebase.token("uid-3")).uid == "uid-3"

    assert firebase.fetches == 2, "one failure, then a pause"
    assert "beyond their max-age" in caplog.text


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b'{"key-1": 1}'])
def test_answer_that_holds_no_certificates_counts_as_down(firebase: FirebaseProject, body):
    firebase.body = body

    with pytest.raises(CertificatesUnavailable):
        verify_id_token(firebase.token())


def test_P09_no_certificates_at_all_is_503_and_not_401(firebase: FirebaseProject):
    firebase.is_down = True

    with pytest.raises(CertificatesUnavailable) as caught:
        verify_id_token(firebase.token())

    assert caught.value.status_code == 503


def test_garbage_is_401_even_with_no_certificates(firebase: FirebaseProject):
    firebase.is_down = True

    with pytest.raises(InvalidToken):
        verify_id_token("garbage")


def test_server_that_comes_back_is_noticed(firebase: FirebaseProject, monkeypatch):
    monkeypatch.setattr(certificates, "RETRY_EMPTY_HANDED_SECONDS", 0.01)
    firebase.is_down = True
    with pytest.raises(CertificatesUnavailable):
        verify_id_token(firebase.token())
    firebase.is_down = False
    time.sleep(0.02)

    assert verify_id_token(firebase.token()).uid == "uid-1"


def test_down_server_is_not_asked_for_every_token(firebase: FirebaseProject, monkeypatch):
    monkeypatch.setattr(certificates, "RETRY_EMPTY_HANDED_SECONDS", 60)
    firebase.is_down = True
    for uid in ("uid-1", "uid-2", "uid-3"):
        with pytest.raises(CertificatesUnavailable):
            verify_id_token(firebase.token(uid))

    assert firebase.fetches == 1


def test_new_signing_key_is_looked_for(firebase: FirebaseProject, monkeypatch):
    monkeypatch.setattr(certificates, "LOOK_AGAIN_SECONDS", 0)
    verify_id_token(firebase.token())
    firebase.add_key("key-2")

    assert verify_id_token(firebase.token("uid-2")).uid == "uid-2"
    assert firebase.fetches == 2


def test_made_up_key_ids_do_not_flood_the_certificate_server(firebase: FirebaseProject):
    verify_id_token(firebase.token())
    for number in range(5):
        with pytest.raises(InvalidToken):
            verify_id_token(firebase.token(key_id=f"made-up-{number}"))

    assert firebase.fetches == 1


def test_unknown_key_id_cannot_be_judged_while_the_server_is_down(
    firebase: FirebaseProject, monkeypatch
):
    monkeypatch.setattr(certificates, "LOOK_AGAIN_SECONDS", 0)
    verify_id_token(firebase.token())
    firebase.is_down = True

    for _ in range(2):
        with pytest.raises(CertificatesUnavailable):
            verify_id_token(firebase.token(key_id="key-9"))
    assert firebase.fetches == 2


def test_simultaneous_first_tokens_share_one_fetch(firebase: FirebaseProject):
    tokens = [firebase.token(f"uid-{n}") for n in range(8)]
    barrier = threading.Barrier(len(tokens))

    def verify(token: str) -> str:
        barrier.wait(5)
        return verify_id_token(token).uid

    with ThreadPoolExecutor(len(tokens)) as pool:
        assert sorted(pool.map(verify, tokens)) == [f"uid-{n}" for n in range(8)]
    assert firebase.fetches == 1


def test_verified_token_is_remembered_by_digest_alone(firebase: FirebaseProject):
    token = firebase.token()
    assert cached_identity(token) is None

    identity = verify_id_token(token)

    assert cached_identity(token) is identity
    assert token not in repr(verifier()._believed)


def test_refused_token_is_not_remembered(firebase: FirebaseProject):
    token = firebase.token(aud="another-project")
    with pytest.raises(InvalidToken):
        verify_id_token(token)

    assert cached_identity(token) is None


def test_remembered_token_is_forgotten_when_it_expires(firebase: FirebaseProject, monkeypatch):
    token = firebase.token(exp=int(time.time()) + 30)
    verify_id_token(token)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)

    assert cached_identity(token) is None


def test_remembered_token_is_verified_again_after_a_while(firebase: FirebaseProject, monkeypatch):
    token = firebase.token()
    verify_id_token(token)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + firebase_module.BELIEVED_SECONDS + 1)

    assert cached_identity(token) is None


def test_memory_for_tokens_is_bounded(firebase: FirebaseProject, monkeypatch):
    monkeypatch.setattr(firebase_module, "BELIEVED_TOKENS", 3)
    tokens = [firebase.token(f"uid-{n}") for n in range(5)]
    for token in tokens:
        verify_id_token(token)

    assert [cached_identity(token) is not None for token in tokens] == [0, 0, 1, 1, 1]


def test_library_still_takes_certificates_where_we_give_them():
    """firebase-admin offers no public way: see accounts.firebase._client."""
    ours = certificates.Certificates("http://127.0.0.1:1/")
    client = firebase_module.Verifier(PROJECT, ours)._client

    assert client._token_verifier.request is ours
    assert type(client)(_app())._token_verifier.request is not ours


def _app():
    import firebase_admin
    from google.auth.credentials import AnonymousCredentials

    return firebase_admin.App("fresh", AnonymousCredentials(), {"projectId": PROJECT})
