from django.urls import path

from chatproxy.usage_views import (
    OrganizationUsageView,
    ReceiptView,
    UsageView,
    UserUsageView,
)
from chatproxy.views import ChatCompletionsView, ChatView, ModelsView, ModelView

urlpatterns = [
    # tesslate.asgi answers these ahead of Django, by the same steps.
    path("api/proxy/chat", ChatView.as_view(), name="chat"),
    path("api/proxy/v1/chat/completions", ChatCompletionsView.as_view(), name="chat-completions"),
    path("api/proxy/v1/models", ModelsView.as_view(), name="chat-models"),
    path("api/proxy/v1/models/<path:model_id>", ModelView.as_view(), name="chat-model"),
    path("api/usage", UsageView.as_view(), name="usage"),
    path("api/usage/requests/<str:request_id>", ReceiptView.as_view(), name="receipt"),
    path(
        "api/organizations/<int:organization_id>/usage",
        OrganizationUsageView.as_view(),
        name="organization-usage",
    ),
    path("usage/<int:user_id>", UserUsageView.as_view(), name="user-usage"),
]
