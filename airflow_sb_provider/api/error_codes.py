"""What to do about each documented error code that can occur in an export.

Codes: the Platform's page "API status codes". 90xx reject a submission, 91xx are the errors of failed jobs.
"""

from __future__ import annotations

_VOLUME_WRITE = "The volume's owner must set its access mode to RW and give you the write permission."
_VOLUME_GONE = "Check the volume's id (owner/name) and that it is shared with the token's user."
_FILE_GONE = "Check the file id and that the token's user is a member of the file's project."
_FILE_RIGHTS = "A project admin must give you the copy permission on the file's project."
_BUCKET = "The volume's credentials are not sufficient; its owner must correct them in the cloud account."
_READ_ONLY_CLOUD = "This environment only reads from that cloud; export to a volume on another cloud."
_POLICY = "The volume's owner must allow its IAM user or role"
_SERVICE = "The Platform could not reach the cloud storage; retry later."

UNAUTHORIZED = 90001

# "Item not found on the volume" and similar. A 404 without a code comes from a router that does not know the path.
NO_SUCH_OBJECT = (9105, 9106, 9109)

ADVICE: dict[int, str] = {
    0: "Wait until the maintenance ends.",
    1000: "The limit is 1000 requests in 5 minutes; let fewer tasks run at a time.",
    3001: _FILE_RIGHTS,
    3002: "Check the project's id and that the token's user is a member.",
    5001: _FILE_RIGHTS,
    5002: _FILE_GONE,
    9000: _SERVICE,
    9001: _BUCKET,
    9002: _BUCKET,
    9003: _FILE_RIGHTS,
    9004: _FILE_RIGHTS,
    9005: "Jobs are visible only to the user who started them; use that user's token.",
    9006: "The file is an alias (perhaps already exported), a public or an archived file; "
    "only files that the Platform stores can be exported.",
    9007: _VOLUME_GONE,
    9008: "Check the export id and that the token belongs to the user who started the job.",
    9009: _FILE_GONE,
    9011: "The request is not valid in this environment; compare its fields with the API reference.",
    9020: "The volume's owner must share it with the token's user, with the write permission.",
    9022: "Use an S3 canned ACL that this environment accepts, or leave aws_canned_acl out.",
    9023: "Use AES256, aws:kms or null as sse_algorithm.",
    9024: "Use a storage class that this environment accepts, such as STANDARD, or leave aws_storage_class out.",
    9026: _VOLUME_WRITE,
    9027: "Export to a volume in the same cloud and region as the file's project.",
    9028: "The volume's configuration is invalid; its owner must correct it.",
    9038: _READ_ONLY_CLOUD,
    9039: _READ_ONLY_CLOUD,
    9057: _READ_ONLY_CLOUD,
    9058: _READ_ONLY_CLOUD,
    9069: "The volume's owner must activate it.",
    9072: "Give the object's whole key as location, without a slash at its end.",
    9100: _SERVICE,
    9101: _VOLUME_WRITE,
    9102: _FILE_RIGHTS,
    9103: "The volume's owner must give its credentials write access to that location.",
    9104: _VOLUME_GONE,
    9105: "The object is not on the volume; check the location and the volume's prefix.",
    9106: _FILE_GONE,
    9107: "Choose another location, or first check that no file is an alias of the object and then set overwrite.",
    9108: "Choose another location.",
    9109: _FILE_GONE,
    9200: "The volume's bucket does not exist; its owner must correct the volume.",
    9201: "The volume's access key is not valid; its owner must replace it.",
    9202: "The volume's secret key is not valid; its owner must replace it.",
    9203: "The volume's IAM role is not valid; its owner must correct the role and its trust policy.",
    9204: f"{_POLICY} s3:ListBucket on the bucket.",
    9205: f"{_POLICY} s3:GetObject on the bucket's objects.",
    9206: f"{_POLICY} s3:PutObject and s3:PutObjectAcl on the bucket's objects.",
    9207: f"{_POLICY} s3:GetObjectAcl on the bucket's objects.",
    9208: f"{_POLICY} s3:GetObject on the Seven Bridges bucket.",
    9209: "Use a bucket in a region that the environment writes to.",
    90000: "The request is not valid in this environment; compare its fields with the API reference.",
    90001: "Check the token and the environment: the connection's password must be a valid token from the developer "
    "page of the Platform that its host or environment names.",
    90002: "Check the permissions of the token's user on the project and the volume.",
    90003: "Check the ids, and that the connection's host or environment names the Platform that holds them.",
    90004: "The Platform had an internal error; retry later.",
    90005: "The Platform is not available; retry later.",
    90007: "Another request changed the same resource at the same time; check it, then retry.",
    90008: "The Platform did not accept the content type; a proxy may have changed the request.",
    90009: "The Platform could not read the request; a proxy may have changed it.",
}


def advice_for(code: int | None) -> str | None:
    """Return one sentence on what to do about a code; None for a code that cannot occur."""
    return None if code is None else ADVICE.get(code)
