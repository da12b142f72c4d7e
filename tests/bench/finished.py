"""What HttpEventTrigger asks of an answer; small, because the trigger imports it again at every poll."""


async def finished(response):
    return response.json()["state"] == "COMPLETED"
