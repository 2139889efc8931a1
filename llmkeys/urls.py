from django.urls import path

from llmkeys import views
from llmkeys.budget_views import BudgetView

urlpatterns = [
    path("api/keys", views.KeysView.as_view(), name="keys"),
    path("api/keys/rotate", views.RotateView.as_view(), name="keys-rotate"),
    path("api/budget", BudgetView.as_view(), name="budget"),
    path("admin/keys", views.StaffKeysView.as_view(), name="staff-keys"),
]
