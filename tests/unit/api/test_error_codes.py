from __future__ import annotations

import pytest

from airflow_sb_provider.api.error_codes import advice_for
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesAuthError

# Codes of rejected submissions, of failed jobs, of the bucket, of the cloud, and of any request.
AT_SUBMISSION = [9003, 9004, 9005, 9006, 9007, 9008, 9009, 9011, 9020, 9022, 9023, 9024, 9026, 9027, 9069, 9072]
IN_THE_JOB = [9100, 9101, 9102, 9103, 9104, 9105, 9106, 9107]
OF_THE_BUCKET = [9001, 9002, *range(9200, 9210)]
OF_THE_CLOUD = [9038, 9039, 9057, 9058]
GENERAL = [0, 1000, 9000, 90000, 90001, 90002, 90003, 90004, 90005, 90007, 90008, 90009, 3001, 3002, 5001, 5002]


@pytest.mark.parametrize("code", AT_SUBMISSION + IN_THE_JOB + OF_THE_BUCKET + OF_THE_CLOUD + GENERAL)
def test_each_code_of_an_export_has_one_sentence_of_advice(code):
    advice = advice_for(code)
    assert advice
    assert advice[0].isupper()
    assert advice.endswith(".")
    assert ". " not in advice
    assert str(SevenBridgesApiError(400, code, "Refused.")) == f"Refused. {advice} (code {code}, HTTP 400)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "maintenance"),
        (1000, "1000 requests in 5 minutes"),
        (9005, "user who started"),
        (9006, "alias"),
        (9007, "owner/name"),
        (9009, "file id"),
        (9023, "aws:kms"),
        (9026, "RW"),
        (9027, "same cloud"),
        (9069, "activate"),
        (9072, "slash"),
        (9101, "RW"),
        (9107, "overwrite"),
        (9200, "bucket"),
        (9201, "access key"),
        (9202, "secret key"),
        (9203, "trust policy"),
        (9204, "s3:ListBucket"),
        (9205, "s3:GetObject on the bucket"),
        (9206, "s3:PutObject and s3:PutObjectAcl"),
        (9207, "s3:GetObjectAcl"),
        (9208, "s3:GetObject on the Seven Bridges bucket"),
        (90001, "Check the token and the environment"),
    ],
)
def test_the_advice_fits_the_code(code, words):
    assert words in advice_for(code)


@pytest.mark.parametrize("code", [None, 1, 90001])
def test_every_401_says_to_check_the_token_and_the_environment(code):
    assert "Unauthorized. Check the token and the environment" in str(SevenBridgesAuthError(401, code, "Unauthorized."))


@pytest.mark.parametrize("code", [None, 1, 4001, 7012, -1, 10**30])
def test_other_codes_have_no_advice(code):
    assert advice_for(code) is None
    assert "None" not in str(SevenBridgesApiError(400, code, "Refused."))
