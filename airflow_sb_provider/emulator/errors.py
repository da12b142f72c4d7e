"""The Platform's errors: documented codes with their HTTP status and message."""

from __future__ import annotations

from typing import Any

CODES: dict[int, tuple[int, str]] = {
    0: (503, "The Platform is currently under maintenance."),
    1000: (429, "Rate limit exceeded! Check response headers."),
    3001: (403, "Not enough privileges to access the requested project/member."),
    3002: (404, "Requested project or member does not exist."),
    3006: (400, "Project id must not be null or an empty string."),
    3012: (400, "Malformed project id. Expecting `owner/project`"),
    5001: (403, "Insufficient privileges to access the requested file."),
    5002: (404, "Requested file does not exist."),
    5005: (400, "Malformed project query parameter, expecting ?project=owner/project."),
    5017: (400, "Downloading folders is not supported."),
    5022: (400, "The parent is not a folder."),
    5029: (400, "A parent or a project must be given."),
    5031: (400, "Parent and project cannot both be given."),
    5034: (409, "Downloading files from an inactive volume is not supported."),
    6001: (403, "Insufficient privileges to access the requested app/revision."),
    6002: (404, "Requested app/revision does not exist."),
    6011: (400, "Malformed app id. Expecting `owner/project/app_name/revision`."),
    7001: (403, "Insufficient privileges to access the requested task."),
    7002: (404, "Requested task does not exist."),
    7005: (400, "Task ID must be a valid UUID."),
    7006: (
        400,
        "Invalid task status. Allowed values: [`QUEUED`, `DRAFT`, `RUNNING`, `COMPLETED`, `ABORTED`, `ABORTING`, "
        "`FAILED`]",
    ),
    7007: (403, "This action is only available for `DRAFT` tasks."),
    7008: (403, "This action is only available for `RUNNING` tasks."),
    7010: (400, "Invalid task action. Action can be performed on `DRAFT` tasks."),
    7011: (
        400,
        "Invalid task action. Action can be performed on tasks in the states: `CREATING`, `RUNNING` or `QUEUED`.",
    ),
    7012: (400, "Missing inputs."),
    7013: (400, "Invalid task action."),
    7015: (400, "App Id must not be null or an empty string."),
    7018: (400, "Batch input property should reference input identifier or omitted. Empty value is not allowed."),
    7019: (400, "Missing batch criteria."),
    7020: (400, "Invalid batch type supplied. Allowed values: `[criteria, item]`."),
    7021: (400, "Batching can only be disabled if the task is submitted for execution."),
    7022: (400, "Disabling batching action is only available for `BATCH` tasks."),
    7023: (400, "Missing `batch_by` or `batch_input` fields. These fields must be included together."),
    7024: (400, "Task can not be started due to validation errors."),
    7026: (
        403,
        "Editing is available only for tasks which are in `DRAFT` status. Tasks which are in `RUNNING` and `COMPLETED` "
        "states can only be renamed.",
    ),
    9000: (503, "There was an error communicating with the service."),
    9001: (403, "Could not obtain read access on the service."),
    9002: (403, "Could not obtain cross-write access on the service."),
    9003: (403, "Insufficient privileges to access the requested project."),
    9004: (403, "Insufficient privileges to access the requested file."),
    9005: (403, "Insufficient privileges to access the requested job."),
    9006: (403, "Requested file cannot be exported. Check the documentation."),
    9007: (404, "Requested volume does not exist."),
    9008: (404, "Requested job does not exist."),
    9009: (404, "Requested file does not exist."),
    9011: (400, "Invalid request syntax. Check the documentation."),
    9020: (403, "Insufficient privileges to access the requested volume."),
    9022: (400, "Invalid canned ACL (`aws_canned_acl`) selected. Check the documentation."),
    9023: (400, "Invalid server-side encryption (`sse_algorithm`) selected. Check the documentation."),
    9024: (400, "Invalid S3 storage class (`aws_storage_class`) selected. Check the documentation."),
    9026: (403, "The volume is not configured for writing access (`access mode` is not set to `RW`)."),
    9027: (403, "Exporting files across different cloud services is not yet supported."),
    9038: (403, "This environment only supports RO buckets of type 'OSS'"),
    9039: (403, "This environment only supports RO buckets of type 'Azure'"),
    9057: (403, "This environment only supports `RO` buckets of type `GCS`."),
    9058: (403, "This environment only supports `RO` buckets of type `S3`."),
    9069: (409, "Volume inactive"),
    9072: (400, "File path ending with slash is not valid."),
    9100: (503, "There was an error communicating with the service."),
    9101: (403, "The volume is not configured for writing (`access mode` is not set to `RW`)."),
    9102: (403, "Insufficient privileges to access the requested project"),
    9103: (403, "Insufficient privileges to access the requested item. See the documentation."),
    9104: (404, "Requested volume does not exist."),
    9105: (404, "Item not found on the volume."),
    9106: (404, "Requested file does not exist."),
    9107: (409, "Location on volume already contains a file."),
    9108: (409, "Requested file already exists."),
    9109: (404, "Requested file does not exist or not accessible."),
    9200: (404, "bucket does not exist (check the bucket name)"),
    9201: (403, "Provided access key is not valid."),
    9202: (403, "Provided secret key is not valid."),
    9203: (403, "IAM role not valid or not properly configured"),
    9206: (403, "IAM user/role lacks PUT (`s3:PutObject`, `s3:PutObjectAcl`)"),
    9208: (403, "IAM user/role lacks `s3:GetObject` on the Seven Bridges bucket"),
    90000: (400, "Bad request."),
    90001: (401, "Unauthorized."),
    90002: (403, "Forbidden."),
    90003: (404, "Not found."),
    90004: (503, "Unexpected error occurred."),
    90005: (503, "Service unavailable."),
    90008: (415, "Unsupported Media Type."),
    90009: (500, "An error occurred during the decoding of the request content."),
}
CODE_IN_JOB = {9026: 9101, 9020: 9103, 9007: 9104, 9009: 9106, 9000: 9100}
"""The codes that differ in a failed job, by the code with which a submission is rejected for the same reason."""


class ApiError(Exception):
    """A request or a job is rejected.

    :param code: the Platform's error code.
    :param message: the message; by default the documented one.
    :param status: the HTTP status; by default the documented one.
    """

    def __init__(self, code: int, message: str | None = None, status: int | None = None) -> None:
        documented_status, documented_message = CODES.get(code, (400, "Bad request."))
        self.code = code
        self.status = status or documented_status
        self.message = message or documented_message
        super().__init__(f"{self.status}/{code} {self.message}")

    def as_json(self, code_type: str = "int") -> dict[str, Any]:
        """Return the standard error object; with `code_type` "str" both numbers are text."""
        number = str if code_type == "str" else int
        return {
            "status": number(self.status),
            "code": number(self.code),
            "message": self.message,
            "more_info": f"http://docs.sevenbridges.com/docs/api-status-codes#{self.code}",
        }


def error_in_job(error: ApiError) -> ApiError:
    """Return the error with the code that a failed job reports."""
    code = CODE_IN_JOB.get(error.code)
    return error if code is None else ApiError(code)
