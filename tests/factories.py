"""What tests need to stand on: users, workspaces, tokens and API clients, each in one place."""

from contextlib import suppress

import factory
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from rest_framework.test import APIClient

from accounts.groups import AUDITORS, OPERATORS, make_groups
from objectstore.errors import PermanentStorageError
from quotas.models import Membership, StorageQuota, Workspace
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.ledger import owning


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda number: f"user{number}")
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.com")
    password = factory.django.Password("correct horse battery")


class WorkspaceFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Workspace

    name = factory.Sequence(lambda number: f"Workspace {number}")
    slug = factory.Sequence(lambda number: f"workspace-{number}")


class MembershipFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Membership

    user = factory.SubFactory(UserFactory)
    workspace = factory.SubFactory(WorkspaceFactory)
    role = Membership.Role.OWNER


class StorageQuotaFactory(factory.django.DjangoModelFactory):
    """Unlimited, unless a test says otherwise."""

    class Meta:
        model = StorageQuota

    workspace = factory.SubFactory(WorkspaceFactory)


def member_of(workspace: Workspace, role: str = Membership.Role.OWNER, **user_fields: object) -> object:
    return MembershipFactory(workspace=workspace, role=role, user=UserFactory(**user_fields)).user


def permitted(*permissions: str, **user_fields: object) -> object:
    """Somebody with these permissions (``app.codename``), no staff unless the fields say so."""
    user = UserFactory(**user_fields)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    # Permissions are kept with the object that was asked before.
    return get_user_model().objects.get(pk=user.pk)


def operator(**user_fields: object) -> object:
    """Staff with every permission that the group of operators gives."""
    user = UserFactory(is_staff=True, **user_fields)
    user.groups.add(*(group for group in make_groups() if group.name == OPERATORS))
    return get_user_model().objects.get(pk=user.pk)


def auditor(**user_fields: object) -> object:
    user = UserFactory(is_staff=True, **user_fields)
    user.groups.add(*(group for group in make_groups() if group.name == AUDITORS))
    return get_user_model().objects.get(pk=user.pk)


def client_for(user: object) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def give_object(upload: AudioUpload) -> None:
    """Make the ledger's row of the object that an unsaved row names."""
    state = StoredObject.State.WRITING if upload.status == Status.RECEIVING else StoredObject.State.STORED
    upload.stored_object, _ = StoredObject.objects.get_or_create(
        storage_provider=upload.storage_provider,
        storage_path=upload.storage_path,
        defaults={
            "kind": StoredObject.Kind.AUDIO,
            "state": state,
            "size_bytes": upload.file_size,
            "checksum_sha256": upload.checksum_sha256,
            "checksum_md5": upload.checksum_md5,
            "storage_class": upload.storage_class,
        },
    )
    # The address of an object in a storage that is not configured cannot be told.
    with suppress(PermanentStorageError):
        for column, value in owning(AudioUpload, "stored_object", upload.stored_object).items():
            if not getattr(upload, column):
                setattr(upload, column, value)
