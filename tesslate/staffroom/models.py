"""What staff write down, keep and ask for; and the ledger by the hour."""

from django.db import models
from django.utils import timezone

from accounts.models import User


class CustomerNote(models.Model):
    """What one member of staff wants the next one to know about a customer. Never edited."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="notes")
    author = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    text = models.TextField(max_length=5000)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.user}, {self.created_at:%Y-%m-%d}"


class HourlyTraffic(models.Model):
    """The ledger by hour, model and plan: what the front page adds up instead of the ledger.

    Written by tesslate.staffroom.traffic alone, which counts the last hours anew each time:
    rows of the ledger may arrive late.
    """

    hour = models.DateTimeField()
    model = models.CharField(max_length=200)
    plan_code = models.CharField(max_length=50)
    requests = models.PositiveIntegerField()
    # Failed or broken off; refusals are no errors.
    errors = models.PositiveIntegerField()
    refused = models.PositiveIntegerField()
    abandoned = models.PositiveIntegerField()
    prompt_tokens = models.PositiveBigIntegerField()
    completion_tokens = models.PositiveBigIntegerField()
    cost = models.DecimalField(max_digits=18, decimal_places=10)
    # Milliseconds to the first byte; null while nothing was answered.
    ttfb_p50_ms = models.PositiveIntegerField(null=True)
    ttfb_p95_ms = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hour", "model", "plan_code"], name="traffic_once"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.model} {self.plan_code}"


class SavedView(models.Model):
    """A list of the admin with its filters, under a name: one's own, or everybody's."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_views")
    # The list's model, as "plans.stripeevent", and what its address has after the question mark.
    model = models.CharField(max_length=100)
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=2000)
    is_shared = models.BooleanField("shared", default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "model", "name"], name="saved_view_name_once"),
        ]

    def __str__(self) -> str:
        return self.name


class Job(models.Model):
    """Work on many rows that a member of staff asked for, done in the background.

    Written by tesslate.staffroom.jobs alone. What an action touches is fixed when it is confirmed;
    an export reads the list as it is when it runs.
    """

    class Kind(models.TextChoices):
        ACTION = "action", "Action"
        EXPORT = "export", "Export"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    kind = models.CharField(max_length=10, choices=Kind)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    requested_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="jobs")
    # The list's model, as "plans.stripeevent"; the action's name; what people call it.
    model = models.CharField(max_length=100)
    action = models.CharField(max_length=100, blank=True)
    title = models.CharField(max_length=200)
    # What was filled in when it was confirmed (a reason), and the list's filters.
    data = models.JSONField(default=dict)
    query = models.TextField(blank=True)
    # Primary keys, as text. Null where the filters alone say which rows.
    targets = models.JSONField(null=True)
    total = models.PositiveIntegerField()
    done = models.PositiveIntegerField(default=0)
    # The primary key up to which an export has come.
    cursor = models.CharField(max_length=100, blank=True)
    # What the action told, each text once: {"level", "text", "times"}.
    messages = models.JSONField(default=list)
    error = models.CharField(max_length=300, blank=True)
    # The form that asked for it: sent twice, it still is one job.
    submission = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    # A worker has it until then; one that died leaves it to the next.
    claimed_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["id"],
                condition=models.Q(state__in=["waiting", "running"]),
                name="job_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_over(self) -> bool:
        return self.state not in {self.State.WAITING, self.State.RUNNING}

    @property
    def percent(self) -> int:
        return min(100, 100 * self.done // self.total) if self.total else 100


class JobOutput(models.Model):
    """A piece of an export's file. Removed some days after the job ended."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="output")
    number = models.PositiveIntegerField()
    text = models.TextField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="job_output_once"),
        ]

    def __str__(self) -> str:
        return f"{self.job} {self.number}"
