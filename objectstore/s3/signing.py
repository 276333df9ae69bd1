from typing import Literal

from ..capabilities import Signer
from ..names import check_name
from .errors import s3_errors
from .requests import Bucket


class S3Signer(Signer):
    """``bucket`` has the endpoint for clients."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def sign(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str:
        check_name(name)
        parameters = {"Bucket": self._bucket.name, "Key": self._bucket.key(name)}
        if method == "PUT":
            operation, headers = "put_object", {"ContentType": content_type}
        else:
            operation = "get_object"
            headers = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        parameters.update({key: value for key, value in headers.items() if value})
        with s3_errors(operation, name):
            return str(self._bucket.client.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds))
