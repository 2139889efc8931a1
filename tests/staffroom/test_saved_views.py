import pytest

from tesslate.staffroom.models import SavedView

EVENTS = "/admin/plans/stripeevent/"
SAVE = "/admin/saved-views/plans.stripeevent/save"


def test_filters_are_kept_under_a_name_without_the_page(staff_client, staff, db):
    data = {"name": "Dead ones", "query": "state__exact=dead&p=3"}
    response = staff_client.post(SAVE, data)
    assert response["Location"] == f"{EVENTS}?state__exact=dead"
    page = staff_client.get(response["Location"]).text
    assert f'href="{EVENTS}?state__exact=dead" aria-current="true">Dead ones' in page


def test_the_same_name_again_replaces_it(staff_client, db):
    staff_client.post(SAVE, {"name": "Mine", "query": "state__exact=dead"})
    staff_client.post(SAVE, {"name": "Mine", "query": "state__exact=pending"})
    assert SavedView.objects.get().query == "state__exact=pending"


@pytest.mark.parametrize(
    "data",
    [
        {"name": "", "query": "state__exact=dead"},
        {"name": "x" * 10_000, "query": "state__exact=dead"},
        {"name": "x", "query": ""},
        {"name": "x", "query": "q=" + "x" * 10_000},
    ],
)
def test_nonsense_is_told_and_not_kept(staff_client, db, data):
    assert staff_client.post(SAVE, data).status_code == 302
    assert not SavedView.objects.exists()


def test_no_list_no_view(staff_client, free_plan):
    for label in ("nonsense", "plans.nothing", "javascript:alert(1)"):
        staff_client.post(f"/admin/saved-views/{label}/save", {"name": "x", "query": "a=1"})
    assert not SavedView.objects.exists()


def test_others_see_what_is_shared_and_remove_nothing(staff_client, staff, colleague):
    staff_client.post(SAVE, {"name": "Own one", "query": "state__exact=dead"})
    staff_client.post(SAVE, {"name": "Team one", "query": "state__exact=pending", "shared": "1"})
    billing = colleague("billing")
    page = billing.get(EVENTS).text
    assert "Team one" in page
    assert "Own one" not in page
    shared = SavedView.objects.get(name="Team one")
    assert billing.post(f"/admin/saved-views/{shared.pk}/remove").status_code == 404
    staff_client.post(f"/admin/saved-views/{shared.pk}/remove")
    assert not SavedView.objects.filter(name="Team one").exists()


def test_names_are_text(staff_client, db):
    staff_client.post(SAVE, {"name": "<script>alert(1)</script>", "query": "state__exact=dead"})
    assert "<script>alert(1)" not in staff_client.get(EVENTS).text


def test_who_may_not_see_the_list_keeps_no_view_of_it(colleague, db):
    assert colleague("support").post(SAVE, {"name": "x", "query": "a=1"}).status_code == 403
