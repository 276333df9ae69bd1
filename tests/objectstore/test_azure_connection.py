"""Ways to name an Azure account other than by its name and key."""

from datetime import UTC, datetime, timedelta

import pytest
import requests
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
from django.core.files.base import ContentFile

from objectstore.azure import AzureStorage
from objectstore.errors import DirectUploadUnsupported
from tests.object_servers import ObjectServer

NAME = "audio/0b7f/audio.mp3"
OTHER = "audio/0b7f/other.mp3"
CONTENT = bytes(range(256)) * 1000


class TestConnectionStrings:
    """What people have: Azure shows a connection string beside each key."""

    def test_it_names_account_key_and_address(self, azure_server: ObjectServer) -> None:
        options = azure_server.options
        text = (
            f"DefaultEndpointsProtocol=http;AccountName={options['account_name']};"
            f"AccountKey={options['account_key']};BlobEndpoint={options['endpoint_url']};"
        )
        storage = AzureStorage(
            azure_container=azure_server.empty_bucket(), connection_string=text, api_version=options["api_version"]
        )
        storage.save(NAME, ContentFile(CONTENT))
        url = storage.signer.sign(NAME, seconds=60)
        assert url is not None
        assert requests.get(url, timeout=30).content == CONTENT
        assert storage.location_of(NAME).startswith(options["endpoint_url"])

    @pytest.mark.parametrize("in_a_string", [True, False])
    def test_a_shared_access_signature_reads_and_writes_and_signs_nothing(
        self, azure_server: ObjectServer, in_a_string: bool
    ) -> None:
        options = azure_server.options
        signature = generate_account_sas(
            options["account_name"],
            options["account_key"],
            ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        common = {"azure_container": azure_server.empty_bucket(), "api_version": options["api_version"]}
        if in_a_string:
            text = f"BlobEndpoint={options['endpoint_url']};SharedAccessSignature={signature}"
            storage = AzureStorage(connection_string=text, **common)
        else:
            storage = AzureStorage(
                account_name=options["account_name"],
                endpoint_url=options["endpoint_url"],
                sas_token=signature,
                **common,
            )
        storage.save(NAME, ContentFile(CONTENT))
        storage.copy(NAME, OTHER)
        with storage.open_range(OTHER) as file:
            assert file.read() == CONTENT
        assert storage.signer is None
        with pytest.raises(DirectUploadUnsupported):
            storage.direct.begin("audio/0b7f/x.mp3", size_bytes=1, content_type="", metadata=dict, seconds=60)
        assert "sig=" not in storage.location_of(NAME)
