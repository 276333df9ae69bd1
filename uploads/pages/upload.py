from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from audiotricks.errors import DomainError
from audiotricks.web.streaming import streams
from audiotricks.web.users import sign_in_required, user_of
from quotas.models import Workspace
from quotas.rights import Right
from quotas.workspaces import personal_workspace
from uploads.intake.http.incoming import incoming_file
from uploads.intake.ingest import ingest_audio
from uploads.pages.forms import UploadForm


# The form checks the token as soon as it is read; Django's check would read the whole body first.
@streams
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def upload(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    problem: DomainError | None = None
    chosen = personal_workspace(user)
    if request.method == "POST":
        try:
            incoming = incoming_file(request, user, by_session=True)
            chosen = incoming.workspace
            stored = ingest_audio(incoming.body, workspace=chosen, owner=user, door="form")
            return redirect("file", pk=stored.pk)
        except DomainError as error:
            problem = error
    form = UploadForm(workspaces=offered_to(user, chosen), initial={"workspace": chosen.slug})
    return render(
        request, "uploads/upload.html", {"form": form, "problem": problem}, status=problem.status if problem else 200
    )


def offered_to(user: User, chosen: Workspace) -> list[Workspace]:
    """Without the many that a permission opens."""
    offered = set(Workspace.objects.where(user, Right.ADD_FILES).filter(memberships__user=user)) | {chosen}
    return sorted(offered, key=lambda workspace: (workspace.personal_of_id != user.pk, workspace.name))
