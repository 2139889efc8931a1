import pytest

from accounts.models import AuditEntry
from plans.models import GatewayModel
from tests.factories import GatewayModelFactory


@pytest.fixture
def model(db) -> GatewayModel:
    return GatewayModelFactory.create(name="small", title="Small", provider="acme")


def save(client, model: GatewayModel, **changes):
    fields = {"name": model.name, "title": model.title, "provider": model.provider, **changes}
    return client.post(f"/admin/plans/gatewaymodel/{model.pk}/change/", fields)


def test_a_change_keeps_before_and_after(staff_client, staff, model):
    save(staff_client, model, title="Tiny")
    entry = AuditEntry.objects.get(action="gatewaymodel.changed")
    assert (entry.actor, entry.target_id) == (staff, str(model.pk))
    assert entry.before == {"title": "Small"}
    assert entry.after == {"title": "Tiny"}


def test_saving_without_a_change_leaves_no_entry(staff_client, model):
    save(staff_client, model)
    assert not AuditEntry.objects.filter(action="gatewaymodel.changed").exists()


def test_what_is_added_is_noted(staff_client, staff, db):
    staff_client.post("/admin/plans/gatewaymodel/add/", {"name": "new", "title": "New"})
    entry = AuditEntry.objects.get(action="gatewaymodel.added")
    assert entry.after is not None
    assert entry.after["name"] == "new"


def test_a_refused_change_leaves_no_entry(staff_client, model):
    save(staff_client, model, title="x" * 10_000)
    assert not AuditEntry.objects.filter(action="gatewaymodel.changed").exists()
    model.refresh_from_db()
    assert model.title == "Small"
