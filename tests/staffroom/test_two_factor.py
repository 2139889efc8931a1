from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import AuditEntry, BrowserSession, User
from tesslate.staffroom import two_factor


def code(device: TOTPDevice, *, steps: int = 0) -> str:
    """What an authenticator shows, ``steps`` half minutes from now."""
    return f"{totp(device.bin_key, step=device.step, t0=device.t0 - 30 * steps):06d}"


@pytest.fixture
def enrolled(staff: User) -> TOTPDevice:
    device = two_factor.pending_device(staff)
    device.confirmed = True
    device.save()
    return device


PASSWORD = "staff-password"


def sign_in(email: str = "staff@example.com", password: str = PASSWORD) -> Client:
    client = Client()
    client.post("/admin/login/", {"username": email, "password": password})
    return client


def test_without_a_device_the_password_is_enough_where_it_is_allowed(staff, free_plan):
    assert sign_in().get("/admin/").status_code == 200


def test_where_it_is_required_nothing_opens_before_enrolment(staff, settings):
    settings.STAFF_TWO_FACTOR_REQUIRED = True
    client = sign_in()
    for path in ("/admin/", "/admin/plan-matrix", "/admin/accounts/user/"):
        response = client.get(path, follow=True)
        assert response.redirect_chain[-1][0].startswith("/admin/two-factor/enrol?next=")


def test_with_a_device_nothing_opens_before_its_code(staff, enrolled):
    client = sign_in()
    response = client.get("/admin/plan-matrix", follow=True)
    assert response.redirect_chain[-1][0].startswith("/admin/two-factor/verify")
    assert client.get("/admin/search/?s=staff").status_code == 302


def test_the_right_code_opens_the_page_that_was_asked_for(staff, enrolled, free_plan):
    client = sign_in()
    response = client.post(
        "/admin/two-factor/verify", {"token": code(enrolled), "next": "/admin/plan-matrix"}
    )
    assert response["Location"] == "/admin/plan-matrix"
    assert client.get("/admin/plan-matrix").status_code == 200


def test_verifying_changes_the_session_id(staff, enrolled):
    client = sign_in()
    before = client.session.session_key
    client.post("/admin/two-factor/verify", {"token": code(enrolled)})
    assert client.session.session_key != before


def test_a_wrong_code_opens_nothing(staff, enrolled):
    client = sign_in()
    response = client.post("/admin/two-factor/verify", {"token": "000000"})
    assert "not right" in response.text
    assert client.get("/admin/").status_code == 302


def test_a_code_works_once(staff, enrolled):
    token = code(enrolled)
    assert sign_in().post("/admin/two-factor/verify", {"token": token}).status_code == 302
    assert sign_in().post("/admin/two-factor/verify", {"token": token}).status_code == 200


def test_guessing_is_slowed_down(staff, enrolled):
    client = sign_in()
    for _ in range(3):
        client.post("/admin/two-factor/verify", {"token": "000000"})
    # However slow this machine is, the wait is not over yet.
    TOTPDevice.objects.update(throttling_failure_timestamp=timezone.now() + timedelta(minutes=1))
    assert client.post("/admin/two-factor/verify", {"token": code(enrolled)}).status_code == 200
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/account", ""])
def test_leads_nowhere_but_into_the_admin(staff, enrolled, target):
    response = sign_in().post("/admin/two-factor/verify", {"token": code(enrolled), "next": target})
    assert response["Location"] == "/admin/"


def test_enrolment_shows_a_code_to_scan_and_then_recovery_codes(staff):
    client = sign_in()
    page = client.get("/admin/two-factor/enrol")
    assert "<svg" in page.text
    device = TOTPDevice.objects.get(user=staff)
    assert two_factor.readable_secret(device) in page.text
    page = client.post("/admin/two-factor/enrol", {"token": code(device)})
    assert page.text.count("<li>") >= two_factor.RECOVERY_CODES
    assert two_factor.has_device(staff)
    assert client.get("/admin/security").status_code == 200
    assert AuditEntry.objects.filter(action="two_factor.enrolled", user=staff).exists()


def test_enrolment_needs_a_code_of_the_device(staff):
    client = sign_in()
    client.get("/admin/two-factor/enrol")
    assert "not right" in client.post("/admin/two-factor/enrol", {"token": "000000"}).text
    assert not two_factor.has_device(staff)


def test_who_has_a_device_cannot_enrol_another_without_it(staff, enrolled):
    response = sign_in().get("/admin/two-factor/enrol")
    assert response.status_code == 302
    assert TOTPDevice.objects.filter(user=staff).count() == 1


def test_a_recovery_code_signs_in_once(staff, enrolled):
    first, *_ = two_factor.new_recovery_codes(staff)
    assert sign_in().post("/admin/two-factor/verify", {"token": first.upper()}).status_code == 302
    assert two_factor.recovery_codes_left(staff) == two_factor.RECOVERY_CODES - 1
    entry = AuditEntry.objects.get(action="two_factor.recovery_code_used")
    assert entry.after == {"left": two_factor.RECOVERY_CODES - 1}
    assert sign_in().post("/admin/two-factor/verify", {"token": first}).status_code == 200


def test_new_recovery_codes_need_a_fresh_code(staff, enrolled):
    client = sign_in()
    client.post("/admin/two-factor/verify", {"token": code(enrolled)})
    old = two_factor.new_recovery_codes(staff)
    client.post("/admin/security/recovery-codes", {"token": "000000"})
    assert set(two_factor_tokens(staff)) == set(old)


def two_factor_tokens(staff):
    return list(staff.staticdevice_set.get().token_set.values_list("token", flat=True))


def test_turning_it_off_needs_a_fresh_code(staff, enrolled):
    client = sign_in()
    client.post("/admin/two-factor/verify", {"token": code(enrolled)})
    client.post("/admin/security/remove", {"token": "000000"})
    assert two_factor.has_device(staff)
    # The next code, and the wrong one forgotten.
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    client.post("/admin/security/remove", {"token": code(enrolled, steps=1)})
    assert not two_factor.has_device(staff)


def test_a_colleague_who_lost_everything_is_helped_by_an_admin(staff_client, staff, db):
    colleague = User.objects.create_user("lost@example.com", "x", is_staff=True)
    device = two_factor.pending_device(colleague)
    device.confirmed = True
    device.save()
    path = f"/admin/customers/{colleague.pk}/do/remove-factor"
    staff_client.post(path, {"password": "wrong"})
    assert two_factor.has_device(colleague)
    staff_client.post(path, {"password": PASSWORD})
    assert not two_factor.has_device(colleague)
    entry = AuditEntry.objects.get(action="two_factor.removed")
    assert (entry.user, entry.actor) == (colleague, staff)


def test_sessions_are_listed_and_ended(staff, free_plan):
    here, there, elsewhere = sign_in(), sign_in(), sign_in()
    page = here.get("/admin/security")
    assert page.text.count("this one") == 1
    other = BrowserSession.objects.get(session_key=there.session.session_key)
    assert other.session_key not in page.text
    here.post("/admin/security/sessions", {"session": other.public_id})
    assert there.get("/admin/security").status_code == 302
    here.post("/admin/security/sessions")
    assert elsewhere.get("/admin/security").status_code == 302
    assert here.get("/admin/security").status_code == 200


def test_nobody_elses_session_can_be_ended(staff, staff_client, free_plan):
    User.objects.create_superuser("other@example.com", PASSWORD)
    theirs = sign_in(email="other@example.com")
    row = BrowserSession.objects.get(session_key=theirs.session.session_key)
    staff_client.post("/admin/security/sessions", {"session": row.public_id})
    assert theirs.get("/admin/security").status_code == 200


def test_customers_never_see_these_pages(client, user):
    client.force_login(user)
    assert client.get("/admin/two-factor/verify").status_code == 302
    assert client.get("/admin/two-factor/enrol").status_code == 302
    assert not TOTPDevice.objects.exists()


def test_five_wrong_passwords_lock_the_door(staff, free_plan):
    for _ in range(5):
        sign_in(password="wrong")
    client = Client()
    response = client.post(
        "/admin/login/", {"username": "staff@example.com", "password": "staff-password"}
    )
    assert response.status_code == 429
    assert "Too many attempts" in response.text
    assert client.get("/admin/").status_code == 302


def test_the_lock_holds_for_one_name_and_address(staff, user, free_plan):
    User.objects.create_superuser("other@example.com", "staff-password")
    for _ in range(5):
        sign_in(email="STAFF@example.com", password="wrong")
    assert sign_in().get("/admin/").status_code == 302
    assert sign_in(email="other@example.com").get("/admin/").status_code == 200
