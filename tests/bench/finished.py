"""The check of HttpEventTrigger's responses; small, because the trigger imports it again at every poll."""

import requests


async def finished(response: requests.Response) -> bool:
    return bool(response.json()["state"] == "COMPLETED")
