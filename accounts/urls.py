from django.urls import path

from accounts.views import SessionView

urlpatterns = [
    path("api/auth/session", SessionView.as_view(), name="session"),
]
